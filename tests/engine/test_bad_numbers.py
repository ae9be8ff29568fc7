"""Options that are stored with a run have the stored type or are refused, so that every stored run can be read."""

import enum
import time
from collections.abc import Callable
from datetime import timedelta
from math import inf, nan
from typing import Any

import pytest

from beluga_graph import (
    END,
    START,
    Agent,
    Engine,
    EventBus,
    Flow,
    Graph,
    GraphError,
    Limits,
    LoopAgent,
    ParallelAgent,
    Retry,
    RunFailed,
)
from beluga_graph.clock import SystemClock
from beluga_graph.storage.keys import Prefix
from beluga_graph.storage.records import decode_record, encode_record, fits
from beluga_graph.testing import ScriptedModel, VirtualClock
from stores import MemoryStore, Put


class Color(enum.Enum):
    RED = (255, 0, 0)


class Size(enum.StrEnum):
    LARGE = "large"


class Level(enum.IntEnum):
    HIGH = 3


def same(value: Any) -> Any:
    return value


def agent(name: str, **options: Any) -> Agent:
    return Agent(name, model=ScriptedModel(), **options)


def limited(bound: Any) -> Graph:
    g = Graph("g", limits=Limits(max_steps=bound))
    g.edge(START, g.node(name="a")(same))
    g.edge("a", END)
    return g


def retried(**options: Any) -> Graph:
    g = Graph("g")
    g.edge(START, g.node(name="a", retry=Retry(**options))(same))
    g.edge("a", END)
    return g


def wide(*, wait: Any = "all", max_concurrency: Any = None) -> Graph:
    g = Graph("g")
    join = g.join("join", wait=wait)
    g.edge(START, g.fan_out("out", to=g.node(name="a")(same), over=same, join=join, max_concurrency=max_concurrency))
    g.edge("a", join)
    g.edge(join, END)
    return g


def branched(route: Any) -> Graph:
    g = Graph("g")
    g.edge(START, g.node(name="a")(same))
    g.branch("a", same, {route: END})
    return g


ODD: list[Any] = [True, 2, 2.0, 1e6, 0.5, None, 1e16, 1e300, "2", (1, 2), b"2", Color.RED, Size.LARGE, Level.HIGH]
MAKERS: dict[str, Callable[[Any], Flow]] = {
    "limit": limited,
    "attempts": lambda value: retried(attempts=value),
    "initial": lambda value: retried(initial=value),
    "maximum": lambda value: retried(maximum=value),
    "factor": lambda value: retried(factor=value),
    "jitter": lambda value: retried(jitter=value),
    "wait": lambda value: wide(wait=value),
    "max_concurrency": lambda value: wide(max_concurrency=value),
    "route": branched,
    "turns": lambda value: agent("a", max_turns=value),
    "passes": lambda value: LoopAgent("l", agent("a"), max_iterations=value),
    "in parallel": lambda value: ParallelAgent("p", [agent("a"), agent("b")], max_concurrency=value),
}


@pytest.mark.parametrize("what", MAKERS)
def test_an_option_is_refused_when_it_is_given_or_can_be_read_from_the_store(what: str) -> None:
    taken = 0
    for value in ODD:
        try:
            shape = MAKERS[what](value).plan().shape
        except (GraphError, TypeError, ValueError):
            continue
        key = b"P" + shape.fingerprint.encode()
        assert fits(Prefix.SHAPE, decode_record(key, encode_record(key, shape.to_plain()))), value
        taken += 1
    assert taken, "some of them can be meant"


@pytest.mark.parametrize("bound", [1e6, True, "2", 0, None])
def test_a_limit_is_a_whole_number(bound: Any) -> None:
    with pytest.raises(ValueError, match=r"Limits\(max_steps=.*\): a limit is a whole number of at least 1"):
        Limits(max_steps=bound)


@pytest.mark.parametrize("pause", [{"initial": 1e16}, {"maximum": 1e16}])
def test_a_pause_between_attempts_is_at_most_a_hundred_years(pause: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="from 0 to a hundred years"):
        Retry(**pause)  # type: ignore[arg-type]  # floats, all of them


@pytest.mark.parametrize("now", [1.7e12, -1, None])
def test_a_clock_gives_whole_milliseconds_since_the_epoch(now: Any) -> None:
    class Clock(SystemClock):
        def now_ms(self) -> int:
            return now  # type: ignore[no-any-return]  # the test

    for make in (
        lambda: Engine(clock=Clock()),
        lambda: EventBus(clock=Clock()),
        lambda: VirtualClock(now),
        lambda: VirtualClock().set(now),
    ):
        with pytest.raises((TypeError, ValueError), match="give milliseconds since the epoch"):
            make()
    VirtualClock(int(time.time() * 1000))


@pytest.mark.parametrize("seconds", [-1, nan, inf, 10**400, 1e300, "5", None, True, timedelta(seconds=5)])
async def test_a_virtual_clock_advances_by_a_number_of_seconds(seconds: Any) -> None:
    clock = VirtualClock(1000)
    with pytest.raises((TypeError, ValueError), match=r"advance\(.*: give "):
        await clock.advance(seconds)
    assert clock.now_ms() == 1000


async def test_a_run_whose_limits_were_stored_unconverted_continues() -> None:
    """Limits as earlier releases stored them."""
    store, works = MemoryStore(), False

    def shaky(value: int) -> int:
        if not works:
            raise ValueError(value)
        return value

    g = Graph("g", limits=Limits(max_steps=1_000))
    g.edge(START, g.node(name="a", retry=Retry(attempts=1))(shaky))
    g.edge("a", END)
    async with Engine(store) as engine:
        with pytest.raises(RunFailed):
            await engine.execute(g, 1, run_id="r", limits=Limits(max_turns=5))
    for key, blob in list(store.scan(b"")):
        if key[:1] in b"PN":
            plain = decode_record(key, blob)
            plain["limits"] = {name: float(bound) for name, bound in plain["limits"].items()}
            for node in plain.get("nodes", ()):
                node["retry"] = {**node["retry"], "attempts": True}
            store.commit(Put(key, encode_record(key, plain)))
    works = True
    async with Engine(store) as engine:
        assert (await engine.snapshot("r")).status == "failed"
        assert await engine.history("r")
        assert await engine.execute(g, 1, run_id="r") == 1
