"""Operations: the primitive changes that a patch consists of.

An operation is a plain tuple: its kind, then the operands that `OPERANDS` lists, in that order. Read it by unpacking:
`_, scope, branch, value, succeeded = op`. A run makes millions of operations, and a named tuple would take nine times
as long to create.

Operations are stored. The text of a kind and the order of its operands therefore never change; a new kind needs an
entry here, a function in `snapshot` that applies it, and a form in `storage.step_forms`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from beluga_graph.kernel.types import Op

__all__ = [
    "ADD_LISTENER",
    "ADD_USAGE",
    "ADD_WAIT",
    "APPEND_ITEMS",
    "ARM_TIMER",
    "BEGIN_BRANCH",
    "CLEAR_QUEUE",
    "CLOSE_SCOPE",
    "COUNT_INTERRUPTION",
    "COUNT_STEP",
    "DISARM_TIMER",
    "END_BRANCH",
    "OPEN_SCOPE",
    "OPERANDS",
    "PUT_TOKEN",
    "RECEIVE_ANSWER",
    "RECEIVE_PAYLOAD",
    "REMOVE_LISTENER",
    "REMOVE_TOKEN",
    "REMOVE_WAIT",
    "RENAME_NODES",
    "SET_CONSUMED",
    "SET_ERROR",
    "SET_FIELD",
    "SET_LIMIT",
    "SET_OUTPUT",
    "SET_PLAN",
    "SET_REASON",
    "SET_STATE",
    "SET_STATUS",
    "SET_TIME",
    "clears_error",
    "token_name",
]

# Tokens.
PUT_TOKEN: Final = "token"  # noqa: S105 - not a password
REMOVE_TOKEN: Final = "drop"  # noqa: S105
SET_STATE: Final = "state"
RECEIVE_PAYLOAD: Final = "receive"
RECEIVE_ANSWER: Final = "answer"
COUNT_INTERRUPTION: Final = "interrupt"
SET_TIME: Final = "time"

# Scopes.
OPEN_SCOPE: Final = "open"
BEGIN_BRANCH: Final = "branch"
END_BRANCH: Final = "arrive"
CLEAR_QUEUE: Final = "unqueue"
CLOSE_SCOPE: Final = "close"

# State.
SET_FIELD: Final = "set"
APPEND_ITEMS: Final = "append"

# Timers and signals.
ARM_TIMER: Final = "timer"
DISARM_TIMER: Final = "untimer"
ADD_WAIT: Final = "wait"
REMOVE_WAIT: Final = "unwait"
ADD_LISTENER: Final = "listen"
REMOVE_LISTENER: Final = "unlisten"
SET_CONSUMED: Final = "inbox"

# The run itself.
SET_STATUS: Final = "status"
SET_OUTPUT: Final = "output"
SET_ERROR: Final = "error"
SET_PLAN: Final = "plan"
RENAME_NODES: Final = "rename"
COUNT_STEP: Final = "finish"
ADD_USAGE: Final = "usage"
SET_REASON: Final = "reason"
SET_LIMIT: Final = "limit"

OPERANDS: Final[Mapping[str, tuple[str, ...]]] = {
    PUT_TOKEN: ("place", "node", "local", "visit", "value", "state", "attempts_since_armed"),
    REMOVE_TOKEN: ("token",),
    SET_STATE: ("token", "state", "attempt", "attempts_since_armed"),
    RECEIVE_PAYLOAD: ("token", "value"),
    RECEIVE_ANSWER: ("token", "value"),
    COUNT_INTERRUPTION: ("token", "total"),  # without a total: one more
    SET_TIME: ("token", "kind", "ms"),
    OPEN_SCOPE: ("place", "node", "local", "visit", "is_frame", "width", "value", "attempt", "queue"),
    BEGIN_BRANCH: ("scope", "branch"),
    END_BRANCH: ("scope", "branch", "value", "succeeded"),
    CLEAR_QUEUE: ("scope",),
    CLOSE_SCOPE: ("scope",),
    SET_FIELD: ("place", "field", "value"),
    APPEND_ITEMS: ("place", "field", "count"),
    ARM_TIMER: ("timer", "due"),
    DISARM_TIMER: ("timer",),
    ADD_WAIT: ("signal", "token"),
    REMOVE_WAIT: ("signal", "token"),
    ADD_LISTENER: ("signal", "name"),
    REMOVE_LISTENER: ("signal", "name"),
    SET_CONSUMED: ("signal", "count"),
    SET_STATUS: ("status",),
    SET_OUTPUT: ("value",),
    SET_ERROR: ("value",),  # None: the failed run goes on
    SET_PLAN: ("fingerprint",),
    RENAME_NODES: ("tokens", "scopes", "visits"),
    COUNT_STEP: (),
    ADD_USAGE: ("name", "amount"),
    SET_REASON: ("reason",),
    SET_LIMIT: ("name", "limit"),
}
"""The operands of each kind. A `value` is an index into the values of the patch.

`queue` holds (branch, target, value) per queued branch. `RENAME_NODES` has (name, node) per token and per scope, and
(place, local, count) per visit counter.
"""


def token_name(op: Op) -> str:
    """Return the structural name that `PUT_TOKEN` gives a token, or that `OPEN_SCOPE` gives a scope."""
    return f"{op[1]}{op[3]}#{op[4]}"


def clears_error(op: Op) -> bool:
    """Return whether an operation lets a failed run go on."""
    return op[0] == SET_ERROR and op[1] is None
