"""Descriptions of random structured graphs, which Hypothesis draws.

A description is plain, frozen and complete, so the same graph can be built again for another engine, after a crash, or
in another process. Bodies are functions of their value, their attempt and their state, so the graph alone decides what
a run does. The caller chooses whether timing may decide something:

* *settled* graphs have no race: a final failure inside of a fan-out is handled inside of its branch or collected, and
  every join waits for all branches.
* *racy* graphs may fail anywhere, joins may take the first k, and joins, waits and sub-flows may run out of time.
  Signals may interrupt steps, waits, fan-outs, sub-flows, and whole graphs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from hypothesis import strategies as st

__all__ = [
    "STOPS",
    "Await",
    "Decided",
    "Flow",
    "Fork",
    "Loop",
    "Part",
    "Pause",
    "Spec",
    "Spread",
    "Step",
    "Sub",
    "racy_specs",
    "settled_specs",
]

STOPS = ("stop", "halt!")  # the signals that interrupt; the payload of the first is checked at some edges


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
