"""Functions that decide times: when they are asked, what they may read, and what their failures do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel
from timed_flows import (
    BEGIN,
    LIMITED,
    limited_frame,
    limited_inner_flow,
    limited_node,
    limited_wait,
    make_clock,
)

from beluga_graph import END, START, Context, Engine, Graph, Retry, RunFailed, Workflow, sleep, wait_signal


@pytest.mark.parametrize("make", [limited_node, limited_wait, limited_frame, limited_inner_flow])
async def test_a_function_may_decide_that_there_is_no_limit(make: Callable[[Any], Graph]) -> None:
    clock = make_clock()
    async with Engine(clock=clock) as engine:
        run = await engine.start(make(lambda value: None), 1)
        await clock.advance(10**9)
        assert await run.status() in ("running", "waiting")


def fail(value: Any) -> float:
    raise ValueError("no time for this")


def nonsense(value: Any) -> float:
    return -1


@pytest.mark.parametrize(("decide", "kind"), [(fail, "ValueError"), (nonsense, "BadTime")])
@pytest.mark.parametrize("make", [limited_node, limited_wait, limited_frame, limited_inner_flow, LIMITED["a workflow"]])
async def test_a_function_that_decides_no_time_fails_its_node_once(
    make: Callable[[Any], Any], decide: Callable[[Any], float], kind: str
) -> None:
    asked = []

    def count(value: Any) -> float:
        asked.append(value)
        return decide(value)

    async with Engine(clock=make_clock()) as engine:
        with pytest.raises(RunFailed, match=kind if kind == "ValueError" else "returned -1"):
            await engine.execute(make(count), 7)
    assert asked == [7]


async def test_a_failed_decision_goes_along_the_error_edge_and_is_not_retried() -> None:
    g = Graph("g")

    @g.node(retry=Retry(attempts=5, initial=0), timeout=fail)
    async def work(value: int) -> None: ...

    @g.node
    def handle(failure: Any) -> tuple[str, int, int]:
        return failure.type, failure.attempts, failure.input

    g.edge(START, work)
    g.edge(work, END)
    g.on_error(work, handle)
    g.edge(handle, END)
    async with Engine(clock=make_clock()) as engine:
        assert await engine.execute(g, 3) == ("ValueError", 1, 3)


async def test_a_frame_decides_again_before_each_retry() -> None:
    clock, asked = make_clock(), []

    def decide(ctx: Context, value: int) -> float:
        asked.append(value)
        return 5.0

    g = Graph("g")
    g.edge(
        START, g.add(Workflow("inner", wait_signal("go")), retry=Retry(attempts=3, initial=1, factor=1), timeout=decide)
    )
    g.edge("inner", END)
    async with Engine(clock=clock) as engine:
        run = await engine.start(g, 4)
        for _ in range(3):
            await clock.advance(6)
        with pytest.raises(RunFailed, match="'inner' passed its deadline, which a function decided"):
            await run.result()
    assert asked == [4, 4, 4]


async def test_the_earlier_of_two_deadlines_of_a_flow_counts() -> None:
    clock = make_clock()
    async with Engine(clock=clock) as engine:
        for own, given in ((5, lambda _: 9), (lambda _: 5, 9), (lambda _: 9, lambda _: 5), (BEGIN, lambda _: 900)):
            g = Graph("g")
            g.edge(START, g.add(Workflow("inner", wait_signal("go"), timeout=own), timeout=given))
            g.edge("inner", END)
            run = await engine.start(g)
            await clock.advance(5)
            assert await run.status() == "failed"


async def test_a_checked_wait_with_a_decided_time_takes_its_payload_and_waits_again_after_a_bad_one() -> None:
    clock, asked = make_clock(), []

    def decide(value: str) -> float:
        asked.append(value)
        return 60

    flow = Workflow("w", wait_signal("go", type=int, timeout=decide))
    async with Engine(clock=clock) as engine:
        good = await engine.start(flow, "good")
        await clock.advance(59)
        await good.signal("go", 5)
        assert await good.result() == 5
        late = await engine.start(flow, "late")
        await clock.advance(60)
        assert await late.status() == "failed"
        late = await engine.resume(late.id)
        await clock.advance(59)
        assert await late.status() == "waiting"
        await late.signal("go", 6)
        assert await late.result() == 6
    assert asked == ["good", "late"]


async def test_a_function_can_read_and_update_the_state() -> None:
    class State(BaseModel):
        asked: int = 0

    def decide(ctx: Context, value: Any) -> float:
        ctx.update(asked=ctx.state.asked + 1)
        return 1

    clock = make_clock()
    g = Graph("g", state=State)
    g.edge(START, g.timer("t", decide))
    g.edge("t", g.add(lambda ctx: ctx.state.asked, name="read"))
    g.edge("read", END)
    async with Engine(clock=clock) as engine:
        run = await engine.start(g)
        await clock.advance(1)
        assert await run.result() == 1


def test_times_are_not_part_of_the_fingerprint_but_an_attempt_that_decides_one_is() -> None:
    def fingerprint(time: Any) -> str:
        return Workflow("w", sleep("t", time)).plan().fingerprint

    constants = [5, timedelta(days=1), BEGIN, BEGIN + timedelta(1)]
    assert len({fingerprint(time) for time in constants}) == 1
    assert fingerprint(lambda _: 5) == fingerprint(fail) != fingerprint(5)
