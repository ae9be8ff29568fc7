"""The snapshot: a whole run as data, and `apply`, the only way in which it changes.

A *place* is the position of one thread of control: the run itself, one branch of a fan-out, or the inside of a
frame. It holds one token or one open scope (both while a join runs), its visit counters, and its layer of state:
absolute values where a frame owns the state, one combined update per field in a branch.

Names are structural. A token is named `<place><node>#<visit>`, a scope has the name of the token or frame that
opened it, and branch `i` of a scope is the place `<scope>[i]/`. The run itself is the place `""`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from beluga_graph.kernel import ops
from beluga_graph.kernel.structural_names import branch_place
from beluga_graph.kernel.tokens import CANCELLED, COMPLETED, FAILED, RUN, RUNNING, WAITING, Place, Scope, Token
from beluga_graph.kernel.types import Op, Patch, Value

__all__ = [
    "CANCELLED",
    "COMPLETED",
    "FAILED",
    "RULES",
    "RUN",
    "RUNNING",
    "WAITING",
    "Place",
    "Scope",
    "Snapshot",
    "Token",
]

RULES = 1  # the version of `advance` that decides new runs: the only one so far


class Snapshot:
    """A whole run. Only `apply` changes it; it consists of scalars, tuples, lists and dicts."""

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
        self.rules = rules  # stored for a later version that decides differently; nothing reads it yet
        self.run_id = run_id
        self.plan = plan  # the fingerprint
        self.started_ms = started_ms
        self.input = value
        self.context = context
        self.limits = limits or {}  # the run's overrides of its graph's limits
        self.session = session  # the conversation that this run continues, as plain data
        self.seq = 0  # steps, each of which is one patch
        self.steps = 0  # finished nodes, not steps; `max_steps` bounds these
        self.status = RUNNING
        self.active = 0  # tokens that run
        self.output: Value | None = None
        self.error: Value | None = None
        self.tokens: dict[str, Token] = {}
        self.scopes: dict[str, Scope] = {}
        self.places: dict[str, Place] = {"": Place(None, 0)}
        self.timers: dict[str, int] = {}
        self.inbox: dict[str, int] = {}  # by signal name: how many signals the run has consumed
        self.waits: dict[str, list[str]] = {}  # by signal name: the waiting tokens, and the listeners, oldest first
        self.usage: dict[str, int] = {}
        self.reason = ""  # why the last loop ended

    @property
    def ended(self) -> bool:
        """Whether nothing can change the run any more: it completed or was cancelled."""
        return self.status in (COMPLETED, CANCELLED)

    def apply(self, patch: Patch) -> None:
        """Apply every operation of `patch`, in order. The cost is the number of operations, not the size of the run."""
        values = patch.values
        for op in patch.ops:
            _APPLY[op[0]](self, op, values)
        self.seq += 1

    def layers(self, place: str) -> list[str]:
        """Return the places whose state a token at `place` sees, beginning with the owner of the state."""
        found = [place]
        while (scope := self.places[place].scope) is not None:
            opener = self.scopes[scope]
            if opener.frame:  # a frame has a state of its own, or none at all
                break
            place = opener.place
            found.append(place)
        found.reverse()
        return found

    def to_plain(self) -> dict[str, Any]:
        """Return the run as plain data, as a full snapshot on disk holds it."""
        plain = {name: getattr(self, name) for name in _SCALARS}
        plain["tokens"] = [token.to_plain() for token in self.tokens.values()]
        plain["scopes"] = {n: [getattr(s, part) for part in Scope.__slots__] for n, s in self.scopes.items()}
        plain["places"] = {n: [getattr(p, part) for part in Place.__slots__] for n, p in self.places.items()}
        return plain

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Snapshot:
        """Rebuild a run from the result of `to_plain`, also after decoding, which makes tuples of lists.

        Raises `KeyError`, `ValueError` or `TypeError` if `plain` is not a snapshot.
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
    if cls is Place and len(parts) == len(cls.__slots__) - 1:  # stored by a release whose places had no item
        parts = (*parts, None)
    record = cls.__new__(cls)
    for name, value in zip(cls.__slots__, parts, strict=True):
        setattr(record, name, dict(value) if isinstance(value, dict) else value)
    return record


# One function per kind of operation. None of them consults a plan or decides anything: the patch has decided.


