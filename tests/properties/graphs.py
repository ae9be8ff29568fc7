"""The graphs that are built from the descriptions that Hypothesis draws."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeAlias

from graph_specs import STOPS, Await, Decided, Flow, Fork, Loop, Part, Pause, Spec, Spread, Step, Sub
from pydantic import BaseModel

from beluga_graph import END, START, Context, Failure, Graph, Limits, Node, Retry, add, append, maximum, union
from beluga_graph.plan.declared import MISSING

__all__ = ["Probe", "build"]


class Ledger(BaseModel):
    """The state: a field for each kind of reducer, and one that is simply set."""

    total: Annotated[int, add] = 0
    trail: Annotated[list[str], append] = []
    seen: Annotated[set[int], union] = set()
    top: Annotated[int, maximum] = 0
    note: str = ""


class Broken(Exception):
    """The error of scripted nodes."""


Probe: TypeAlias = Callable[[Context], Awaitable[None]]
"""A function that each body calls first: a test counts the call there, and may delay it."""

Exits: TypeAlias = list[Node[Any, Any]]

_LIMITS = Limits(max_interruptions=1000)


def build(spec: Spec, probe: Probe, name: str = "random") -> Graph:
    """Return the graph of a description."""
    graph = Graph(name, state=Ledger if spec.has_state else None, limits=_LIMITS)
    _Builder(graph, probe).whole(spec.flow, spec.stop)
    return graph


class _Builder:
    def __init__(self, graph: Graph, probe: Probe) -> None:
        self.graph = graph
        self.probe = probe

    def whole(self, flow: Flow, stop: str) -> None:
        entry, exits = self.flow(flow)
        self.graph.edge(START, entry)
        if stop:
            halt = self.function("halt", lambda ctx, value: _number(value))
            self.graph.on_signal(self.graph, stop, halt)
            exits.append(halt)
        self.lead(exits, END)

    def flow(self, flow: Flow) -> tuple[Node[Any, Any], Exits]:
        entry, exits = self.part(flow[0])
        for part in flow[1:]:
            following, left = self.part(part)
            self.lead(exits, following)
            exits = left
        return entry, exits

    def lead(self, exits: Exits, target: Any) -> None:
        for node in exits:
            self.graph.edge(node, target)

    def part(self, part: Part) -> tuple[Node[Any, Any], Exits]:
        match part:
            case Step():
                return self.step(part)
            case Fork():
                return self.fork(part)
            case Loop():
                return self.loop(part)
            case Spread():
                return self.spread(part)
            case Sub():
                return self.sub(part)
            case Pause():
                node = self.graph.timer(part.name, Decided(0) if part.decides else 0)
                return node, [node]
            case Await():
                default = 3 if part.has_default else MISSING
                node = self.graph.wait(part.name, part.name, timeout=part.timeout, default=default)
                return node, [node, *self.stopped(node, part.stop)]

    def function(self, name: str, body: Any, retry: Retry | None = None, *, asks: bool = False) -> Node[Any, Any]:
        async def call(ctx: Context, value: Any) -> Any:
            await self.probe(ctx)
            return body(ctx, value)

        return self.graph.node(name=name, retry=retry, requires_approval=asks)(call)

    def mended(self, node: Node[Any, Any]) -> Exits:
        """Add an error edge to a node that turns the failure into a number; return the node at which both continue."""
        mend = self.function(f"{node.name}.mend", lambda ctx, value: _number(value))
        self.graph.on_error(node, mend)
        return [node, mend]

    def stopped(self, node: Node[Any, Any], stop: str) -> Exits:
        """Let a signal interrupt a node; return the node that handles it, if there is a signal."""
        if not stop:
            return []
        handler = self.function(f"{node.name}.stop", lambda ctx, value: _number(value))
        self.graph.on_signal(node, stop, handler, type=int if stop == STOPS[0] else None)
        return [handler]

    def step(self, part: Step) -> tuple[Node[Any, Any], Exits]:
        retry = Retry(attempts=part.attempts, initial=0) if part.attempts else None
        node = self.function(part.name, _body(part), retry, asks=part.asks)
        exits = self.mended(node) if part.handled else [node]
        return node, exits + self.stopped(node, part.stop)

    def fork(self, part: Fork) -> tuple[Node[Any, Any], Exits]:
        source = self.function(part.name, lambda ctx, value: _number(value))
        entries, exits = [], []
        for arm in part.arms:
            entry, left = self.flow(arm)
            entries.append(entry)
            exits += left
        self.graph.branch(source, lambda value: value % len(entries), dict(enumerate(entries)))
        return source, exits

    def loop(self, part: Loop) -> tuple[Node[Any, Any], Exits]:
        entry, exits = self.flow(part.body)
        turn = self.function(part.name, lambda ctx, value: _number(value))
        leave = self.function(f"{part.name}.out", lambda ctx, value: value)
        self.lead(exits, turn)

        def again(ctx: Context, value: int) -> bool:
            return _visit(ctx) % (part.times + 1) != 0

        self.graph.branch(turn, again, {True: entry, False: leave})
        return entry, [leave]

    def spread(self, part: Spread) -> tuple[Node[Any, Any], Exits]:
        async def gathered(ctx: Context, results: list[Any]) -> int:
            await self.probe(ctx)
            return sum((index + 1) * _number(result) for index, result in enumerate(results)) % 1000

        join = self.graph.join(
            f"{part.name}.join",
            gathered,
            wait=part.wait or "all",
            timeout=part.timeout,
            on_error="collect" if part.collect else "fail",
        )
        entries = []
        for arm in part.arms:
            entry, left = self.flow(arm)
            self.lead(left, join)
            entries.append(entry)

        def items(value: Any) -> list[int]:
            number = _number(value)
            return [number + index for index in range(number % 5)]

        node: Node[Any, Any] = self.graph.fan_out(
            part.name,
            to=entries[0] if part.over else entries,
            over=items if part.over else None,
            join=join,
            max_concurrency=part.at_once,
        )
        stopped = self.stopped(node, part.stop)
        if part.handled:
            return node, [join, *self.mended(node)[1:], *stopped]
        return node, [join, *stopped]

    def sub(self, part: Sub) -> tuple[Node[Any, Any], Exits]:
        inside = Graph(part.name, state=Ledger if part.has_state else None)
        _Builder(inside, self.probe).whole(part.inside, part.inner_stop)
        retry = Retry(attempts=part.attempts, initial=0) if part.attempts else None
        node = self.graph.add(inside, retry=retry, timeout=part.timeout)
        exits = self.mended(node) if part.handled else [node]
        return node, exits + self.stopped(node, part.stop)


def _body(part: Step) -> Callable[[Context, Any], int]:
    def body(ctx: Context, value: Any) -> int:
        number = _number(value) + part.grows
        if part.reads:
            state = ctx.state
            number += state.total + len(state.trail) + len(state.seen) + state.top + len(state.note)
        number %= 1000
        # Written before the failure: an attempt that fails must leave no trace of it.
        if "total" in part.writes:
            ctx.update(total=number)
        if "trail" in part.writes:
            ctx.update(trail=[f"{part.name}:{number}", "and"])
        if "seen" in part.writes:
            ctx.update(seen={number})
        if "top" in part.writes:
            ctx.update(top=number)
        if "note" in part.writes:
            ctx.update(note=f"{part.name}!{number}")
        if ctx.attempt <= part.fails and (not part.mends or _try_of_frame(ctx) == 1):
            raise Broken(f"{part.name} attempt {ctx.attempt} of {number}")
        return number

    return body


def _number(value: Any) -> int:
    if isinstance(value, Failure):
        return sum(value.message.encode()) + value.attempts
    return int(value)


def _visit(ctx: Context) -> int:
    return int(ctx.idempotency_key.rpartition("#")[2])


def _try_of_frame(ctx: Context) -> int:
    """Return how often the frame around a node was begun in its place."""
    *_, last = re.findall(r"#(\d+)\[0\]/", ctx.idempotency_key)
    return int(last)
