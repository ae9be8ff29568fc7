"""Recovery: continue every unfinished run that has no live owner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import overload

from beluga_graph.engine.run import Run
from beluga_graph.engine.waking import Waker
from beluga_graph.errors import BelugaError
from beluga_graph.plan.plan import Plan
from beluga_graph.storage.keys import Prefix, run_key_of
from beluga_graph.storage.pace import Pace
from beluga_graph.storage.records import RunRecord
from beluga_graph.storage.run_index import find_unfinished
from stores.base import Store, StoreError

__all__ = ["Recovery", "recover"]


@dataclass(frozen=True, slots=True)
class Recovery(Sequence[Run]):
    """The runs that `Engine.recover` continues, as a sequence of handles.

    Attributes:
        runs: The handles, also of parked runs, which are woken later.
        skipped: The error of each run that could not be continued, by run id.
    """

    runs: tuple[Run, ...]
    skipped: dict[str, Exception] = field(default_factory=dict)

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Run]: ...
    def __getitem__(self, index: int | slice) -> Run | Sequence[Run]:
        return self.runs[index]

    def __len__(self) -> int:
        return len(self.runs)


async def recover(
    store: Store, waker: Waker, plan_of: Callable[[RunRecord], Plan], handle_of: Callable[[str], Run]
) -> Recovery:
    """Continue every unfinished run that has no live owner. Errors are returned in `skipped`, not raised."""
    found: list[Run] = []
    skipped: dict[str, Exception] = {}
    pace = Pace()
    for key in await find_unfinished(store):
        await pace.turn()
        head_key = Prefix.RUN + run_key_of(key)
        blob = store.get(head_key)
        if blob is None:
            continue
        try:
            head = RunRecord.decode(head_key, blob)
        except BelugaError as error:  # the id is part of the damaged record
            skipped[run_key_of(key).hex()] = error
            continue
        try:
            await waker.recover_run(head, plan_of(head), key)
        except (BelugaError, StoreError) as error:
            skipped[head.run_id] = error
        else:
            found.append(handle_of(head.run_id))
    return Recovery(tuple(found), skipped)
