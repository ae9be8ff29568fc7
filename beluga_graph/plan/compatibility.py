"""Compatibility: whether a run can go on with a changed graph. Only the nodes that the run occupies count.

A run occupies the nodes of its tokens, its open scopes with the joins that will close them, and the state of its open
frames. Everything that it has not reached yet, or has left behind, may change freely.

The edges out of a node belong to what comes next. A token that is parked at a wait or a timer takes the new ones.
A node that is running, or is about to run again, keeps its edges: its code and its edges belong together.
The same holds for the edges out of a scope: they may change while the run is only parked inside of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from beluga_graph.kernel.renames import rename_path
from beluga_graph.kernel.shape import TIMER_NODE, WAIT_NODE, Shape
from beluga_graph.kernel.snapshot import RUN, Scope, Snapshot, Token
from beluga_graph.kernel.tokens import AT_TIMER, AT_WAIT
from beluga_graph.kernel.types import Renames
from beluga_graph.plan.diff import PlanChange, diff_shapes
from beluga_graph.plan.renames import guess_renames, rename_shape

__all__ = ["JudgedChange", "assess_changes", "suggest_renames"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedChange:
    """A change of a graph and its effect on one run. `str()` of it is one line of text.

    Attributes:
        change: The change.
        safe: Whether the run can go on in spite of it.
        why: The reason for that.
    """

    change: PlanChange
    safe: bool
    why: str

    def __str__(self) -> str:
        return f"{self.change}: {self.why}"


def assess_changes(run: Snapshot, old: Shape, new: Shape, renames: Renames = ()) -> list[JudgedChange]:
    """Return the changes from the run's shape to the new one, each with its effect on the run.

    Raises `BadRename`.
    """
    shape = rename_shape(old, new, renames)
    occupancy = _find_occupancy(run, shape, renames)
    found = [
        JudgedChange(
            change=PlanChange(node=before, what="renamed", before=before, after=after),
            safe=True,
            why="you named this rename",
        )
        for before, after in renames
        if before != after
    ]
    for change in diff_shapes(shape, new):
        safe, why = _assess(change, occupancy)
        found.append(JudgedChange(change=change, safe=safe, why=why))
    return found


def suggest_renames(run: Snapshot, old: Shape, new: Shape) -> Mapping[str, str]:
    """Return the fewest renames that let the run go on, or leave the fewest unsafe changes; `{}` if none help."""

    def count_unsafe(renames: dict[str, str]) -> int:
        return sum(not found.safe for found in assess_changes(run, old, new, tuple(renames.items())))

    guess = guess_renames(old, new)
    least = count_unsafe(guess)
    if least >= count_unsafe({}):
        return {}
    for name in list(guess):
        without = {before: after for before, after in guess.items() if before != name}
        if count_unsafe(without) <= least:
            guess = without
    return guess


@dataclass(frozen=True, slots=True)
class _OpenScope:
    """An open scope: whether its join has begun to run, and whether the run is only parked inside of it."""

    scope: Scope
    fired: bool
    is_parked: bool


@dataclass(slots=True)
class _Occupancy:
    """The parts of a graph that a run occupies, by the names that nodes have in the new graph."""

    ended: bool
    parked: set[str] = field(default_factory=set)  # tokens that a signal or a timer moves on
    tokens: dict[str, list[Token]] = field(default_factory=dict)
    scopes: dict[str, list[_OpenScope]] = field(default_factory=dict)
    joins: dict[str, list[_OpenScope]] = field(default_factory=dict)
    static: set[str] = field(default_factory=set)  # fan-outs with a branch for each target


def _find_occupancy(run: Snapshot, shape: Shape, renames: Renames) -> _Occupancy:
    occupancy = _Occupancy(run.ended)
    for token in run.tokens.values():
        path = rename_path(token.node, renames)
        occupancy.tokens.setdefault(path, []).append(token)
        if shape.nodes[path].kind in (WAIT_NODE, TIMER_NODE) and token.state != RUN:
            occupancy.parked.add(token.name)
    busy = _find_busy_scopes(run, occupancy.parked)
    for name, scope in run.scopes.items():
        path = rename_path(scope.node, renames)
        fired = run.places[scope.place].token is not None
        opened = _OpenScope(scope, fired, not fired and name not in busy)
        occupancy.scopes.setdefault(path, []).append(opened)
        opener = shape.nodes[path]
        if opener.join is not None:
            occupancy.joins.setdefault(opener.join, []).append(opened)
            if not opener.over:
                occupancy.static.add(path)
    return occupancy


def _find_busy_scopes(run: Snapshot, parked: set[str]) -> set[str]:
    """Return the scopes with a token inside of them, at any depth, that is not parked."""
    found: set[str] = set()
    for token in run.tokens.values():
        scope = None if token.name in parked else run.places[token.place].scope
        while scope is not None and scope not in found:
            found.add(scope)
            scope = run.places[run.scopes[scope].place].scope
    return found


# By `PlanChange.what`: why a change is safe, or why it is not.

_OUT_EDGES = frozenset(("target", "routes", "error"))

_ALWAYS_SAFE = {
    "retry": "the next failure uses the new policy",
    "timeout_ms": "timers that are armed keep their time",
    "delay_ms": "timers that are armed keep their time",
    "due_ms": "timers that are armed keep their time",
    "description": "no step depends on it",
    "agent": "only events carry it",
    "input_type": "it belongs to the body, and bodies may change",
    "output_type": "it belongs to the body, and bodies may change",
    "max_concurrency": "an open fan-out keeps running as many branches at a time",
    "entry": "the run is past it",
    "limit": "the next step is checked against it",
    "type": "only a node that reads a value of it that the run still holds would fail",
    "added": "the run is not at a new node",
}
_AT_TOKEN = {
    "removed": "the run is at this node",
    "kind": "the run is at this node",
    "fan_outs": "the run is at this node",
    "target": "the run continues from this node",
    "routes": "the run continues from this node",
    "error": "a failure continues from this node",
    "branches": "the run continues from this node",
    "join": "the run continues from this node",
    "over": "the run continues from this node",
    "entry": "the run begins this frame again",
    "collect": "the join is running",
    "signal": "the run waits here, and senders know the old name",
    "default": "the run waits here",
    "decides_time": "the run decides here how long it waits",
    "payload": "the run waits here, and sent signals have the old type",
}
_AT_OPEN_SCOPE = {
    "removed": "the run is inside it",
    "kind": "the run is inside it",
    "fan_outs": "the run is inside it",
    "target": "the run continues from this node",
    "error": "a failure inside it continues from this node",
    "join": "its branches are open",
    "over": "its branches are open",
}
_AT_OPEN_JOIN = {
    "removed": "it closes branches that are open",
    "kind": "it closes branches that are open",
    "fan_outs": "it closes branches that are open",
    "target": "the run continues from this node",
    "routes": "the run continues from this node",
    "error": "a failure of its branches continues from this node",
    "collect": "its branches are open",
    "wait": "its branches are open",
}


def _assess(change: PlanChange, occupancy: _Occupancy) -> tuple[bool, str]:
    """Return whether a run can go on in spite of a change, and why."""
    node, what = change.node, change.what
    if occupancy.ended:
        return True, "the run has ended"
    if what == "version":  # a name that contains @ can equal the id of a version of another flow
        return False, "it is another flow with the same id"
    if what == "state":
        return _assess_state(change, occupancy)
    if what in ("interrupts", "inner_interrupts"):
        return _assess_interrupts(change, occupancy)
    if what in _ALWAYS_SAFE and (what != "entry" or node not in occupancy.tokens):
        return True, _ALWAYS_SAFE[what]
    if (why := _find_conflict(change, occupancy)) is not None:
        return False, why
    if what in _OUT_EDGES and _is_parked_in(node, occupancy):
        return True, "the run waits, and takes the new edge"
    if node in occupancy.tokens or node in occupancy.scopes or node in occupancy.joins:
        return True, "the run is past the decision"
    return True, "the run is not at this node"


def _find_conflict(change: PlanChange, occupancy: _Occupancy) -> str | None:
    """Return why a run cannot go on with a change of a node that it occupies; `None` if it can."""
    node, what = change.node, change.what
    is_edge = what in _OUT_EDGES
    for token in occupancy.tokens.get(node, ()):
        if what in _AT_TOKEN and not _is_past(token, what) and not (is_edge and token.name in occupancy.parked):
            return _AT_TOKEN[what]
    for opened in occupancy.scopes.get(node, ()):
        if what == "branches":
            if (why := _reroutes(change, opened, is_static=node in occupancy.static)) is not None:
                return why
        elif what in _AT_OPEN_SCOPE and not (is_edge and opened.is_parked):
            return _AT_OPEN_SCOPE[what]
    for opened in occupancy.joins.get(node, ()):
        if what in _AT_OPEN_JOIN and not (what == "wait" and opened.fired) and not (is_edge and opened.is_parked):
            return _AT_OPEN_JOIN[what]
    return None


def _is_parked_in(node: str, occupancy: _Occupancy) -> bool:
    """Return whether a run is parked at a node, or in a scope that the node opens or closes."""
    return any(token.name in occupancy.parked for token in occupancy.tokens.get(node, ())) or bool(
        occupancy.scopes.get(node) or occupancy.joins.get(node)
    )


def _assess_interrupts(change: PlanChange, occupancy: _Occupancy) -> tuple[bool, str]:
    node = change.node
    if all(edge in change.after for edge in change.before):
        return True, "the run listens to the new signal as soon as it goes on"
    if node and node not in occupancy.tokens and node not in occupancy.scopes:
        return True, "the run is not at this node"
    is_kept = {edge[0] for edge in change.before} <= {edge[0] for edge in change.after}
    if is_kept and _is_only_parked(node, occupancy):
        return True, "the run waits, and takes the new edge"
    where = "at this node" if node else "inside it"
    return False, f"the run is {where}, and " + ("may be interrupted" if is_kept else "senders know the old signal")


def _is_only_parked(node: str, occupancy: _Occupancy) -> bool:
    """Return whether a run is at a node, or inside of it, and only parked there; `""` is the whole graph."""
    tokens = occupancy.tokens.get(node, []) if node else [one for at in occupancy.tokens.values() for one in at]
    scopes = occupancy.scopes.get(node, [])
    return all(one.name in occupancy.parked for one in tokens) and all(one.is_parked for one in scopes)


def _is_past(token: Token, what: str) -> bool:
    """Return whether a token is past the change: its signal has come, or its timer is armed."""
    if what == "decides_time":
        return token.state in (AT_WAIT, AT_TIMER)
    return token.state == RUN and what in ("signal", "default")


def _reroutes(change: PlanChange, opened: _OpenScope, *, is_static: bool) -> str | None:
    """Return how other branches would reroute an open fan-out; `None` if they would not."""
    if is_static:
        return "its results are in the order of its branches"
    for target, _ in opened.scope.queue.values():
        if tuple(change.before[target : target + 1]) != tuple(change.after[target : target + 1]):
            return "a queued branch would begin elsewhere"
    return None


def _assess_state(change: PlanChange, occupancy: _Occupancy) -> tuple[bool, str]:
    if change.node and change.node not in occupancy.scopes:
        return True, "the run is not inside it"
    if change.before is None:
        if change.after.required:
            return False, "it has no default, and the run began without it"
        return True, "a new field has its default"
    return False, "the run is inside it and holds its value" if change.node else "the run holds its value"
