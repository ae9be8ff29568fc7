"""When tokens came into the state that they are in, and the errors that retries follow: from the steps of a run."""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple

from beluga_graph.kernel.ops import (
    COUNT_INTERRUPTION,
    PUT_TOKEN,
    RECEIVE_ANSWER,
    RECEIVE_PAYLOAD,
    SET_STATE,
    token_name,
)
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.types import Op
from beluga_graph.storage.loading import StoredStep, read_steps_back
from beluga_graph.storage.pace import Pace
from stores.base import Store

__all__ = ["Entered", "read_entered"]

_STEPS_MAX = 10_000
_BEGIN_AGAIN = ("RunTakenOver", "TrialBegun")  # triggers after which an attempt begins again
_CHANGES_STATE = (SET_STATE, RECEIVE_PAYLOAD, RECEIVE_ANSWER)


class Entered(NamedTuple):
    """The entry of a token into its state."""

    since_ms: int
    """When the step was decided that brought the token there. An attempt begins with that step."""
    error: str
    """The error after which its attempt is tried again, if it is."""


async def read_entered(store: Store, run: Snapshot) -> dict[str, Entered]:
    """Return the entry of each token of a run, by token. Leaves out tokens whose last 10,000 steps do not have it."""
    found: dict[str, Entered] = {}
    missing = set(run.tokens)
    pace = Pace()
    for step in islice(read_steps_back(store, run.run_id, run.seq), _STEPS_MAX):
        if not missing:
            break
        errors = _errors_of(step)
        for name in _entered_by(step) & missing:
            missing.remove(name)
            found[name] = Entered(step.at_ms, errors.get(name, ""))
        if step.seq == 1:  # a fork begins with the tokens of its source
            found.update((name, Entered(step.at_ms, "")) for name in missing)
        await pace.turn()
    return found


def _entered_by(step: StoredStep) -> set[str]:
    return {name for op in step.patch.ops if (name := _name_of(op, step.trigger)) is not None}


def _name_of(op: Op, trigger: str) -> str | None:
    """Return the token whose state or attempt begins with an operation."""
    if op[0] == PUT_TOKEN:
        return token_name(op)
    if op[0] in _CHANGES_STATE or (op[0] == COUNT_INTERRUPTION and trigger in _BEGIN_AGAIN):
        name: str = op[1]
        return name
    return None


def _errors_of(step: StoredStep) -> dict[str, str]:
    """Return the errors after which attempts are tried again, by token."""
    return {
        token: str(more["message"])
        for kind, _, token, more, _ in step.patch.events
        if kind == "retry" and more is not None
    }
