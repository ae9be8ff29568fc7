"""Whether a run can go on with a changed graph: only what the run stands on counts.

It stands on the nodes of its tokens and the edges out of them, on the scopes that are open and the joins that
will close them, on its waits, and on the state of the frames that are open. What it will come to, or has left
behind, may change as it likes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from beluga_graph.errors import GraphChanged, RunConflict, RunNotFound
from beluga_graph.kernel.renames import rename_path
from beluga_graph.kernel.shape import Shape
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, RUN, Scope, Snapshot, Token
from beluga_graph.kernel.types import Renames
from beluga_graph.plan import Plan
from beluga_graph.plan.diff import PlanChange, differences
from beluga_graph.plan.renames import check_new_names, likely_renames, renamed_shape, with_their_questions
from beluga_graph.storage.keys import Prefix
from beluga_graph.storage.pace import Pace
from beluga_graph.storage.records import RunRecord
from beluga_graph.storage.run_log import check_nodes, one_look, read_shape, rebuild
from stores.base import Store

__all__ = ["JudgedChange", "adopted_renames", "broken_by", "difference_for", "has_changed", "judged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedChange:
    """A change of a graph, as one run sees it from where it stands; `str` of it is a line that tells it."""

    change: PlanChange
    safe: bool
    """Whether the run can go on in spite of it."""
    why: str

    def __str__(self) -> str:
        return f"{self.change}: {self.why}"


def judged(run: Snapshot, old: Shape, new: Shape, renames: Renames = ()) -> list[JudgedChange]:
    """Return what changed from the shape that the run stands in to the new one, and what each means for the run.

    Raises `BadRename`.
    """
    shape = renamed_shape(old, new, renames)
    ground = _ground(run, shape, renames)
    found = [
        JudgedChange(
            change=PlanChange(node=before, what="renamed", before=before, after=after),
            safe=True,
            why="as you say",
        )
        for before, after in renames
        if before != after
    ]
    for change in differences(shape, new):
        safe, why = _verdict(change, ground)
        found.append(JudgedChange(change=change, safe=safe, why=why))
    return found


def has_changed(run: Snapshot, plan: Plan, store: Store, renames: Renames = ()) -> bool:
    """Tell whether a run's graph has changed. Raises `GraphChanged` if it did where the run stands, `BadRename`.

    A run that stands in this very graph has adopted it before, so there is nothing left to rename.
    """
    if run.plan == plan.fingerprint:
        check_new_names(plan.shape, renames)
        return False
    old = _shape_of(store, run)
    unsafe = [found for found in judged(run, old, plan.shape, renames) if not found.safe]
    if unsafe:
        lines = tuple(str(found) for found in unsafe)
        raise GraphChanged(run.run_id, lines, {} if renames else _way_out(run, old, plan.shape))
    return True


def adopted_renames(run: Snapshot, plan: Plan, store: Store, renames: Renames) -> Renames:
    """Return the renames with which a run adopts a plan: what asks about a renamed node goes with it."""
    return with_their_questions(_shape_of(store, run), plan.shape, renames) if renames else ()


def difference_for(store: Store, head: RunRecord, plan: Plan, renames: Renames = ()) -> tuple[JudgedChange, ...]:
    """Return what is otherwise in a plan for a run as it is on disk. Raises `RunConflict` for another flow's plan."""
    if head.flow != plan.name:
        raise RunConflict(head.run_id, f"it is a run of flow {head.flow!r}, not of {plan.name!r}")
    run, _ = rebuild(store, head.run_id)
    if run.plan == plan.fingerprint:
        check_new_names(plan.shape, renames)
        renames = ()
    return tuple(judged(run, _shape_of(store, run), plan.shape, adopted_renames(run, plan, store, renames)))


async def broken_by(store: Store, plan: Plan) -> dict[str, tuple[JudgedChange, ...]]:
    """Return for every unfinished run of a flow which changes it could not go on with: none, or some."""
    broken, pace = {}, Pace()
    for key, blob in store.scan(Prefix.RUN):
        head = RunRecord.decode(key, blob)
        if head.flow == plan.name and head.status not in (COMPLETED, CANCELLED):
            try:
                with one_look(store, head.run_id):
                    found = difference_for(store, head, plan)
            except RunNotFound:
                if store.get(key) is not None:
                    raise
            else:
                broken[head.run_id] = tuple(change for change in found if not change.safe)
        await pace.turn()
    return broken


def _shape_of(store: Store, run: Snapshot) -> Shape:
    shape = read_shape(store, run.plan)
    if shape is None:
        raise RunNotFound(run.run_id, f"the shape {run.plan} of its graph is missing from the store")
    check_nodes(run, shape)
    return shape


def _way_out(run: Snapshot, old: Shape, new: Shape) -> Mapping[str, str]:
    """Return the renames that would let the run go on, or go on but for less: no more than it takes."""

    def unsafe(renames: dict[str, str]) -> int:
        return sum(not found.safe for found in judged(run, old, new, tuple(renames.items())))

    guess = likely_renames(old, new)
    least = unsafe(guess)
    if least >= unsafe({}):
        return {}
    for name in list(guess):
        without = {before: after for before, after in guess.items() if before != name}
        if unsafe(without) <= least:
            guess = without
    return guess


