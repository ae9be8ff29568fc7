"""Workflows in time: retries, timeouts, waits, pauses, and deadlines that count from the start."""

import asyncio
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from beluga_graph import (
    Context,
    Engine,
    Event,
    Graph,
    Retry,
    Run,
    RunFailed,
    RunStatus,
    SequentialAgent,
    Workflow,
    append,
    sleep,
    step,
    wait_signal,
)
from beluga_graph.flows.steps import Part
from beluga_graph.testing import VirtualClock
from stores import MemoryStore


def failing(*errors: BaseException, **policy: Any) -> tuple[Part, list[int]]:
    """Return a step that raises one error after another, and the list of its attempts."""
    left, attempts = list(errors), []

    async def flaky(ctx: Context, value: Any) -> Any:
        attempts.append(ctx.attempt)
        if left:
            raise left.pop(0)
        return value

    return step("flaky", flaky, **policy), attempts


async def forever(value: Any) -> Any:
    await asyncio.Event().wait()


async def same(value: Any) -> Any:
    return value


async def pauses(run: Run) -> list[float | None]:
    return [event.delay_s async for event in run.events() if event.type == "retry"]


async def until_waiting(run: Run) -> None:
    async with asyncio.timeout(60):
        while await run.status() is not RunStatus.waiting:  # noqa: ASYNC110  # a status is not announced
            await asyncio.sleep(0)


async def test_a_step_is_retried_with_growing_capped_pauses() -> None:
    clock = VirtualClock()
    flaky, attempts = failing(*[OSError(1)] * 4, retry=Retry(attempts=5, initial=1, factor=3, maximum=5))
    async with Engine(clock=clock) as engine:
        run = await engine.start(Workflow("w", flaky), 7)
        await clock.advance(60)
        assert await run.result(60) == 7
        assert await pauses(run) == [1, 3, 5, 5]
    assert attempts == [1, 2, 3, 4, 5]


async def test_jitter_stays_within_its_share_and_is_reproducible() -> None:
    seen = []
    for _ in range(2):
        clock = VirtualClock()
        flaky, _ = failing(*[OSError(1)] * 3, retry=Retry(attempts=4, initial=10, factor=1, jitter=0.5))
        async with Engine(clock=clock) as engine:
            run = await engine.start(Workflow("w", flaky), 7)
            await clock.advance(60)
            seen.append(await pauses(run))
    assert seen[0] == seen[1]
    assert all(5 <= pause <= 15 for pause in seen[0] if pause is not None)
    assert len(set(seen[0])) == 3


@pytest.mark.parametrize(
    ("policy", "attempts"),
    [
        (Retry(initial=0, retry_on=(OSError,)), 2),
        (Retry(initial=0, retry_on=(ValueError,)), 1),
        (Retry(initial=0, give_up_on=(ConnectionError,)), 1),
        (Retry(initial=0, retry_on=(OSError,), give_up_on=(ConnectionError,)), 1),
    ],
)
async def test_a_policy_decides_which_errors_are_retried(policy: Retry, attempts: int) -> None:
    flaky, seen = failing(ConnectionError("x"), retry=policy)
    async with Engine() as engine:
        run = await engine.start(Workflow("w", flaky), 7)
        outcome = await run.outcome()
    assert len(seen) == attempts
    assert (outcome.status is RunStatus.completed) == (attempts == 2)


async def test_a_timeout_bounds_each_attempt() -> None:
    clock = VirtualClock()
    hung = step("hung", forever, timeout=2, retry=Retry(attempts=3, initial=1, factor=1))
    async with Engine(clock=clock) as engine:
        run = await engine.start(Workflow("w", hung), 7)
        await clock.advance(7.9)
        assert await run.status() is RunStatus.running
        await clock.advance(0.1)
        with pytest.raises(RunFailed, match="failed in attempt 3: Timeout: attempt 3 took longer than 2 s"):
            await run.result(60)


async def test_a_flow_is_retried_as_a_whole() -> None:
    before: list[Any] = []

    async def noted(value: Any) -> Any:
        before.append(value)
        return value

    flaky, attempts = failing(OSError("first"))
    inner = Workflow("inner", noted, flaky)
    async with Engine() as engine:
        assert await engine.execute(Workflow("w", step("whole", inner, retry=Retry(initial=0))), 7) == 7
    assert (before, attempts) == ([7, 7], [1, 1])


