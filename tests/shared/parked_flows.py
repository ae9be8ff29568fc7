"""Flows that are written down as a row of parts, from START to END.

Each node adds its name to a list, which is the output, so it shows the way that a run has taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

from pydantic import BaseModel

from beluga_graph import END, START, Graph

__all__ = ["HOUR", "Code", "Fan", "Part", "Pick", "Sub", "Timer", "Wait", "build"]

HOUR = 3600.0
NONE: Any = object()


@dataclass(frozen=True)
class Wait:
    """A wait. Its payload is the list so far, or a text."""

    name: str
    signal: str = ""
    type: Any = None
    timeout: float | None = None
    default: Any = NONE
    error: str = ""
    stop: str = ""
    """The target of an edge for the signal `stop`, which interrupts the wait."""


@dataclass(frozen=True)
class Timer:
    name: str
    seconds: float = HOUR


@dataclass(frozen=True)
class Sub:
    """A sub-flow, with the target of its error edge."""

    name: str
    parts: tuple[Part, ...]
    error: str = ""


@dataclass(frozen=True)
class Fan:
    """A fan-out with a branch for each row of parts, and its join."""

    name: str
    branches: tuple[tuple[Part, ...], ...]
    join: str = "joined"
    wait: Any = "all"
    on_error: Any = "fail"


@dataclass(frozen=True)
class Pick:
    """A conditional edge out of the part before it: the first route is taken, and all routes go on to the next part."""

    routes: tuple[str, ...]


@dataclass(frozen=True)
class Code:
    """A node with a function of its own."""

    name: str
    body: Callable[..., Any]


Part: TypeAlias = str | Wait | Timer | Sub | Fan | Pick | Code


def build(*parts: Part, state: type[BaseModel] | None = None, name: str = "parked", **options: Any) -> Graph:
    """Return the flow. A part that is only a name is a node that adds its name to the list."""
    g = Graph(name, state=state, **options)
    ends: list[tuple[Any, Any]] = [(START, None)]
    for part in parts:
        if isinstance(part, Pick):
            ((source, _),) = ends
            targets = [_declare(g, target)[0] for target in part.routes]
            g.branch(source, _take_first(part.routes), dict(zip(part.routes, targets, strict=True)))
            ends = [(target, None) for target in part.routes]
            continue
        first, last = _declare(g, part)
        for source, _ in ends:
            g.edge(source, first)
        ends = [(last, None)]
    for source, _ in ends:
        g.edge(source, END)
    return g


def _declare(g: Graph, part: Part) -> tuple[str, str]:
    """Declare a part; return its first and its last node."""
    match part:
        case str():
            g.node(name=part)(_add_name(part))
            return part, part
        case Code():
            g.node(name=part.name)(part.body)
            return part.name, part.name
        case Wait():
            more = {} if part.default is NONE else {"default": part.default}
            g.wait(part.name, part.signal or part.name, type=part.type, timeout=part.timeout, **more)
        case Timer():
            g.timer(part.name, part.seconds)
        case Sub():
            g.add(build(*part.parts, name=part.name))
        case Fan():
            return _declare_fan_out(g, part)
        case Pick():
            raise AssertionError
    if isinstance(part, Wait | Sub) and part.error:
        g.node(name=part.error)(_mend(part.error))
        g.on_error(part.name, part.error)
        g.edge(part.error, END)
    if isinstance(part, Wait) and part.stop:
        g.node(name=part.stop)(_add_name(part.stop))
        g.on_signal(part.name, "stop", part.stop)
        g.edge(part.stop, END)
    return part.name, part.name


def _declare_fan_out(g: Graph, fan: Fan) -> tuple[str, str]:
    firsts = []
    g.join(fan.join, _merge(fan.join), wait=fan.wait, on_error=fan.on_error)
    for branch in fan.branches:
        ends = [_declare(g, part) for part in branch]
        for (_, last), (first, _) in pairwise(ends):
            g.edge(last, first)
        g.edge(ends[-1][1], fan.join)
        firsts.append(ends[0][0])
    g.fan_out(fan.name, to=firsts, join=fan.join)
    return fan.name, fan.join


def _add_name(name: str) -> Callable[..., Any]:
    async def body(value: Any) -> list[Any]:
        return [*(value if isinstance(value, list) else [value]), name]

    return body


def _mend(name: str) -> Callable[..., Any]:
    async def body(failure: Any) -> list[Any]:
        return [failure.type, name]

    return body


def _merge(name: str) -> Callable[..., Any]:
    async def body(results: list[Any]) -> list[Any]:
        return [*results, name]

    return body


def _take_first(routes: tuple[str, ...]) -> Callable[..., Any]:
    def choose(value: Any) -> str:
        return routes[0]

    return choose
