"""One level of a drawing as geometry: the positions of nodes and labels, and the routes of edges.

Every rank is a band. A line crosses a band only vertically, in a position of its own, and bends only in the empty gap
between two bands. So no line runs through a node or a label, and nodes and labels never cover each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from beluga_graph.draw.layout.ordering import order_ranks, place_items
from beluga_graph.draw.layout.ranks import EdgePath, Items, Link, rank_nodes

__all__ = ["Level", "Move", "Route", "arrange"]

THIN = 10.0  # the width reserved for a line without a label
GAP = 24.0  # between neighbours in a rank
BETWEEN = 17.0  # between a band and the next
TURN = 7.0  # between the turns of two lines in one gap
PORT = 18.0  # between two lines at one side of a node

Move = tuple[float, ...]
"""`(x, y)`: a straight line to a point; `(x1, y1, x2, y2, x, y)`: a cubic curve to the last of three points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The route of one edge."""

    start: tuple[float, float]
    """The point where it begins."""
    moves: tuple[Move, ...]
    """Its moves, in order."""
    label: tuple[float, float]
    """The middle of its label."""
    back: bool
    """Whether it goes back up, to close a loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """The geometry of one frame."""

    size: tuple[float, float]
    """Width and height."""
    nodes: tuple[tuple[float, float], ...]
    """The middles of the nodes."""
    routes: tuple[Route, ...]
    """The routes of the edges."""


def arrange(sizes: Sequence[tuple[float, float]], links: Sequence[Link]) -> Level:
    """Lay out nodes of these sizes, with the first on top. Equal input gives equal output."""
    items = rank_nodes(sizes, links, THIN)
    layers = order_ranks(items)
    return _Plotter(items, layers, place_items(items, layers, GAP), links).plot(len(sizes))


