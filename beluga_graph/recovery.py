"""Recovery: every unfinished run that nobody owns goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import overload

from beluga_graph.admission import Admission
from beluga_graph.disk import Head
from beluga_graph.errors import BelugaError
from beluga_graph.live import Live
from beluga_graph.plan import Plan
from beluga_graph.run import Run
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


async def recovered(runs: Admission, plan_of: Callable[[Head], Plan], handle: Callable[[Live], Run]) -> Recovery:
    """Go on with every unfinished run that nobody owns; tell what could not be taken up, and why."""
    found: list[Run] = []
    skipped: dict[str, Exception] = {}
    for key, _ in list(runs.store.scan(b"A")):
        head_key = b"H" + key[1:]
        blob = runs.store.get(head_key)
        if blob is None:
            continue
        try:
            head = Head.read(head_key, blob)
        except BelugaError as error:  # its id is in what cannot be read
            skipped[key[1:].hex()] = error
            continue
        try:
            found.append(handle(await runs.resume(head.run_id, plan_of(head))))
        except (BelugaError, StoreError) as error:
            skipped[head.run_id] = error
    return Recovery(tuple(found), skipped)
