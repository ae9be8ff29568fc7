"""The order of items in each rank, with few crossings, and their horizontal positions, close to their neighbours.

Sweeps sort each rank by the mean position of its neighbours; the best result of all sweeps is used. Positions minimise
the squared distance to the neighbours' positions, subject to minimum gaps: an isotonic regression, solved exactly for
each rank by pooling adjacent violators.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from beluga_graph.draw.layout.ranks import Items

__all__ = ["order_ranks", "place_items"]

_SWEEPS = 12
_ROUNDS = 14
_STRAIGHT, _LOOSE = 8.0, 0.2  # weights: along a long line; of an item without neighbours, to stay where it is
_EDGE = 1e-3  # keeps an item just to the right of its node


def order_ranks(items: Items) -> list[list[int]]:
    """Return each rank's items from left to right."""
    layers: list[list[int]] = [[] for _ in range(max(items.rank) + 1)]
    for item in _walk_items(items):
        layers[items.rank[item]].append(item)
    best, fewest = [list(layer) for layer in layers], _count_crossings(items, layers)
    place = [0.0] * len(items.rank)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        down = sweep % 2 == 0
        for layer in layers:
            _number_items(layer, place)
        for layer in layers if down else reversed(layers):
            _sort_rank(layer, items.up if down else items.down, items, place)
            _number_items(layer, place)
        crossings = _count_crossings(items, layers)
        if crossings < fewest:
            best, fewest = [list(layer) for layer in layers], crossings
    return best


def _walk_items(items: Items) -> list[int]:
    """Return all items in the order of a walk down from the first; items beside a node follow the node at once."""
    beside: dict[int, list[int]] = {}
    for item, node in items.beside.items():
        if items.rank[item] == items.rank[node]:
            beside.setdefault(node, []).append(item)
    met: dict[int, None] = {}
    for root in range(len(items.rank)):
        todo = [root]
        while todo:
            item = todo.pop()
            if item in met:
                continue
            met[item] = None
            todo += reversed(items.down[item])
            todo += reversed(beside.get(item, []))
    return list(met)


def _number_items(layer: Sequence[int], place: list[float]) -> None:
    for number, item in enumerate(layer):
        place[item] = float(number)


def _sort_rank(layer: list[int], neighbours: Sequence[Sequence[int]], items: Items, place: list[float]) -> None:
    pulled: dict[int, float] = {}
    for item in layer:
        near = neighbours[item]
        pulled[item] = sum(place[other] for other in near) / len(near) if near else place[item]
    for item in layer:
        node = items.beside.get(item)
        if node in pulled and not neighbours[item]:
            pulled[item] = pulled[node] + _EDGE
    layer.sort(key=lambda item: pulled[item])


def _count_crossings(items: Items, layers: Sequence[Sequence[int]]) -> int:
    """Count the crossings between adjacent ranks, as inversions, with a binary indexed tree."""
    total = 0
    for upper, lower in pairwise(layers):
        place = {item: number for number, item in enumerate(lower, 1)}
        tree = [0] * (len(lower) + 1)
        seen = 0
        for item in upper:
            ends = sorted(place[below] for below in items.down[item])
            for end in ends:
                left, at = 0, end
                while at:
                    left += tree[at]
                    at -= at & -at
                total += seen - left
            for end in ends:
                at = end
                while at <= len(lower):
                    tree[at] += 1
                    at += at & -at
                seen += 1
    return total


def place_items(items: Items, layers: Sequence[Sequence[int]], gap: float) -> list[float]:
    """Return the horizontal middle of each item; 0 is the left edge. Neighbours in a rank are `gap` or more apart."""
    x = [0.0] * len(items.rank)
    for layer in layers:
        at = 0.0
        for item in layer:
            x[item] = at + items.size[item][0] / 2
            at += items.size[item][0] + gap
    for number in range(_ROUNDS):
        down = number % 2 == 0
        for layer in layers if down else reversed(layers):
            _settle_rank(layer, items, x, gap, both=number >= 4, down=down)
    _straighten(items, layers, x, gap)
    least = min(x[item] - items.size[item][0] / 2 for item in range(len(x)))
    return [round(at - least, 1) for at in x]


def _straighten(items: Items, layers: Sequence[Sequence[int]], x: list[float], gap: float) -> None:
    """Move the items of each line to one position as far as there is room, so that it bends only where it must."""
    left: dict[int, int] = {}
    right: dict[int, int] = {}
    for layer in layers:
        left.update(zip(layer[1:], layer, strict=False))
        right.update(pairwise(layer))

    def find_room(item: int) -> tuple[float, float]:
        low, high = float("-inf"), float("inf")
        if item in left:
            low = x[left[item]] + (items.size[left[item]][0] + items.size[item][0]) / 2 + gap
        if item in right:
            high = x[right[item]] - (items.size[right[item]][0] + items.size[item][0]) / 2 - gap
        return low, high

    for path in sorted(items.paths, key=lambda path: -len(path.items)):
        straight: list[int] = []
        low, high = float("-inf"), float("inf")
        for item in (*path.items, None):
            least, most = (1.0, 0.0) if item is None else find_room(item)
            if straight and max(low, least) > min(high, most):
                mean = sum(x[passed] for passed in straight) / len(straight)
                for passed in straight:
                    x[passed] = min(max(mean, low), high)
                straight, low, high = [], float("-inf"), float("inf")
                if item is not None:
                    least, most = find_room(item)
            if item is not None:
                straight.append(item)
                low, high = max(low, least), min(high, most)


def _settle_rank(layer: Sequence[int], items: Items, x: list[float], gap: float, *, both: bool, down: bool) -> None:
    """Move the items of a rank towards their neighbours, as far as the minimum gaps allow."""
    offset, pools = 0.0, []  # a pool: sum of weights, weighted sum of positions, number of items
    offsets = []
    last: int | None = None
    for item in layer:
        if last is not None:
            offset += (items.size[last][0] + items.size[item][0]) / 2 + gap
        last = item
        offsets.append(offset)
        weight, pull = _find_pull(item, items, x, gap, both=both, down=down)
        pools.append([weight, weight * (pull - offset), 1])
        while len(pools) > 1 and pools[-2][1] * pools[-1][0] > pools[-1][1] * pools[-2][0]:
            weight, moment, count = pools.pop()
            pools[-1][0] += weight
            pools[-1][1] += moment
            pools[-1][2] += count
    number = 0
    for weight, moment, count in pools:
        for _ in range(int(count)):
            x[layer[number]] = moment / weight + offsets[number]
            number += 1


def _find_pull(item: int, items: Items, x: list[float], gap: float, *, both: bool, down: bool) -> tuple[float, float]:
    """Return the weight and the position of the pull on an item. The items of a long line pull each other straight."""
    up, below = items.up[item], items.down[item]
    near = [*up, *below] if both else (up if down else below)
    node = items.beside.get(item)
    if not near:
        if node is not None and items.rank[node] == items.rank[item]:
            return 1.0, x[node] + (items.size[node][0] + items.size[item][0]) / 2 + gap
        return _LOOSE, x[item]
    weight = moment = 0.0
    for other in near:
        pull = _STRAIGHT if item >= items.nodes and other >= items.nodes else 1.0
        weight += pull
        moment += pull * x[other]
    return weight, moment / weight
