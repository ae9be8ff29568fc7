"""Random structured graphs: a description that Hypothesis draws, and the graph that is built from it.

A description is plain, frozen and complete, so the same graph can be built again for another engine, after a crash, or
in another process. Bodies are functions of their value, their attempt and their state, so the graph alone decides what
a run does. The caller chooses whether timing may decide something:

* *settled* graphs have no race: a final failure inside of a fan-out is handled inside of its branch or collected, and
  every join waits for all branches.
* *racy* graphs may fail anywhere, joins may take the first k, and joins, waits and sub-flows may run out of time.
  Signals may interrupt steps, waits, fan-outs, sub-flows, and whole graphs.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from hypothesis import strategies as st
from pydantic import BaseModel

from beluga_graph import END, START, Context, Failure, Graph, Limits, Node, Retry, add, append, maximum, union
from beluga_graph.plan.declared import MISSING

__all__ = ["STOPS", "Flow", "Probe", "Spec", "build", "racy_specs", "settled_specs"]


STOPS = ("stop", "halt!")  # the signals that interrupt; the payload of the first is checked at some edges


class Ledger(BaseModel):
    """The state: a field for each kind of reducer, and one that is simply set."""

    total: Annotated[int, add] = 0
    trail: Annotated[list[str], append] = []
    seen: Annotated[set[int], union] = set()
    top: Annotated[int, maximum] = 0
    note: str = ""


class Broken(Exception):
    """The error of scripted nodes."""


# The description.


@dataclass(frozen=True)
class Decided:
    """A function that decides a time."""

    seconds: float | None

    def __call__(self, value: Any) -> float | None:
        """Return the time, whatever the value is."""
        return self.seconds


Timeout: TypeAlias = float | Decided | None


@dataclass(frozen=True)
class Step:
    """One function. It fails on its first `fails` attempts; with `mends`, only in the first try of its frame.

    If it `asks`, a person must approve it first, who at first rejects it if the name ends in `.no`.
    """

    name: str
    grows: int
    writes: tuple[str, ...] = ()
    reads: bool = False
    fails: int = 0
    attempts: int | None = None
    handled: bool = False
    mends: bool = False
    asks: bool = False
    stop: str = ""  # the signal that interrupts it


@dataclass(frozen=True)
class Fork:
    """A conditional branch: the value chooses an arm."""

    name: str
    arms: tuple[Flow, ...]


@dataclass(frozen=True)
class Loop:
    """The body, once and then `times` more times."""

    name: str
    times: int
    body: Flow


@dataclass(frozen=True)
class Spread:
    """A fan-out over arms (`over` false), or over `value % 5` items with the one arm."""

    name: str
    arms: tuple[Flow, ...]
    over: bool = False
    wait: int | None = None
    collect: bool = False
    at_once: int | None = None
    handled: bool = False
    timeout: Timeout = None
    stop: str = ""


@dataclass(frozen=True)
class Sub:
    """A sub-flow, with or without a state of its own."""

    name: str
    inside: Flow
    has_state: bool
    attempts: int | None = None
    handled: bool = False
    timeout: Timeout = None
    stop: str = ""
    inner_stop: str = ""  # the signal that interrupts the graph inside


@dataclass(frozen=True)
class Pause:
    """A timer of no length: it fires as soon as it is looked at. A function may decide that."""

    name: str
    decides: bool = False


@dataclass(frozen=True)
class Await:
    """A wait for a signal that no other node waits for."""

    name: str
    timeout: Timeout = None
    has_default: bool = False
    stop: str = ""


Part: TypeAlias = Step | Fork | Loop | Spread | Sub | Pause | Await
Flow: TypeAlias = tuple[Part, ...]


@dataclass(frozen=True)
class Spec:
    """A whole graph."""

    flow: Flow
    has_state: bool
    stop: str = ""  # the signal that interrupts the whole graph


# Drawing one.


@dataclass(frozen=True)
class _Where:
    """The parts that may be drawn at a place."""

    depth: int
    racy: bool
    may_fail: bool = True  # a failure may leave the flow
    has_state: bool = True
    may_set: bool = True  # the field without a reducer may be set: by one branch only
    alone: bool = True  # no other branch runs the same nodes, so a wait here gets all signals of its name
    in_retried: bool = False


_WRITES = (("trail",), (), ("total", "trail"), ("note",), ("seen", "top"), ("trail", "note", "total"), ("top",))


@st.composite
def _specs(draw: Any, *, racy: bool) -> Spec:
    names = iter(range(10_000))
    has_state = draw(st.sampled_from([True, True, False]))
    where = _Where(depth=3, racy=racy, has_state=has_state)
    return Spec(_flow(draw, names, where), has_state, _stop(draw, where))


def settled_specs() -> st.SearchStrategy[Spec]:
    """Return a strategy for graphs in which timing decides nothing."""
    return _specs(racy=False)


def racy_specs() -> st.SearchStrategy[Spec]:
    """Return a strategy for graphs in which the order of completion may decide the outcome."""
    return _specs(racy=True)


def _flow(draw: Any, names: Any, where: _Where) -> Flow:
    length = draw(st.integers(1, 3 if where.depth == 3 else 2))
    return tuple(_part(draw, names, where) for _ in range(length))


def _part(draw: Any, names: Any, where: _Where) -> Part:
    kinds = ["step", "step", "pause"]
    if where.alone:
        kinds.append("await")
    if where.depth:
        kinds += ["spread", "map", "sub", "fork", "loop", "spread", "map", "sub"]
    kind = draw(st.sampled_from(kinds))
    name = f"{kind}{next(names)}"
    return _DRAWN[kind](draw, names, name, where)


def _deeper(where: _Where, **more: Any) -> _Where:
    return _Where(**{**vars(where), "depth": where.depth - 1, **more})


def _step(draw: Any, names: Any, name: str, where: _Where) -> Step:
    writes: tuple[str, ...] = ()
    if where.has_state:
        writes = draw(st.sampled_from(_WRITES))
        if not where.may_set:
            writes = tuple(field for field in writes if field != "note")
    reads = where.has_state and draw(st.booleans())
    attempts = draw(st.sampled_from([None, None, 2, 3]))
    handled = draw(st.integers(0, 3)) == 0
    asks = draw(st.integers(0, 5)) == 0
    if asks and (handled or where.may_fail) and draw(st.booleans()):
        name = f"{name}.no"
    most = 4 if handled or where.may_fail else (attempts or 1) - 1
    fails = min(most, draw(st.sampled_from([0, 0, 0, 0, 1, 2, 3])))
    if where.in_retried and not handled and draw(st.booleans()):
        return Step(name, draw(st.integers(0, 9)), writes, reads, 9, None, mends=True)
    stop = _stop(draw, where)
    return Step(name, draw(st.integers(0, 9)), writes, reads, fails, attempts, handled, asks=asks, stop=stop)


def _fork(draw: Any, names: Any, name: str, where: _Where) -> Fork:
    return Fork(name, tuple(_flow(draw, names, _deeper(where)) for _ in range(draw(st.integers(1, 3)))))


def _loop(draw: Any, names: Any, name: str, where: _Where) -> Loop:
    return Loop(name, draw(st.integers(0, 2)), _flow(draw, names, _deeper(where)))


def _spread(draw: Any, names: Any, name: str, where: _Where) -> Spread:
    collect, handled = draw(st.booleans()), draw(st.integers(0, 2)) == 0
    arms = []
    count = draw(st.integers(1, 3))
    setter = draw(st.integers(0, 2))
    for arm in range(count):
        inner = _deeper(
            where,
            may_fail=where.racy or collect,
            may_set=where.may_set and arm == setter,
            in_retried=False,
        )
        arms.append(_flow(draw, names, inner))
    wait = draw(st.integers(1, count)) if where.racy and draw(st.booleans()) else None
    at_once = draw(st.sampled_from([None, 1, 2]))
    return Spread(name, tuple(arms), False, wait, collect, at_once, handled, _timeout(draw, where), _stop(draw, where))


def _map(draw: Any, names: Any, name: str, where: _Where) -> Spread:
    collect, handled = draw(st.booleans()), draw(st.integers(0, 2)) == 0
    may_fail = where.racy or collect
    inner = _deeper(where, may_fail=may_fail, may_set=False, alone=False, in_retried=False)
    wait = draw(st.integers(1, 3)) if where.racy and draw(st.booleans()) else None
    arm = _flow(draw, names, inner)
    at_once = draw(st.sampled_from([None, 1, 2]))
    return Spread(name, (arm,), True, wait, collect, at_once, handled, _timeout(draw, where), _stop(draw, where))


def _sub(draw: Any, names: Any, name: str, where: _Where) -> Sub:
    handled = draw(st.booleans())
    attempts = draw(st.sampled_from([None, None, 2]))
    has_state = draw(st.booleans())
    may_fail = where.may_fail or handled
    inner = _deeper(
        where,
        has_state=has_state,
        may_set=True,
        may_fail=may_fail,
        in_retried=attempts is not None,
    )
    stops = (_stop(draw, where), _stop(draw, where))
    return Sub(name, _flow(draw, names, inner), has_state, attempts, handled, _timeout(draw, where), *stops)


def _pause(draw: Any, names: Any, name: str, where: _Where) -> Pause:
    return Pause(name, draw(st.booleans()))


def _await(draw: Any, names: Any, name: str, where: _Where) -> Await:
    return Await(name, _timeout(draw, where), draw(st.booleans()), _stop(draw, where))


def _timeout(draw: Any, where: _Where) -> Timeout:
    """Return seconds that may or may not be enough, or a function that decides them, or that there is no limit."""
    return draw(st.sampled_from([None, None, 0.002, Decided(0.002), Decided(None)])) if where.racy else None


def _stop(draw: Any, where: _Where) -> str:
    """Return a signal that interrupts. Few names for many edges: inner and outer ones have the same."""
    return draw(st.sampled_from(["", "", "", *STOPS])) if where.racy else ""


_DRAWN: dict[str, Callable[..., Part]] = {
    "step": _step,
    "fork": _fork,
    "loop": _loop,
    "spread": _spread,
    "map": _map,
    "sub": _sub,
    "pause": _pause,
    "await": _await,
}


# Building it.

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
