"""Times: numbers, timedeltas, points in time and functions, for pauses, waits, nodes, joins and flows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import BaseModel
from timed_flows import BEGIN, BEGIN_MS, LIMITED, block, make_clock

from beluga_graph import END, START, Context, Engine, Graph, RunFailed, Workflow, sleep, step, wait_signal

FAR = timezone(timedelta(hours=5, minutes=30))


async def delay_async(value: Any) -> float:
    return 30.0


PAUSES_OF_30_S: dict[str, dict[str, Any]] = {
    "seconds": {"seconds": 30},
    "a timedelta": {"seconds": timedelta(seconds=30)},
    "a datetime": {"seconds": BEGIN + timedelta(seconds=30)},
    "a datetime of another zone": {"until": (BEGIN + timedelta(seconds=30)).astimezone(FAR)},
    "a function of the value": {"seconds": lambda value: value["pause"]},
    "a function that returns a timedelta": {"seconds": lambda value: timedelta(seconds=value["pause"])},
    "a function that returns a datetime": {"until": lambda value: BEGIN + timedelta(seconds=value["pause"])},
    "a function of the context": {"until": lambda ctx: ctx.now() + timedelta(seconds=30)},
    "a function of both": {"seconds": lambda ctx, value: ctx.input["pause"]},
    "an async function": {"seconds": delay_async},
}


@pytest.mark.parametrize("pause", PAUSES_OF_30_S.values(), ids=PAUSES_OF_30_S)
async def test_a_pause_takes_every_form_of_a_time(pause: dict[str, Any]) -> None:
    clock = make_clock()
    g = Graph("g")
    g.timer("pause", **pause)
    g.edge(START, "pause")
    g.edge("pause", END)
    async with Engine(clock=clock) as engine:
        runs = [
            await engine.start(g, {"pause": 30}),
            await engine.start(Workflow("w", sleep("pause", **pause)), {"pause": 30}),
        ]
        await clock.advance(29.999)
        assert [await run.status() for run in runs] == ["waiting", "waiting"]
        await clock.advance(0.001)
        assert [await run.result() for run in runs] == [{"pause": 30}] * 2
        dues = [event.due_ms for run in runs async for event in run.events() if event.type == "waiting"]
        assert dues == [BEGIN_MS + 30_000] * 2


LIMITS_OF_30_S: dict[str, Any] = {
    "seconds": 30,
    "a timedelta": timedelta(seconds=30),
    "a datetime": BEGIN + timedelta(seconds=30),
    "a function": lambda value: value,
    "a function that returns a datetime": lambda ctx, value: ctx.now() + timedelta(seconds=value),
}


@pytest.mark.parametrize("limit", LIMITS_OF_30_S.values(), ids=LIMITS_OF_30_S)
@pytest.mark.parametrize("make", LIMITED.values(), ids=LIMITED)
async def test_a_time_limit_takes_every_form_of_a_time(make: Callable[[Any], Any], limit: Any) -> None:
    clock = make_clock()
    async with Engine(clock=clock) as engine:
        run = await engine.start(make(limit), 30)
        await clock.advance(29.999)
        assert await run.status() in ("waiting", "running")
        await clock.advance(0.001)
        with pytest.raises(RunFailed, match="Timeout"):
            await run.result()


@pytest.mark.parametrize("limit", LIMITS_OF_30_S.values(), ids=LIMITS_OF_30_S)
@pytest.mark.parametrize("over", [None, lambda value: [value, value]], ids=["targets", "items"])
async def test_a_join_fires_at_its_time_with_what_has_arrived(limit: Any, over: Any) -> None:
    clock = make_clock()
    g = Graph("g")
    g.wait("short", "go", timeout=10, default="late")
    if over is None:
        g.wait("long", "go")
    g.fan_out("f", "short" if over is not None else ["short", "long"], over=over, max_concurrency=1, join="j")
    g.join("j", timeout=limit)
    g.edge(START, "f")
    g.edge("j", END)
    async with Engine(clock=clock) as engine:
        run = await engine.start(g, 30)
        await clock.advance(9)
        assert await run.status() == "waiting"
        await clock.advance(21)
        assert await run.result() == ["late"] * (1 if over is None else 2)


async def test_a_signal_can_name_the_time_as_text() -> None:
    class Visit(BaseModel):
        at: datetime

    g, clock = Graph("visits"), make_clock()
    wait = g.timer("wait", until=lambda visit: visit.at)
    g.edge(START, wait)
    g.edge(wait, END)
    g.on_signal(wait, "move", wait, type=Visit)
    async with Engine(clock=clock) as engine:
        run = await engine.start(g, Visit(at=BEGIN + timedelta(days=9)))
        await clock.advance(1)
        await run.signal("move", {"at": "2030-01-31T10:00:00Z"})
        await clock.advance(3600)
        assert (await run.result()).at == BEGIN + timedelta(hours=1)


async def test_an_overdue_pause_ends_at_once() -> None:
    late = BEGIN - timedelta(days=400)
    flow = Workflow("w", sleep("constant", until=late), sleep("decided", until=lambda _: late))
    async with Engine(clock=make_clock()) as engine:
        assert await engine.execute(flow, "x") == "x"


async def test_an_overdue_wait_takes_a_signal_that_was_accepted_before() -> None:
    clock = make_clock()
    wait = wait_signal("go", timeout=lambda _: BEGIN - timedelta(days=1), default="late")
    async with Engine(clock=clock) as engine:
        flow = Workflow("w", sleep("pause", 1), wait)
        early, late = await engine.start(flow), await engine.start(flow)
        await early.signal("go", "early")
        await clock.advance(1)
        assert (await early.result(), await late.result()) == ("early", "late")


@pytest.mark.parametrize(
    ("given", "error", "rule"),
    [
        (-1, ValueError, "seconds are >= 0, and at most a hundred years"),
        (float("nan"), ValueError, "seconds are >= 0"),
        (float("inf"), ValueError, "seconds are >= 0"),
        (timedelta(seconds=-1), ValueError, "seconds are >= 0"),
        (timedelta.max, ValueError, "at most a hundred years"),
        (datetime(2030, 1, 1), ValueError, "a datetime needs a zone"),  # noqa: DTZ001 - the point
        (datetime(2201, 1, 1, tzinfo=UTC), ValueError, "at most in the year 2200"),
        (True, TypeError, "give a number of seconds, a timedelta, or a datetime with a zone"),
        ("5", TypeError, "give a number of seconds"),
        (timedelta, TypeError, "give a number of seconds"),
    ],
)
async def test_what_is_no_time_is_refused(given: Any, error: type[Exception], rule: str) -> None:
    for parameter, make in (
        ("seconds", lambda time: Graph("g").timer("t", time)),
        ("seconds", lambda time: sleep("t", time)),
        ("timeout", lambda time: Graph("g").wait("w", "go", timeout=time)),
        ("timeout", lambda time: Graph("g").join("j", timeout=time)),
        ("timeout", lambda time: Graph("g").node(timeout=time)(block)),
        ("timeout", lambda time: Graph("g").add(Workflow("w", block), timeout=time)),
        ("timeout", lambda time: step("s", block, timeout=time)),
        ("timeout", lambda time: wait_signal("go", timeout=time)),
        ("timeout", lambda time: Workflow("w", block, timeout=time)),
    ):
        with pytest.raises(error, match=rule) as caught:
            make(given)  # type: ignore[no-untyped-call]
        assert f"{parameter}={given!r:.100}" in str(caught.value)
    if isinstance(given, type):
        return
    async with Engine(clock=make_clock()) as engine:
        for flow in (
            Workflow("a", sleep("t", lambda _: given)),
            Workflow("b", wait_signal("go", timeout=lambda _: given)),
        ):
            with pytest.raises(RunFailed, match=rule) as failed:
                await engine.execute(flow)
            assert f"returned {given!r:.100}" in str(failed.value)


@pytest.mark.parametrize("until", [5, timedelta(5), None, lambda _: 5, lambda _: None, lambda _: "x"])
async def test_until_is_a_point_in_time(until: Any) -> None:
    async with Engine(clock=make_clock()) as engine:
        with pytest.raises((TypeError, RunFailed)):
            await engine.execute(Workflow("w", sleep("t", until=until)))


@pytest.mark.parametrize(("given"), [{}, {"seconds": 1, "until": BEGIN}])
def test_a_pause_has_exactly_one_time(given: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="give one of them"):
        sleep("t", **given)
    with pytest.raises(TypeError, match="give one of them"):
        Graph("g").timer("t", **given)


@pytest.mark.parametrize(
    ("flow", "message"),
    [
        (Workflow("w", wait_signal("go"), timeout=2), "the run passed its deadline of 2 s"),
        (Workflow("w", wait_signal("go"), timeout=BEGIN), "the run passed its deadline, 2030-01-31 09:00:00 UTC"),
        (
            Workflow("w", wait_signal("go"), timeout=lambda _: 2),
            "the run passed its deadline, which a function decided",
        ),
        (Workflow("w", wait_signal("go", timeout=BEGIN)), "no signal 'go' came by 2030-01-31 09:00:00 UTC"),
        (Workflow("w", wait_signal("go", timeout=lambda _: 2)), "no signal 'go' came within 2 s"),
        (
            Workflow("w", wait_signal("go", timeout=lambda ctx: ctx.now())),
            "no signal 'go' came by 2030-01-31 09:00:00 UTC",
        ),
        (
            Workflow("w", step("s", Workflow("x", wait_signal("go")), timeout=BEGIN)),
            "'s' passed its deadline, 2030-01-31",
        ),
    ],
)
async def test_a_limit_that_passed_is_named(flow: Workflow, message: str) -> None:
    clock = make_clock()
    async with Engine(clock=clock) as engine:
        run = await engine.start(flow)
        await clock.advance(2)
        with pytest.raises(RunFailed, match=message):
            await run.result()


async def test_now_is_the_time_of_the_engines_clock() -> None:
    clock = make_clock()

    @step
    def read(ctx: Context) -> datetime:
        return ctx.now()

    async with Engine(clock=clock) as engine:
        assert await engine.execute(Workflow("w", read)) == BEGIN
        await clock.advance(1.5)
        assert await engine.execute(Workflow("w", read)) == BEGIN + timedelta(seconds=1.5)
