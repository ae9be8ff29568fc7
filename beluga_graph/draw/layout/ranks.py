"""Nodes on ranks: which edges lead back, how far down each node stands, and what an edge passes on its way.

The layered drawing of Sugiyama, Tagawa and Toda (1981): ranks, then an order in each rank, then coordinates. Nodes
stand on even ranks; odd ranks hold labels. Long edges with one target share a trunk, so a row of nodes that all lead
to the end costs one line and not one each. An edge that leads back goes up beside the nodes, from under its source
to above its target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from beluga_graph.draw.picture import Picture

__all__ = ["Items", "Link", "Way", "back_lines", "items_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An edge to lay out: indices of its nodes, the size of its label, and what may share a trunk."""

    source: int
    target: int
    label: tuple[float, float] = (0.0, 0.0)
    group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """What an edge passes between its nodes, in order; the first is where its label stands."""

    items: tuple[int, ...]
    back: bool


@dataclass(slots=True)
class Items:
    """What stands on ranks: the nodes first, then what edges pass. Neighbours are on the next rank up or down."""

    nodes: int
    """How many of the items are nodes."""
    size: list[tuple[float, float]]
    rank: list[int]
    up: list[list[int]] = field(default_factory=list)
    down: list[list[int]] = field(default_factory=list)
    beside: dict[int, int] = field(default_factory=dict)
    """Of the ends of an edge that leads back: the node to stand beside."""
    ways: list[Way] = field(default_factory=list)

    def add(self, rank: int, size: tuple[float, float]) -> int:
        """Add something that an edge passes."""
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


def back_lines(picture: Picture) -> set[str]:
    """Return the ids of the lines that lead back, each told within its own frame."""
    found: set[str] = set()
    for frame in dict.fromkeys(box.frame for box in picture.boxes):
        boxes = picture.inside(frame)
        number = {box.id: index for index, box in enumerate(boxes)}
        lines = [line for line in picture.lines if line.source in number]
        links = [Link(source=number[line.source], target=number[line.target]) for line in lines]
        back = _leads_back(len(boxes), links)
        found |= {line.id for line, is_back in zip(lines, back, strict=True) if is_back}
    return found


def items_of(sizes: Sequence[tuple[float, float]], links: Sequence[Link], thin: float) -> Items:
    """Put nodes on ranks, the first node on top, and add what their edges pass. `thin` is the width of a bare line."""
    back = _leads_back(len(sizes), links)
    ranks = _ranks(len(sizes), links, back)
    items = Items(len(sizes), list(sizes), [2 * rank for rank in ranks], [[] for _ in sizes], [[] for _ in sizes])
    trunks: dict[tuple[int, str, bool], dict[int, int]] = {}
    for link, leads_back in zip(links, back, strict=True):
        trunk = trunks.setdefault((link.target, link.group, leads_back), {})
        add = _way_back if leads_back else _way_down
        items.ways.append(add(items, link, trunk, thin))
    return items


def _way_down(items: Items, link: Link, trunk: dict[int, int], thin: float) -> Way:
    first = items.add(items.rank[link.source] + 1, (max(thin, link.label[0]), link.label[1]))
    items.join(link.source, first)
    passed = [first]
    for rank in range(items.rank[link.source] + 2, items.rank[link.target]):
        if rank not in trunk:
            trunk[rank] = items.add(rank, (thin, 0.0))
        items.join(passed[-1], trunk[rank])
        passed.append(trunk[rank])
    items.join(passed[-1], link.target)
    return Way(items=tuple(passed), back=False)


def _way_back(items: Items, link: Link, trunk: dict[int, int], thin: float) -> Way:
    first = items.add(items.rank[link.source], (max(thin, link.label[0]), link.label[1]))
    items.beside[first] = link.source
    passed = [first]
    for rank in range(items.rank[link.source] - 1, items.rank[link.target] - 1, -1):
        if rank not in trunk:
            trunk[rank] = items.add(rank, (thin, 0.0))
            items.beside[trunk[rank]] = link.target
        items.join(trunk[rank], passed[-1])
        passed.append(trunk[rank])
    return Way(items=tuple(passed), back=True)


def _leads_back(count: int, links: Sequence[Link]) -> list[bool]:
    """Return for each edge whether it closes a loop: walked from the first node, in the order of declaration."""
    out: list[list[int]] = [[] for _ in range(count)]
    for number, link in enumerate(links):
        out[link.source].append(number)
    back = [link.source == link.target for link in links]
    state = [0] * count  # 1: on the way that is walked; 2: done
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


def _ranks(count: int, links: Sequence[Link], back: Sequence[bool]) -> list[int]:
    """Return how far down each node stands: as far as the longest way to it."""
    out: list[list[int]] = [[] for _ in range(count)]
    missing = [0] * count
    for link, leads_back in zip(links, back, strict=True):
        if not leads_back:
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