# What a run stands on.


@dataclass(frozen=True, slots=True)
class _Open:
    """An open scope, and whether its join has begun to run."""

    scope: Scope
    fired: bool


@dataclass(slots=True)
class _Ground:
    """What a run stands on, by the names that nodes have in the new graph."""

    ended: bool
    tokens: dict[str, list[Token]] = field(default_factory=dict)
    scopes: dict[str, list[_Open]] = field(default_factory=dict)
    joins: dict[str, list[_Open]] = field(default_factory=dict)
    static: set[str] = field(default_factory=set)  # fan-outs with a branch for each target


def _ground(run: Snapshot, shape: Shape, renames: Renames) -> _Ground:
    ground = _Ground(run.ended)
    for token in run.tokens.values():
        ground.tokens.setdefault(rename_path(token.node, renames), []).append(token)
    for scope in run.scopes.values():
        path = rename_path(scope.node, renames)
        opened = _Open(scope, run.places[scope.place].token is not None)
        ground.scopes.setdefault(path, []).append(opened)
        opener = shape.nodes[path]
        if opener.join is not None:
            ground.joins.setdefault(opener.join, []).append(opened)
            if not opener.over:
                ground.static.add(path)
    return ground


# What a change means.

_FREE = {
    "retry": "the next failure is judged by it",
    "timeout_ms": "what is under way keeps its time",
    "delay_ms": "what is under way keeps its time",
    "description": "no step depends on it",
    "agent": "only events tell it",
    "input_type": "it is the body's, and bodies may change",
    "output_type": "it is the body's, and bodies may change",
    "max_concurrency": "an open scope keeps the number of its branches",
    "entry": "the run is past it",
    "limit": "the next step is judged by it",
    "type": "only a value of it that the run still holds would be refused, by the node that reads it",
    "added": "no run stands on what is new",
}
_STANDS = {
    "removed": "the run stands here",
    "kind": "the run stands here",
    "fan_outs": "the run stands here",
    "target": "the run goes on from here",
    "routes": "the run goes on from here",
    "error": "a failure goes on from here",
    "branches": "the run goes on from here",
    "join": "the run goes on from here",
    "over": "the run goes on from here",
    "entry": "the run begins it anew",
    "collect": "it is running",
    "signal": "the run waits here, and whoever signals it knows the old name",
    "default": "the run waits here",
    "payload": "the run waits here, and what was sent fits the old type",
}
_ENCLOSES = {
    "removed": "the run is inside of it",
    "kind": "the run is inside of it",
    "fan_outs": "the run is inside of it",
    "target": "the run goes on from here",
    "error": "a failure inside of it goes on from here",
    "join": "its branches are open",
    "over": "its branches are open",
}
_CLOSES = {
    "removed": "it closes branches that are open",
    "kind": "it closes branches that are open",
    "fan_outs": "it closes branches that are open",
    "target": "the run goes on from here",
    "routes": "the run goes on from here",
    "error": "a failure of its branches goes on from here",
    "collect": "its branches are open",
    "wait": "its branches are open",
}


def _verdict(change: PlanChange, ground: _Ground) -> tuple[bool, str]:
    """Tell whether a run can go on in spite of a change, and why."""
    node, what = change.node, change.what
    if ground.ended:
        return True, "the run has ended"
    if what == "state":
        return _of_state(change, ground)
    if what in _FREE and (what != "entry" or node not in ground.tokens):
        return True, _FREE[what]
    for token in ground.tokens.get(node, ()):
        if what in _STANDS and not _is_received(token, what):
            return False, _STANDS[what]
    for opened in ground.scopes.get(node, ()):
        if what == "branches":
            if (why := _misled(change, opened, is_static=node in ground.static)) is not None:
                return False, why
        elif what in _ENCLOSES:
            return False, _ENCLOSES[what]
    for opened in ground.joins.get(node, ()):
        if what in _CLOSES and not (what == "wait" and opened.fired):
            return False, _CLOSES[what]
    if node in ground.tokens or node in ground.scopes or node in ground.joins:
        return True, "the run is past what it decides"
    return True, "the run does not stand here"


def _is_received(token: Token, what: str) -> bool:
    """Tell whether a token at a wait has what the change is about behind it: its signal has come."""
    return token.state == RUN and what in ("signal", "default")


def _misled(change: PlanChange, opened: _Open, *, is_static: bool) -> str | None:
    """Tell how an open fan-out would be led astray by other branches, if it would."""
    if is_static:
        return "its results go by the order of its branches"
    for target, _ in opened.scope.queue.values():
        if tuple(change.before[target : target + 1]) != tuple(change.after[target : target + 1]):
            return "a branch that waits for its turn would begin elsewhere"
    return None


def _of_state(change: PlanChange, ground: _Ground) -> tuple[bool, str]:
    if change.before is None:
        return True, "a new field has its default"
    if not change.node:
        return False, "the run holds it"
    if change.node in ground.scopes:
        return False, "the run is inside of it and holds it"
    return True, "the run is not inside of it"
