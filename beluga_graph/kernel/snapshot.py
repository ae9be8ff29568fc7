"""The snapshot: a whole run as data, and `apply`, the only way in which it changes.

A *place* is where one thread of control is: the run itself, one branch of a fan-out, or the inside of a
frame. It holds one token or one open scope (both while a join runs), its visit counters, and its layer of
state: absolute values where a frame owns state, one combined update per field in a branch.

Structural names: a token is `place node#visit`, a scope has the name of the token or frame that opened it,
and branch `i` of a scope is the place `scope[i]/`. The run itself is the place `""`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from beluga_graph.kernel.tokens import (
    BROKEN,
    CANCELLED,
    COMPLETED,
    FAILED,
    RETRY,
    RUN,
    RUNNING,
    SLEEP,
    WAIT,
    WAITING,
    Place,
    Scope,
    Token,
)
from beluga_graph.kernel.types import Op, Patch, Value

__all__ = [
    "BROKEN",
    "CANCELLED",
    "COMPLETED",
    "FAILED",
    "RETRY",
    "RULES",
    "RUN",
    "RUNNING",
    "SLEEP",
    "WAIT",
    "WAITING",
    "Place",
    "Scope",
    "Snapshot",
    "Token",
]

RULES = 1  # the version of `advance` that a new run is decided by


class Snapshot:
    """A run, whole. Changed by `apply` alone; everything in it is scalars, tuples, lists and dicts of them."""

    __slots__ = (
        "active",
        "context",
        "error",
        "inbox",
        "input",
        "limits",
        "output",
        "places",
        "plan",
        "reason",
        "rules",
        "run_id",
        "scopes",
        "seq",
        "session",
        "started_ms",
        "status",
        "steps",
        "timers",
        "tokens",
        "usage",
        "waits",
    )

    def __init__(
        self,
        *,
        run_id: str,
        plan: str,
        started_ms: int,
        value: Value,
        context: Value | None = None,
        limits: dict[str, int] | None = None,
        session: tuple[Any, ...] | None = None,
        rules: int = RULES,
    ) -> None:
        self.rules = rules
        self.run_id = run_id
        self.plan = plan  # the fingerprint
        self.started_ms = started_ms
        self.input = value
        self.context = context
        self.limits = limits or {}  # what this run overrides of the graph's limits
        self.session = session  # the conversation that this run goes on with, as plain data
        self.seq = 0
        self.steps = 0  # finished nodes
        self.status = RUNNING
        self.active = 0  # tokens that run
        self.output: Value | None = None
        self.error: Value | None = None
        self.tokens: dict[str, Token] = {}
        self.scopes: dict[str, Scope] = {}
        self.places: dict[str, Place] = {"": Place(None, 0)}
        self.timers: dict[str, int] = {}
        self.inbox: dict[str, int] = {}  # per signal name: how many were consumed
        self.waits: dict[str, list[str]] = {}  # per signal name: the waiting tokens, oldest first
        self.usage: dict[str, int] = {}
        self.reason = ""  # why the last loop ended

    @property
    def ended(self) -> bool:
        """Whether nothing can change the run any more."""
        return self.status in (COMPLETED, CANCELLED)

    def apply(self, patch: Patch) -> None:
        """Make every change of `patch`, in order. Its cost is the number of changes, whatever the run's size."""
        values = patch.values
        for op in patch.ops:
            _APPLY[op[0]](self, op, values)
        self.seq += 1

    def layers(self, place: str) -> list[str]:
        """Return the places whose state a token at `place` sees, the owner of the state first."""
        found = [place]
        while (scope := self.places[place].scope) is not None:
            opener = self.scopes[scope]
            if opener.frame:  # a frame has its own state, or none
                break
            place = opener.place
            found.append(place)
        found.reverse()
        return found

    def to_plain(self) -> dict[str, Any]:
        """Return the run as plain data: what a full snapshot on disk holds."""
        plain = {name: getattr(self, name) for name in _SCALARS}
        plain["tokens"] = [tuple(token) for token in self.tokens.values()]
        plain["scopes"] = {n: [getattr(s, part) for part in Scope.__slots__] for n, s in self.scopes.items()}
        plain["places"] = {n: [getattr(p, part) for part in Place.__slots__] for n, p in self.places.items()}
        return plain

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Snapshot:
        """Rebuild a run from `to_plain`, or from what its encoding gives back (tuples for lists).

        Raises `KeyError`, `ValueError` or `TypeError` if `plain` is no snapshot.
        """
        self = cls.__new__(cls)
        for name in _SCALARS:
            value = plain[name]
            setattr(self, name, dict(value) if isinstance(value, dict) else value)
        self.waits = {name: list(tokens) for name, tokens in plain["waits"].items()}
        self.tokens = {fields[0]: Token(*fields) for fields in plain["tokens"]}
        self.scopes = {name: _rebuild(Scope, parts) for name, parts in plain["scopes"].items()}
        self.places = {name: _rebuild(Place, parts) for name, parts in plain["places"].items()}
        return self


_Record = TypeVar("_Record", Scope, Place)
_STRUCTURED = ("tokens", "scopes", "places")
_SCALARS = tuple(name for name in Snapshot.__slots__ if name not in _STRUCTURED)


def _rebuild(cls: type[_Record], parts: Any) -> _Record:
    if cls is Place and len(parts) == len(cls.__slots__) - 1:  # stored before places knew their item
        parts = (*parts, None)
    record = cls.__new__(cls)
    for name, value in zip(cls.__slots__, parts, strict=True):
        setattr(record, name, dict(value) if isinstance(value, dict) else value)
    return record


