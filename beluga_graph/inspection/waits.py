"""What parked runs wait for: signals, answers and timers."""

from __future__ import annotations

from dataclasses import dataclass

from beluga_graph.kernel.rules import is_answer
from beluga_graph.kernel.tokens import RETRY
from beluga_graph.storage.keys import Keys
from beluga_graph.storage.loading import rebuild
from stores.base import Store

__all__ = ["RunWaits", "read_waits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWaits:
    """Everything that a parked run waits for: the first to come continues it."""

    signals: tuple[str, ...]
    questions: tuple[str, ...]
    """Ids of the questions that people have to answer."""
    due_ms: int | None
    """Time of the first timer."""


def read_waits(store: Store, run_id: str) -> RunWaits | None:
    """Return the waits of a parked run.

    Return `None` for a run that is not parked, and for one that is parked until a retry is due: it continues
    without input. Raises `RunNotFound`, `DamagedRecord`.
    """
    if store.get(Keys(run_id).parked) is None:
        return None
    run = rebuild(store, run_id)
    if any(token.state == RETRY for token in run.tokens.values()):
        return None
    return RunWaits(
        signals=tuple(signal for signal in run.waits if not is_answer(signal)),
        questions=tuple(token for signal, tokens in run.waits.items() if is_answer(signal) for token in tokens),
        due_ms=min(run.timers.values(), default=None),
    )
