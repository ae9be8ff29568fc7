"""Renaming: what a changed graph calls the nodes that a run stands at.

A token keeps its name, which is the key of what its node does outside and lies in keys on disk; what changes is
the node that it stands at. A counter of visits never goes back, so a name is never given twice in a run.
"""

from __future__ import annotations

from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.types import Op, Renames

__all__ = ["made_from", "rename_op", "renamed"]


def renamed(path: str, renames: Renames) -> str:
    """Return what a node is called now; what stands in a renamed frame goes with it. The longest path counts."""
    longest, found = "", path
    for old, new in renames:
        if (path == old or path.startswith(f"{old}/")) and len(old) > len(longest):
            longest, found = old, new + path[len(old) :]
    return found


def made_from(name: str, place: str) -> tuple[str, int]:
    """Return the local name and the visit that a token's name was made from: its node may be called otherwise now."""
    local, _, visit = name[len(place) :].rpartition("#")
    return local, int(visit)


def rename_op(run: Snapshot, renames: Renames) -> Op:
    """Return the change that lets a run stand at nodes of other names."""
    tokens = [(token.name, token.node, renamed(token.node, renames)) for token in run.tokens.values()]
    scopes = [(name, scope.node, renamed(scope.node, renames)) for name, scope in run.scopes.items()]
    return (
        "rename",
        tuple((name, new) for name, old, new in tokens if new != old),
        tuple((name, new) for name, old, new in scopes if new != old),
        _visits(run, renames),
    )


def _visits(run: Snapshot, renames: Renames) -> tuple[tuple[str, str, int], ...]:
    """Return the counters to set: place, local name, visits. The old ones stay, for the names that they gave."""
    found: list[tuple[str, str, int]] = []
    for name, place in run.places.items():
        frame = _frame_of(run, name)
        for old, new in renames:
            path, _, local = old.rpartition("/")
            count = place.visits.get(local, 0)
            called = new.rpartition("/")[2]
            if path == frame and count > place.visits.get(called, 0):
                found.append((name, called, count))
    return tuple(found)


def _frame_of(run: Snapshot, place: str) -> str:
    """Return the path of the frame that a place is in; "" is the run itself."""
    scope = run.places[run.layers(place)[0]].scope
    return "" if scope is None else run.scopes[scope].node
