"""Renames of nodes in a changed graph: to check, apply and guess them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from beluga_graph.errors import BadRename
from beluga_graph.kernel.renames import rename_path
from beluga_graph.kernel.shape import InterruptShape, NodeShape, Shape
from beluga_graph.kernel.types import Renames
from beluga_graph.plan.approvals import APPROVAL, ASKS
from beluga_graph.plan.diff import next_nodes

__all__ = ["add_question_renames", "check_new_names", "guess_renames", "rename_shape"]


def add_question_renames(old: Shape, new: Shape, renames: Renames) -> Renames:
    """Return the renames with those of the nodes that ask about a renamed node, unless they are named themselves."""
    named = {before for before, _ in renames}
    more = tuple(
        (before + asking, after + asking)
        for before, after in renames
        for asking in (ASKS, APPROVAL)
        if before + asking in old.nodes and after + asking in new.nodes and before + asking not in named
    )
    return renames + more


def rename_shape(old: Shape, new: Shape, renames: Renames) -> Shape:
    """Return the old shape with the names that its nodes have in the new shape. Raises `BadRename`."""
    if not renames:
        return old
    for before, after in renames:
        if before not in old.nodes:
            rule = "the graph of the run has no such node"
            raise BadRename(old.name, f"rename of {before!r}", rule, f"its nodes are {_list_nodes(old)}")
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
    nodes = (_rename_node(node, renames) for node in old.nodes.values())
    return replace(
        old,
        entry=rename_path(old.entry, renames),
        nodes={node.name: node for node in nodes},
        interrupts=_rename_interrupts(old.interrupts, renames),
    )


def check_new_names(new: Shape, renames: Renames) -> None:
    """Check that the new graph has the new names. Raises `BadRename`."""
    for before, after in renames:
        if after not in new.nodes:
            rule = f"the new graph has no node {after!r}"
            raise BadRename(new.name, f"rename of {before!r}", rule, f"its nodes are {_list_nodes(new)}")


def guess_renames(old: Shape, new: Shape) -> dict[str, str]:
    """Guess renames: a node was removed, and exactly one node of its kind and with its edges was added.

    The nodes inside a renamed frame are renamed with it and are not named.
    """
    removed, added = _only_in(old, new), _only_in(new, old)
    before, after = _by_edges(old, removed), _by_edges(new, added)
    return {
        paths[0]: after[edges][0] for edges, paths in before.items() if len(paths) == len(after.get(edges, ())) == 1
    }


def _rename_node(node: NodeShape, renames: Renames) -> NodeShape:
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
        interrupts=_rename_interrupts(node.interrupts, renames),
        inner_interrupts=_rename_interrupts(node.inner_interrupts, renames),
        join=name(node.join),
        branches=tuple(rename_path(target, renames) for target in node.branches),
        entry=name(node.entry),
    )


def _rename_interrupts(edges: tuple[InterruptShape, ...], renames: Renames) -> tuple[InterruptShape, ...]:
    return tuple(
        (signal, rename_path(target, renames), tuple(rename_path(node, renames) for node in exempt))
        for signal, target, exempt in edges
    )


def _only_in(shape: Shape, other: Shape) -> list[str]:
    """Return the nodes that only this shape has, except for those inside frames that only this shape has."""
    return [path for path, node in shape.nodes.items() if path not in other.nodes and _is_kept(node.frame, other)]


def _is_kept(frame: str, other: Shape) -> bool:
    return not frame or frame in other.nodes


def _by_edges(shape: Shape, unsettled: list[str]) -> dict[tuple[object, ...], list[str]]:
    """Group nodes by frame, kind and edges. At the other end of an edge, all unsettled nodes count as equal."""
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
            tuple((signal, end(target)) for signal, target, _ in node.interrupts),
            end(node.join),
            tuple(end(target) for target in node.branches),
            tuple(sorted(end(source) for source in sources.get(path, ()))),
            path in entries,
        )
        found.setdefault(edges, []).append(path)
    return found


def _frame(path: str) -> str:
    return path.rpartition("/")[0]


def _list_nodes(shape: Shape) -> str:
    names: Mapping[str, NodeShape] = shape.nodes
    first = list(names)[:20]
    return ", ".join(first) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
