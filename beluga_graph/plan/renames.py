"""Renames: nodes that are called otherwise in a changed graph. Checked, made, and guessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from beluga_graph.errors import BadRename
from beluga_graph.kernel.renames import rename_path
from beluga_graph.kernel.shape import NodeShape, Shape
from beluga_graph.kernel.types import Renames
from beluga_graph.plan.approvals import APPROVAL, ASKS
from beluga_graph.plan.diff import next_nodes

__all__ = ["add_question_renames", "check_new_names", "guess_renames", "rename_shape"]


def add_question_renames(old: Shape, new: Shape, renames: Renames) -> Renames:
    """Return renames in which what asks about a node goes with it, where nothing else is said of it."""
    named = {before for before, _ in renames}
    more = tuple(
        (before + asking, after + asking)
        for before, after in renames
        for asking in (ASKS, APPROVAL)
        if before + asking in old.nodes and after + asking in new.nodes and before + asking not in named
    )
    return renames + more


def rename_shape(old: Shape, new: Shape, renames: Renames) -> Shape:
    """Return the old shape with the names that its nodes have in the new one. Raises `BadRename`."""
    if not renames:
        return old
    for before, after in renames:
        if before not in old.nodes:
            rule = "the graph that the run stands in has no such node"
            raise BadRename(old.name, f"rename of {before!r}", rule, f"its nodes are {_listed(old)}")
        if rename_path(_frame(before), renames) != _frame(after):
            rule = f"it would leave its frame {_frame(before)!r} as {after!r}"
            raise BadRename(old.name, f"rename of {before!r}", rule, "a node is renamed within its frame")
    check_new_names(new, renames)
    known: dict[str, str] = {}
    for path in old.nodes:
        name = rename_path(path, renames)
        if name in new.nodes and known.setdefault(name, path) != path:
            rule = f"both {known[name]!r} and {path!r} would be {name!r}"
            raise BadRename(old.name, f"rename to {name!r}", rule, "rename both, or take a name that was not in use")
    nodes = (_renamed_node(node, renames) for node in old.nodes.values())
    return replace(old, entry=rename_path(old.entry, renames), nodes={node.name: node for node in nodes})


def check_new_names(new: Shape, renames: Renames) -> None:
    """Refuse new names that no node has. Raises `BadRename`."""
    for before, after in renames:
        if after not in new.nodes:
            rule = f"the new graph has no node {after!r}"
            raise BadRename(new.name, f"rename of {before!r}", rule, f"its nodes are {_listed(new)}")


def guess_renames(old: Shape, new: Shape) -> dict[str, str]:
    """Guess what was renamed: a node is gone, and one of its kind with its edges is new, and no other is.

    What stands in a frame goes with it and is not named.
    """
    gone, come = _only_in(old, new), _only_in(new, old)
    before, after = _by_edges(old, gone), _by_edges(new, come)
    return {
        paths[0]: after[edges][0] for edges, paths in before.items() if len(paths) == len(after.get(edges, ())) == 1
    }


def _renamed_node(node: NodeShape, renames: Renames) -> NodeShape:
    def name(path: str | None) -> str | None:
        return None if path is None else rename_path(path, renames)

    path = rename_path(node.name, renames)
    return replace(
        node,
        name=path,
        local=path.rpartition("/")[2],
        frame=rename_path(node.frame, renames),
        target=name(node.target),
        routes=tuple((route, rename_path(target, renames), kind) for route, target, kind in node.routes),
        error=name(node.error),
        join=name(node.join),
        branches=tuple(rename_path(target, renames) for target in node.branches),
        entry=name(node.entry),
    )


def _only_in(shape: Shape, other: Shape) -> list[str]:
    """Return the nodes that the other shape has not, but for those in frames that it has not."""
    return [path for path, node in shape.nodes.items() if path not in other.nodes and _is_kept(node.frame, other)]


def _is_kept(frame: str, other: Shape) -> bool:
    return not frame or frame in other.nodes


def _by_edges(shape: Shape, unsettled: list[str]) -> dict[tuple[object, ...], list[str]]:
    """Group nodes by frame, kind and edges; one of them at the other end of an edge counts as something there."""
    sources: dict[str, list[str]] = {}
    for path, node in shape.nodes.items():
        for target in next_nodes(node):
            sources.setdefault(target, []).append(path)
    entries = {shape.entry, *(node.entry for node in shape.nodes.values())}
    names = frozenset(unsettled)

    def end(target: str | None) -> str:
        return "?" if target in names else str(target)

    found: dict[tuple[object, ...], list[str]] = {}
    for path in unsettled:
        node = shape.nodes[path]
        edges = (
            _frame(path),
            node.kind,
            node.signal,
            end(node.target),
            tuple((repr(route), end(target)) for route, target, _ in node.routes),
            end(node.error),
            end(node.join),
            tuple(end(target) for target in node.branches),
            tuple(sorted(end(source) for source in sources.get(path, ()))),
            path in entries,
        )
        found.setdefault(edges, []).append(path)
    return found


def _frame(path: str) -> str:
    return path.rpartition("/")[0]


def _listed(shape: Shape) -> str:
    names: Mapping[str, NodeShape] = shape.nodes
    first = list(names)[:20]
    return ", ".join(first) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