def _put_token(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    _, place_name, node, local, visit, index, state, attempts_since_armed = op
    place = run.places[place_name]
    if not place.visits:
        _keep_item(run, place, values[index])
    place.visits[local] = visit
    name = f"{place_name}{local}#{visit}"
    run.tokens[name] = Token(name, node, place_name, values[index], state, 1, attempts_since_armed)
    place.token = name
    if state == RUN:
        run.active += 1


def _remove_token(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    _, name = op
    token = run.tokens.pop(name)
    run.places[token.place].token = None
    if token.state == RUN:
        run.active -= 1


def _set_state(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    _, name, state, attempt, attempts_since_armed = op
    token = run.tokens[name]
    interruptions = token.interruptions if attempt == token.attempt else 0  # no owner has died in a new attempt yet
    run.tokens[name] = token._replace(
        state=state, attempt=attempt, attempts_since_armed=attempts_since_armed, interruptions=interruptions
    )
    run.active += (state == RUN) - (token.state == RUN)


def _receive_payload(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    """Let a waiting token's body check the payload, which replaces the token's value."""
    _, name, index = op
    run.tokens[name] = run.tokens[name]._replace(state=RUN, value=values[index])
    run.active += 1


def _receive_answer(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    """Let a waiting token's body check the answer, which is kept beside the value that the question is about."""
    _, name, index = op
    run.tokens[name] = run.tokens[name]._replace(state=RUN, answer=values[index])
    run.active += 1


def _count_interruption(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    """Set the number of interruptions; without an operand for it, add one."""
    _, name, *total = op
    token = run.tokens[name]
    run.tokens[name] = token._replace(interruptions=total[0] if total else token.interruptions + 1)


def _set_time(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    _, name, kind, ms = op
    run.tokens[name] = run.tokens[name]._replace(time=(kind, ms))


def _open_scope(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    _, place_name, node, local, visit, is_frame, width, index, attempt, queue = op
    place = run.places[place_name]
    if not place.visits:
        _keep_item(run, place, values[index])
    place.visits[local] = visit
    name = f"{place_name}{local}#{visit}"
    scope = run.scopes[name] = Scope(node, place_name, is_frame, width, values[index], attempt)
    for branch, target, item in queue:
        scope.queue[branch] = (target, values[item])
    place.opened = name


def _keep_item(run: Snapshot, place: Place, value: Value) -> None:
    """Keep the value that a fan-out's branch begins with, for a join that collects the branch's failure."""
    if place.scope is not None and not run.scopes[place.scope].frame:
        place.item = value


def _begin_branch(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    _, scope, branch = op
    run.places[branch_place(scope, branch)] = Place(scope, branch)
    run.scopes[scope].queue.pop(branch, None)


def _end_branch(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    _, name, branch, index, succeeded = op
    scope = run.scopes[name]
    (scope.results if succeeded else scope.failures)[branch] = values[index]
    if isinstance(values[index], bytes):  # not a failure: no join will ask for the item
        run.places[branch_place(name, branch)].item = None


def _clear_queue(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    _, scope = op
    run.scopes[scope].queue.clear()


def _close_scope(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    _, name = op
    scope = run.scopes.pop(name)
    run.places[scope.place].opened = None
    for branch in range(scope.width):
        run.places.pop(branch_place(name, branch), None)


def _set_field(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    _, place, field, index = op
    run.places[place].fields[field] = values[index]


def _append_items(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    _, place, field, count = op
    lengths = run.places[place].lengths
    lengths[field] = lengths.get(field, 0) + count


def _arm_timer(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    _, timer, due = op
    run.timers[timer] = due


def _disarm_timer(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    _, timer = op
    del run.timers[timer]


def _add_wait(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    _, signal, name = op
    run.waits.setdefault(signal, []).append(name)


def _remove_wait(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    _, signal, name = op
    waiting = run.waits[signal]
    waiting.remove(name)
    if not waiting:
        del run.waits[signal]


def _set_consumed(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    _, signal, count = op
    run.inbox[signal] = count


def _set_status(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    _, run.status = op


def _set_output(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    _, index = op
    run.output = values[index]


def _set_error(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    _, index = op
    run.error = None if index is None else values[index]


def _set_plan(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    _, run.plan = op


def _rename_nodes(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    _, tokens, scopes, visits = op
    for name, node in tokens:
        run.tokens[name] = run.tokens[name]._replace(node=node)
    for name, node in scopes:
        run.scopes[name].node = node
    for place, local, count in visits:
        run.places[place].visits[local] = count


def _count_step(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    run.steps += 1


def _add_usage(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    _, name, amount = op
    run.usage[name] = run.usage.get(name, 0) + amount


def _set_reason(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    _, run.reason = op


def _set_limit(run: Snapshot, op: Op, values: tuple[Value, ...]) -> None:
    _, name, value = op
    run.limits[name] = value


_APPLY: dict[str, Callable[[Snapshot, Op, tuple[Value, ...]], None]] = {
    ops.PUT_TOKEN: _put_token,
    ops.REMOVE_TOKEN: _remove_token,
    ops.SET_STATE: _set_state,
    ops.RECEIVE_PAYLOAD: _receive_payload,
    ops.RECEIVE_ANSWER: _receive_answer,
    ops.COUNT_INTERRUPTION: _count_interruption,
    ops.SET_TIME: _set_time,
    ops.OPEN_SCOPE: _open_scope,
    ops.BEGIN_BRANCH: _begin_branch,
    ops.END_BRANCH: _end_branch,
    ops.CLEAR_QUEUE: _clear_queue,
    ops.CLOSE_SCOPE: _close_scope,
    ops.SET_FIELD: _set_field,
    ops.APPEND_ITEMS: _append_items,
    ops.ARM_TIMER: _arm_timer,
    ops.DISARM_TIMER: _disarm_timer,
    ops.ADD_WAIT: _add_wait,
    ops.REMOVE_WAIT: _remove_wait,
    ops.ADD_LISTENER: _add_wait,
    ops.REMOVE_LISTENER: _remove_wait,
    ops.SET_CONSUMED: _set_consumed,
    ops.SET_STATUS: _set_status,
    ops.SET_OUTPUT: _set_output,
    ops.SET_ERROR: _set_error,
    ops.SET_PLAN: _set_plan,
    ops.RENAME_NODES: _rename_nodes,
    ops.COUNT_STEP: _count_step,
    ops.ADD_USAGE: _add_usage,
    ops.SET_REASON: _set_reason,
    ops.SET_LIMIT: _set_limit,
}
