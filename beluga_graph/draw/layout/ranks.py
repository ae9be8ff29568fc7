"""Ranks: how far down each node is, which edges go back, and which ranks an edge passes.

The layered drawing of Sugiyama, Tagawa and Toda (1981): ranks, then an order in each rank, then coordinates. Nodes are
on even ranks, labels on odd ranks. Long edges with the same target share a trunk, so that a row of nodes with edges to
the end needs one line, not one line each. An edge that goes back runs up beside the nodes, from below its source to
above its target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from beluga_graph.draw.picture import Picture

__all__ = ["EdgePath", "Items", "Link", "find_back_lines", "rank_nodes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An edge to lay out."""

    source: int
    """Index of a node."""
    target: int
    """Index of a node."""
    label: tuple[float, float] = (0.0, 0.0)
    """Width and height of the label."""
    group: str = ""
    """Edges of one group may share a trunk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgePath:
    """The items that an edge passes between its nodes."""

    items: tuple[int, ...]
    """Indices of items, in order. The first one holds the label."""
    back: bool
    """Whether the edge goes back."""


@dataclass(slots=True)
class Items:
    """The items on ranks: first the nodes, then the points that edges pass."""

    nodes: int
    """Number of items that are nodes."""
    size: list[tuple[float, float]]
    """Width and height, by item."""
    rank: list[int]
    """Rank, by item."""
    up: list[list[int]] = field(default_factory=list)
    """Neighbours on the rank above, by item."""
    down: list[list[int]] = field(default_factory=list)
    """Neighbours on the rank below, by item."""
    beside: dict[int, int] = field(default_factory=dict)
    """The node to keep close to, by item at an end of an edge that goes back."""
    paths: list[EdgePath] = field(default_factory=list)
    """The paths of the edges, in order of the edges."""

    def add(self, rank: int, size: tuple[float, float]) -> int:
        """Add a point that an edge passes; return its index."""
        self.size.append(size)
        self.rank.append(rank)
        self.up.append([])
        self.down.append([])
        return len(self.rank) - 1

    def join(self, above: int, below: int) -> None:
        """Make two items neighbours, once."""
        if below not in self.down[above]:
            self.down[above].append(below)
            self.up[below].append(above)


def find_back_lines(picture: Picture) -> set[str]:
    """Return the ids of the lines that go back within their frame, to close a loop."""
    found: set[str] = set()
    for frame in dict.fromkeys(box.frame for box in picture.boxes):
        boxes = picture.list_boxes(frame)
        number = {box.id: index for index, box in enumerate(boxes)}
        lines = [line for line in picture.lines if line.source in number]
        links = [Link(source=number[line.source], target=number[line.target]) for line in lines]
        back = _find_back_edges(len(boxes), links)
        found |= {line.id for line, is_back in zip(lines, back, strict=True) if is_back}
    return found


def rank_nodes(sizes: Sequence[tuple[float, float]], links: Sequence[Link], thin: float) -> Items:
    """Assign nodes to ranks, with the first node on top, and add the points that their edges pass.

    `thin` is the width reserved for a line without a label.
    """
    back = _find_back_edges(len(sizes), links)
    ranks = _assign_ranks(len(sizes), links, back)
    items = Items(len(sizes), list(sizes), [2 * rank for rank in ranks], [[] for _ in sizes], [[] for _ in sizes])
    trunks: dict[tuple[int, str, bool], dict[int, int]] = {}
    for link, is_back in zip(links, back, strict=True):
        trunk = trunks.setdefault((link.target, link.group, is_back), {})
        add = _add_path_back if is_back else _add_path_down
        items.paths.append(add(items, link, trunk, thin))
    return items


def _add_path_down(items: Items, link: Link, trunk: dict[int, int], thin: float) -> EdgePath:
    first = items.add(items.rank[link.source] + 1, (max(thin, link.label[0]), link.label[1]))
    items.join(link.source, first)
    passed = [first]
    for rank in range(items.rank[link.source] + 2, items.rank[link.target]):
        if rank not in trunk:
            trunk[rank] = items.add(rank, (thin, 0.0))
        items.join(passed[-1], trunk[rank])
        passed.append(trunk[rank])
    items.join(passed[-1], link.target)
    return EdgePath(items=tuple(passed), back=False)


def _add_path_back(items: Items, link: Link, trunk: dict[int, int], thin: float) -> EdgePath:
    first = items.add(items.rank[link.source], (max(thin, link.label[0]), link.label[1]))
    items.beside[first] = link.source
    passed = [first]
    for rank in range(items.rank[link.source] - 1, items.rank[link.target] - 1, -1):
        if rank not in trunk:
            trunk[rank] = items.add(rank, (thin, 0.0))
            items.beside[trunk[rank]] = link.target
        items.join(trunk[rank], passed[-1])
        passed.append(trunk[rank])
    return EdgePath(items=tuple(passed), back=True)


def _find_back_edges(count: int, links: Sequence[Link]) -> list[bool]:
    """Return whether each edge closes a loop, in a depth-first walk from the first node, in order of declaration."""
    out: list[list[int]] = [[] for _ in range(count)]
    for number, link in enumerate(links):
        out[link.source].append(number)
    back = [link.source == link.target for link in links]
    state = [0] * count  # 1: on the current path; 2: done
    for root in range(count):
        if state[root]:
            continue
        state[root] = 1
        todo = [(root, iter(out[root]))]
        while todo:
            node, edges = todo[-1]
            for number in edges:
                target = links[number].target
                if state[target] == 1:
                    back[number] = True
                elif not state[target]:
                    state[target] = 1
                    todo.append((target, iter(out[target])))
                    break
            else:
                state[node] = 2
                todo.pop()
    return back


def _assign_ranks(count: int, links: Sequence[Link], back: Sequence[bool]) -> list[int]:
    """Return the rank of each node: the length of the longest path to it."""
    out: list[list[int]] = [[] for _ in range(count)]
    missing = [0] * count
    for link, is_back in zip(links, back, strict=True):
        if not is_back:
            out[link.source].append(link.target)
            missing[link.target] += 1
    ranks = [0] * count
    ready = [node for node in range(count) if not missing[node]]
    for node in ready:
        for target in out[node]:
            ranks[target] = max(ranks[target], ranks[node] + 1)
            missing[target] -= 1
            if not missing[target]:
                ready.append(target)
    return ranks