@pytest.mark.parametrize(("own", "given", "fails_at"), [(5, None, 5), (None, 5, 5), (5, 50, 5), (50, 5, 5)], ids=str)
async def test_the_shorter_deadline_of_a_nested_workflow_applies(
    own: float | None, given: float | None, fails_at: float
) -> None:
    clock = VirtualClock()
    inner = Workflow("inner", forever, timeout=own)
    async with Engine(clock=clock) as engine:
        run = await engine.start(Workflow("w", step("nested", inner, timeout=given)), 7)
        await clock.advance(fails_at - 0.1)
        assert await run.status() is RunStatus.running
        await clock.advance(0.1)
        with pytest.raises(RunFailed, match="Timeout: 'nested' passed its deadline of 5 s"):
            await run.result(60)


@pytest.mark.parametrize("around", ["workflow", "sequential", "graph"])
async def test_the_deadline_of_a_workflow_applies_in_any_flow(around: str) -> None:
    clock = VirtualClock()
    inner = Workflow("inner", forever, timeout=5)
    graph = Graph("graph")
    graph.edge("START", graph.add(inner))
    graph.edge("inner", "END")
    flow = {"workflow": Workflow("w", inner), "sequential": SequentialAgent("w", [inner]), "graph": graph}[around]
    async with Engine(clock=clock) as engine:
        run = await engine.start(flow, 7)
        await clock.advance(5)
        with pytest.raises(RunFailed, match="Timeout: 'inner' passed its deadline of 5 s"):
            await run.result(60)


async def test_the_payload_of_a_signal_is_the_input_of_the_next_step() -> None:
    async with Engine() as engine:
        run = await engine.start(Workflow("w", same, wait_signal("go", type=int), step("last", same)), 1)
        await run.signal("go", 5)
        assert await run.result(60) == 5


async def test_a_wait_times_out_with_its_default_or_with_a_failure() -> None:
    clock = VirtualClock()
    async with Engine(clock=clock) as engine:
        gentle = await engine.start(Workflow("gentle", wait_signal("go", timeout=5, default="nobody")), 1)
        strict = await engine.start(Workflow("strict", wait_signal("go", timeout=5)), 1)
        await clock.advance(5)
        assert await gentle.result(60) == "nobody"
        with pytest.raises(RunFailed, match="SignalTimeout: no signal 'go' came within 5 s"):
            await strict.result(60)


async def test_a_pause_returns_its_input_and_survives_a_restart() -> None:
    clock, store, flow = VirtualClock(), MemoryStore(), Workflow("w", sleep("rest", 60), same)
    async with Engine(store, clock=clock) as engine:
        await until_waiting(await engine.start(flow, 7, run_id="r"))
        await clock.advance(20)
    await clock.advance(20)
    async with Engine(store, clock=clock) as engine:
        engine.register(flow)
        run = await engine.resume("r")
        await clock.advance(19.9)
        assert await run.status() is RunStatus.waiting
        await clock.advance(0.1)
        assert await run.result(60) == 7


class Log(BaseModel):
    lines: Annotated[list[str], append] = []


async def test_steps_share_the_state_of_their_workflow() -> None:
    async def write(ctx: Context, value: str) -> str:
        ctx.update(lines=value)
        return value

    async def read(ctx: Context, value: str) -> list[str]:
        return list(ctx.state.lines)

    async with Engine() as engine:
        assert await engine.execute(Workflow("w", write, step("more", write), read, state=Log), "x") == ["x", "x"]


@pytest.mark.parametrize("stopped_in", ["work", "wait", "pause", "retry"])
async def test_the_deadline_counts_from_the_start_and_takes_effect_before_anything_runs_again(stopped_in: str) -> None:
    clock, store, calls = VirtualClock(), MemoryStore(), []

    async def work(value: Any) -> Any:
        calls.append("work")
        if stopped_in == "retry":
            raise OSError
        if stopped_in == "work":
            await asyncio.Event().wait()
        return value

    parts = [step("work", work, retry=Retry(attempts=2, initial=50, maximum=50))]
    parts += {"wait": [wait_signal("go")], "pause": [sleep("rest", 59), step("after", work)]}.get(stopped_in, [])
    flow = Workflow("w", *parts, timeout=60)
    async with Engine(store, clock=clock) as engine:
        await engine.start(flow, 7, run_id="r")
        await clock.advance(30)
        await engine.signal("r", "other", None)
    await clock.advance(30)
    seen: list[Event] = []
    async with Engine(store, clock=clock) as engine:
        engine.register(flow)
        run = await engine.resume("r")
        with pytest.raises(RunFailed, match="the run passed its deadline of 60 s") as caught:
            await run.result(60)
        seen = [event async for event in run.events()]
    assert str(caught.value.cause) == "Timeout: the run passed its deadline of 60 s"
    assert calls == ["work"]
    assert seen[-1].error == "Timeout: the run passed its deadline of 60 s"
