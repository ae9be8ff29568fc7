"""Renames: the names that a changed graph gives to the nodes that a run is at.

A token keeps its own name, which is the idempotency key of its node's outside effects and part of keys on disk. Only
the node that it is at changes. Visit counters never go back, so a run gives no name twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from beluga_graph.kernel.ops import RENAME_NODES
from beluga_graph.kernel.types import Op, Renames

if TYPE_CHECKING:
    from beluga_graph.kernel.snapshot import Snapshot

__all__ = ["rename_op", "rename_path", "split_token_name"]


def rename_path(path: str, renames: Renames) -> str:
    """Return the new path of a node. A frame takes the nodes inside along; the longest matching path counts."""
    longest, found = "", path
    for old, new in renames:
        if (path == old or path.startswith(f"{old}/")) and len(old) > len(longest):
            longest, found = old, new + path[len(old) :]
    return found


def split_token_name(name: str, place: str) -> tuple[str, int]:
    """Return the local name and the visit in a token's name. Its node may have another name by now."""
    local, _, visit = name[len(place) :].rpartition("#")
    return local, int(visit)


def rename_op(run: Snapshot, renames: Renames) -> Op:
    """Return the operation that renames the nodes that a run is at."""
    tokens = [(token.name, token.node, rename_path(token.node, renames)) for token in run.tokens.values()]
    scopes = [(name, scope.node, rename_path(scope.node, renames)) for name, scope in run.scopes.items()]
    return (
        RENAME_NODES,
        tuple((name, new) for name, old, new in tokens if new != old),
        tuple((name, new) for name, old, new in scopes if new != old),
        _visits(run, renames),
    )


def _visits(run: Snapshot, renames: Renames) -> tuple[tuple[str, str, int], ...]:
    """Return the counters to set: place, local name, visits. The old counters stay, with the names they have given."""
    found: list[tuple[str, str, int]] = []
    for name, place in run.places.items():
        frame = _frame_of(run, name)
        for old, new in renames:
            path, _, local = old.rpartition("/")
            count = place.visits.get(local, 0)
            local_now = new.rpartition("/")[2]
            if path == frame and count > place.visits.get(local_now, 0):
                found.append((name, local_now, count))
    return tuple(found)


def _frame_of(run: Snapshot, place: str) -> str:
    """Return the path of the frame around a place; `""` is the run itself."""
    scope = run.places[run.layers(place)[0]].scope
    return "" if scope is None else run.scopes[scope].node
