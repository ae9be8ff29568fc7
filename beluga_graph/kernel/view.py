"""The view of one attempt: the part of a run that the attempt of one token reads."""

from __future__ import annotations

from beluga_graph.kernel.snapshot import RUN, Place, Scope, Snapshot
from beluga_graph.kernel.structural_names import branch_place

__all__ = ["view_of"]


def view_of(run: Snapshot, token: str) -> Snapshot:
    """Return the part of a run that an attempt at `token` reads, as a snapshot that shares no dict with the run.

    An attempt on the view gives the same result as one on the run, so a driver can send the view to another process.
    The view holds the token, the places and scopes around it out to the run itself, and, at a join, the scope that the
    join closes with the results, failures and state layers of its branches. It holds no other token, and no timer,
    wait, usage, output or error.

    The cost is the depth of the nesting plus, at a join, the number of its branches. Raises `KeyError` if the run does
    not have the token.
    """
    seen = run.tokens[token]
    view = Snapshot(
        run_id=run.run_id,
        plan=run.plan,
        started_ms=run.started_ms,
        value=run.input,
        context=run.context,
        limits=dict(run.limits),
        session=run.session,
        rules=run.rules,
    )
    view.seq, view.steps, view.status = run.seq, run.steps, run.status
    view.tokens[token] = seen
    view.active = int(seen.state == RUN)
    place = _add_place(view, run, seen.place)
    place.token = token
    place.opened = run.places[seen.place].opened
    if place.opened is not None:
        _add_joined_branches(view, run, place.opened)
    while place.scope is not None:
        name, scope = place.scope, run.scopes[place.scope]
        view.scopes[name] = _without_branches(scope)
        place = _add_place(view, run, scope.place)
        place.opened = name
    return view


def _add_joined_branches(view: Snapshot, run: Snapshot, name: str) -> None:
    scope = run.scopes[name]
    joined = view.scopes[name] = _without_branches(scope)
    joined.results, joined.failures = dict(scope.results), dict(scope.failures)
    for branch in (*scope.results, *scope.failures):
        branch_name = branch_place(name, branch)
        _add_place(view, run, branch_name).item = run.places[branch_name].item


def _add_place(view: Snapshot, run: Snapshot, name: str) -> Place:
    """Add a place with its state layer, and its visits, which the errors of state updates name."""
    place = run.places[name]
    added = view.places[name] = Place(place.scope, place.branch)
    added.visits, added.fields, added.lengths = dict(place.visits), dict(place.fields), dict(place.lengths)
    return added


def _without_branches(scope: Scope) -> Scope:
    return Scope(scope.node, scope.place, scope.frame, scope.width, b"", scope.attempt)