class _Plotter:
    """Plots the routes of edges between bands whose items have their order and positions."""

    def __init__(
        self, items: Items, layers: Sequence[Sequence[int]], x: Sequence[float], links: Sequence[Link]
    ) -> None:
        self.items = items
        self.links = links
        self.x = x
        self.turns = self._assign_turns()
        self.top: list[float] = []
        self.bottom: list[float] = []
        y = 0.0
        for rank, layer in enumerate(layers):
            y += (BETWEEN if rank else 0.0) + TURN * len(self.turns.get((rank, "above"), ()))
            self.top.append(y)
            y += max((items.size[item][1] for item in layer), default=0.0)
            self.bottom.append(y)
            y += TURN * len(self.turns.get((rank, "below"), ()))
        self.height = y
        self.ports = self._assign_ports()

    def plot(self, count: int) -> Level:
        """Return the geometry of the first `count` items, which are nodes, and of all edges."""
        width = max(x + size[0] / 2 for x, size in zip(self.x, self.items.size, strict=True))
        nodes = tuple((self.x[node], self._find_middle(node)) for node in range(count))
        routes = tuple(self._plot_route(link, path) for link, path in zip(self.links, self.items.paths, strict=True))
        return Level(size=(round(width, 1), round(self.height, 1)), nodes=nodes, routes=routes)

    def _find_middle(self, item: int) -> float:
        rank = self.items.rank[item]
        return (self.top[rank] + self.bottom[rank]) / 2

    def _assign_turns(self) -> dict[tuple[int, str], dict[tuple[int, int], int]]:
        """Assign each line that goes back a height of its own in the gaps where it turns."""
        turns: dict[tuple[int, str], dict[tuple[int, int], int]] = {}
        for link, path in zip(self.links, self.items.paths, strict=True):
            if path.back:
                for node, item, side in ((link.source, path.items[0], "below"), (link.target, path.items[-1], "above")):
                    heights = turns.setdefault((self.items.rank[node], side), {})
                    heights.setdefault((node, item), len(heights))
        return turns

    def _assign_ports(self) -> dict[tuple[int, str, int], float]:
        """Assign each line at a side of a node a position of its own, in the order of the lines' next items."""
        sides: dict[tuple[int, str], dict[int, None]] = {}
        for link, path in zip(self.links, self.items.paths, strict=True):
            sides.setdefault((link.source, "below"), {})[path.items[0]] = None
            sides.setdefault((link.target, "above"), {})[path.items[-1]] = None
        ports: dict[tuple[int, str, int], float] = {}
        for (node, side), near in sides.items():
            lines = sorted(near, key=lambda item: self.x[item])
            if len(lines) == 1 and abs(self.x[lines[0]] - self.x[node]) <= min(PORT / 2, self.items.size[node][0] / 4):
                ports[node, side, lines[0]] = self.x[lines[0]]  # make an almost straight line straight
                continue
            room = min(PORT, max(0.0, self.items.size[node][0] - PORT) / max(1, len(lines) - 1))
            for number, item in enumerate(lines):
                ports[node, side, item] = self.x[node] + (number - (len(lines) - 1) / 2) * room
        return ports

    def _plot_route(self, link: Link, path: EdgePath) -> Route:
        first, last = path.items[0], path.items[-1]
        out, into = self.ports[link.source, "below", first], self.ports[link.target, "above", last]
        foot = self._find_middle(link.source) + self.items.size[link.source][1] / 2
        head = self._find_middle(link.target) - self.items.size[link.target][1] / 2
        moves: list[Move] = []
        if path.back:
            self._turn(moves, link.source, first, out, below=True)
            for item in path.items:
                self._cross_band(moves, item, up=True)
            self._turn(moves, link.target, last, into, below=False)
        else:
            moves.append((out, self.bottom[self.items.rank[link.source]]))
            for item in path.items:
                self._cross_band(moves, item, up=False)
            self._bend(moves, into, self.top[self.items.rank[link.target]])
        moves.append((into, head))
        return Route(
            start=(_round(out), _round(foot)),
            moves=_merge_moves(moves),
            label=(_round(self.x[first]), _round(self._find_middle(first))),
            back=path.back,
        )

    def _cross_band(self, moves: list[Move], item: int, *, up: bool) -> None:
        """Bend to the position of an item, and cross its band. A band without height needs no crossing."""
        rank = self.items.rank[item]
        if self.top[rank] == self.bottom[rank]:
            return
        enter, leave = (self.bottom[rank], self.top[rank]) if up else (self.top[rank], self.bottom[rank])
        self._bend(moves, self.x[item], enter)
        moves.append((self.x[item], leave))

    def _bend(self, moves: list[Move], x: float, y: float) -> None:
        from_x, from_y = moves[-1][-2:]
        if from_x == x or from_y == y:
            moves.append((x, y))
        else:
            half = (from_y + y) / 2
            moves.append((from_x, half, x, half, x, y))

    def _turn(self, moves: list[Move], node: int, item: int, port: float, *, below: bool) -> None:
        """Turn below a node to go up beside it, or above a node to come down on it."""
        rank = self.items.rank[node]
        number = self.turns[rank, "below" if below else "above"][node, item]
        x, reach = self.x[item], 4.0 + TURN * number
        if below:
            base = self.bottom[rank]
            level = base + reach
            moves += [(port, base), *_draw_corners(port, base, x, level), (x, base)]
        else:
            base = self.top[rank]
            level = base - reach
            moves += [*_draw_corners(x, base, port, level), (port, base)]


def _merge_moves(moves: Sequence[Move]) -> tuple[Move, ...]:
    """Return the moves, rounded, with consecutive vertical moves in one column merged."""
    found: list[Move] = []
    for move in moves:
        rounded = tuple(_round(part) for part in move)
        column = [len(found[-1]), found[-1][0], found[-2][-2]] if len(found) > 1 else []
        if len(rounded) == 2 and column == [2, rounded[0], rounded[0]]:
            found.pop()
        found.append(rounded)
    return tuple(found)


def _draw_corners(from_x: float, base: float, to_x: float, level: float) -> list[Move]:
    """Go from a base to a level, along the level, and back to the base: two rounded corners."""
    side = 1.0 if to_x > from_x else -1.0
    bow = min(abs(level - base), abs(to_x - from_x) / 2) * side
    return [
        (from_x, level, from_x, level, from_x + bow, level),
        (to_x - bow, level),
        (to_x, level, to_x, level, to_x, base),
    ]


def _round(number: float) -> float:
    return round(number, 1)