# The primitive changes. Each takes the operands that follow its name in the operation.
# A patch is the truth, so none of these consults a plan or decides anything.


def _token(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    """Put a token: place, node, local name, visit, value index, state, tried."""
    _, place_name, node, local, visit, index, state, tried = op
    place = run.places[place_name]
    if not place.visits:
        _note_item(run, place, values[index])
    place.visits[local] = visit
    name = f"{place_name}{local}#{visit}"
    run.tokens[name] = Token(name, node, place_name, values[index], state, 1, tried)
    place.token = name
    if state == RUN:
        run.active += 1


def _drop(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    token = run.tokens.pop(op[1])
    run.places[token.place].token = None
    if token.state == RUN:
        run.active -= 1


def _state(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    """Change what a token is doing: name, state, attempt, tried."""
    _, name, state, attempt, tried = op
    token = run.tokens[name]
    counted = token.interruptions if attempt == token.attempt else 0  # no owner died at the new attempt yet
    run.tokens[name] = token._replace(state=state, attempt=attempt, tried=tried, interruptions=counted)
    run.active += (state == RUN) - (token.state == RUN)


def _receive(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    """Give a waiting token the payload, for its body to check."""
    _, name, index = op
    run.tokens[name] = run.tokens[name]._replace(state=RUN, value=values[index])
    run.active += 1


def _answer(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    """Give a token that asks the answer, for its body to check, beside the value that it asks about."""
    _, name, index = op
    run.tokens[name] = run.tokens[name]._replace(state=RUN, answer=values[index])
    run.active += 1


def _interrupt(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    """Count what a token's node was interrupted by: name, and how often in all; without that, once more."""
    token = run.tokens[op[1]]
    run.tokens[op[1]] = token._replace(interruptions=op[2] if len(op) > 2 else token.interruptions + 1)


def _open(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    """Open a scope: place, node, local name, visit, frame, width, value index, tried, queued branches."""
    _, place_name, node, local, visit, frame, width, index, tried, queued = op
    place = run.places[place_name]
    if not place.visits:
        _note_item(run, place, values[index])
    place.visits[local] = visit
    name = f"{place_name}{local}#{visit}"
    scope = run.scopes[name] = Scope(node, place_name, frame, width, values[index], tried)
    for branch, target, item in queued:
        scope.queue[branch] = (target, values[item])
    place.opened = name


def _note_item(run: Snapshot, place: Place, value: Value) -> None:
    """Keep what a fan-out's branch begins with, for a join that collects its failure."""
    if place.scope is not None and not run.scopes[place.scope].frame:
        place.item = value


def _branch(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    """Begin a branch: scope, branch."""
    _, scope, branch = op
    run.places[f"{scope}[{branch}]/"] = Place(scope, branch)
    run.scopes[scope].queue.pop(branch, None)


def _arrive(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    """A branch ended: scope, branch, value index, whether it succeeded."""
    _, name, branch, index, succeeded = op
    scope = run.scopes[name]
    (scope.results if succeeded else scope.failures)[branch] = values[index]
    if isinstance(values[index], bytes):  # no failure
        run.places[f"{name}[{branch}]/"].item = None


def _close(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    name = op[1]
    scope = run.scopes.pop(name)
    run.places[scope.place].opened = None
    for branch in range(scope.width):
        run.places.pop(f"{name}[{branch}]/", None)


def _unqueue(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    run.scopes[op[1]].queue.clear()


def _set(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    run.places[op[1]].fields[op[2]] = values[op[3]]


def _append(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    lengths = run.places[op[1]].lengths
    lengths[op[2]] = lengths.get(op[2], 0) + op[3]


def _timer(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    run.timers[op[1]] = op[2]


def _untimer(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    del run.timers[op[1]]


def _wait(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    run.waits.setdefault(op[1], []).append(op[2])


def _unwait(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    waiting = run.waits[op[1]]
    waiting.remove(op[2])
    if not waiting:
        del run.waits[op[1]]


def _inbox(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    run.inbox[op[1]] = op[2]


def _status(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    run.status = op[1]


def _output(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    run.output = values[op[1]]


def _error(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    run.error = None if op[1] is None else values[op[1]]


def _plan(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    run.plan = op[1]


def _rename(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    """Stand at nodes of other names: the new node by token and by scope; visits by place and local name."""
    for name, node in op[1]:
        run.tokens[name] = run.tokens[name]._replace(node=node)
    for name, node in op[2]:
        run.scopes[name].node = node
    for place, local, visits in op[3]:
        run.places[place].visits[local] = visits


def _finish(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    run.steps += 1


def _usage(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    run.usage[op[1]] = run.usage.get(op[1], 0) + op[2]


def _limit(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    run.limits[op[1]] = op[2]


def _reason(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    run.reason = op[1]


_APPLY: dict[str, Callable[[Snapshot, Op, tuple[Value, ...]], None]] = {
    "token": _token,
    "drop": _drop,
    "state": _state,
    "receive": _receive,
    "answer": _answer,
    "interrupt": _interrupt,
    "open": _open,
    "branch": _branch,
    "arrive": _arrive,
    "close": _close,
    "unqueue": _unqueue,
    "set": _set,
    "append": _append,
    "timer": _timer,
    "untimer": _untimer,
    "wait": _wait,
    "unwait": _unwait,
    "inbox": _inbox,
    "status": _status,
    "output": _output,
    "error": _error,
    "plan": _plan,
    "rename": _rename,
    "finish": _finish,
    "usage": _usage,
    "reason": _reason,
    "limit": _limit,
}
