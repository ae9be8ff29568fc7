"""Recovery: every unfinished run that nobody owns goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import overload

from beluga_graph.engine.admission import Admission
from beluga_graph.engine.parking import Parking
from beluga_graph.engine.run import Run
from beluga_graph.errors import BelugaError, RunBusy
from beluga_graph.plan import Plan
from beluga_graph.storage.keys import Prefix, run_of
from beluga_graph.storage.pace import Pace
from beluga_graph.storage.records import RunRecord, decode_record
from beluga_graph.storage.run_index import is_driven_elsewhere, unfinished
from stores.base import StoreError

__all__ = ["Recovery", "recovered"]


@dataclass(frozen=True, slots=True)
class Recovery(Sequence[Run]):
    """The runs that `recover` goes on with, and what it could not take up, with the reason."""

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


async def recovered(
    runs: Admission, parking: Parking, plan_of: Callable[[RunRecord], Plan], handle: Callable[[str], Run]
) -> Recovery:
    """Go on with every unfinished run that nobody owns; tell what could not be taken up, and why."""
    found: list[Run] = []
    skipped: dict[str, Exception] = {}
    pace = Pace()
    for key in await unfinished(runs.store):
        await pace.turn()
        head_key = Prefix.RUN + run_of(key)
        blob = runs.store.get(head_key)
        if blob is None:
            continue
        try:
            head = RunRecord.decode(head_key, blob)
        except BelugaError as error:  # its id is in what cannot be read
            skipped[run_of(key).hex()] = error
            continue
        try:
            await _taken_up(runs, parking, head, plan_of(head), key)
        except (BelugaError, StoreError) as error:
            skipped[head.run_id] = error
        else:
            found.append(handle(head.run_id))
    return Recovery(tuple(found), skipped)


async def _taken_up(runs: Admission, parking: Parking, head: RunRecord, plan: Plan, key: bytes) -> None:
    """Go on with a run now, or see to it that it is woken. Raises what `resume` raises."""
    if runs.current(head.run_id) is not None:
        return
    if key[:1] == Prefix.PARKED and head.plan == plan.fingerprint:
        parked = runs.store.get(key)
        if parked is not None:
            parking.adopt(run_of(key), decode_record(key, parked))
            return
    if parking.has_room:
        await runs.resume(head.run_id, plan, revive=False)
        return
    if is_driven_elsewhere(runs.store, run_of(key), runs.owner):
        raise RunBusy(head.run_id, "another owner drives it")
    parking.adopt(run_of(key), 0)
