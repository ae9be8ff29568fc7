"""Failed attempts: which are retried, when and how often; and how long an attempt may take."""

import asyncio
import gc
import threading
from typing import Annotated, Any

import pytest
from flows_for_tests import chain
from pydantic import BaseModel
from wrapped_store import until

from beluga_graph import END, START, Engine, Graph, Retry, RunFailed, RunStatus, Timeout, add, append
from beluga_graph.testing import VirtualClock
from stores import MemoryStore


class Failing:
    """A node that raises some errors in turn, and then returns its input."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.attempts: list[int] = []

    async def __call__(self, ctx: Any, value: Any) -> Any:
        self.attempts.append(ctx.attempt)
        if self.errors:
            raise self.errors.pop(0)
        return value


async def test_a_node_without_a_policy_has_one_attempt() -> None:
    node = Failing(ValueError("no"))
    async with Engine() as engine:
        with pytest.raises(RunFailed, match="failed in attempt 1: ValueError: no"):
            await engine.execute(chain(node), 1)
    assert node.attempts == [1]


async def test_attempts_are_made_until_one_succeeds() -> None:
    node = Failing(ValueError("one"), KeyError("two"))
    async with Engine() as engine:
        assert await engine.execute(chain(node, retry=Retry(attempts=3, initial=0)), 7) == 7
    assert node.attempts == [1, 2, 3]


async def test_the_last_failure_counts() -> None:
    node = Failing(*(ValueError(number) for number in range(9)))
    async with Engine() as engine:
        with pytest.raises(RunFailed) as caught:
            await engine.execute(chain(node, retry=Retry(attempts=3, initial=0)), 7)
    assert caught.value.attempt == 3
    assert caught.value.cause.attempts == 3
    assert str(caught.value.cause) == "ValueError: 2"
    assert str(caught.value.__cause__) == "2"


@pytest.mark.parametrize(
    ("policy", "error", "attempts"),
    [
        (Retry(initial=0, retry_on=(OSError,)), ConnectionError("x"), 2),
        (Retry(initial=0, retry_on=(OSError,)), ValueError("x"), 1),
        (Retry(initial=0, give_up_on=(ConnectionError,)), ConnectionRefusedError("x"), 1),
        (Retry(initial=0, give_up_on=(ConnectionError,)), OSError("x"), 2),
        (Retry(initial=0), asyncio.CancelledError("x"), 1),
        (Retry(initial=0, retry_on=(BaseException,)), asyncio.CancelledError("x"), 2),
    ],
)
async def test_a_policy_names_the_errors_that_are_retried(policy: Retry, error: BaseException, attempts: int) -> None:
    node = Failing(error)
    async with Engine() as engine:
        run = await engine.start(chain(node, retry=policy), 1)
        outcome = await run.outcome(timeout=60)
    assert outcome.status is (RunStatus.completed if attempts == 2 else RunStatus.failed)
    assert len(node.attempts) == attempts


async def test_pauses_grow_up_to_their_maximum() -> None:
    clock = VirtualClock()
    node = Failing(*(ValueError() for _ in range(4)))
    policy = Retry(attempts=5, initial=1, factor=3, maximum=5)
    async with Engine(clock=clock) as engine:
        run = await engine.start(chain(node, retry=policy), 1)
        events = run.events()
        for count, pause in enumerate((1, 3, 5, 5), start=1):
            while (event := await anext(events)).type != "retry":
                pass
            assert (event.attempt, event.delay_s, event.error) == (count, pause, "")
            await clock.advance(pause - 0.002)
            assert len(node.attempts) == count
            await clock.advance(0.002)
        assert await run.result(timeout=60) == 1


async def test_attempts_count_across_engines_and_a_resume_allows_all_of_them_again() -> None:
    store, clock = MemoryStore(), VirtualClock()
    node = Failing(*(ValueError() for _ in range(4)))
    flow = chain(node, retry=Retry(attempts=3, initial=10, factor=1))
    async with Engine(store, clock=clock) as engine:
        await engine.start(flow, 1, run_id="r")
        await clock.advance(1)
    async with Engine(store, clock=clock) as engine:
        run = await engine.start(flow, 1, run_id="r")
        assert node.attempts == [1]  # the pause continues where it was
        await clock.advance(30)
        assert (await run.outcome(timeout=60)).status is RunStatus.failed
        assert node.attempts == [1, 2, 3]
        run = await engine.resume("r")
        await clock.advance(30)
        assert await run.result(timeout=60) == 1
    assert node.attempts == [1, 2, 3, 4, 5]


async def test_the_idempotency_key_is_the_same_for_all_attempts_of_a_visit() -> None:
    keys = []

    async def node(ctx, value):
        keys.append(ctx.idempotency_key)
        if ctx.attempt < 3:
            raise ValueError
        return value + 1

    g = Graph("g")
    g.node(name="n", retry=Retry(initial=0))(node)
    g.edge(START, "n")
    g.branch("n", lambda value: value < 2, {True: "n", False: END})
    async with Engine() as engine:
        await engine.execute(g, 0, run_id="r")
    assert keys == ["r:n#1"] * 3 + ["r:n#2"] * 3


class Tally(BaseModel):
    total: Annotated[int, add] = 0
    seen: Annotated[list[int], append] = []


async def test_updates_of_a_failed_attempt_are_dropped() -> None:
    g = Graph("g", state=Tally)

    @g.node(retry=Retry(initial=0))
    async def count(ctx, value):
        ctx.update(total=1, seen=[ctx.attempt])
        if ctx.attempt < 3:
            raise ValueError
        return [ctx.state.total, list(ctx.state.seen)]

    g.edge(START, count)
    g.edge(count, END)
    async with Engine() as engine:
        assert await engine.execute(g, 0) == [1, [3]]


# Time limits.


async def test_an_async_attempt_that_takes_too_long_is_ended_and_counts_as_a_failure() -> None:
    clock, begun, ended = VirtualClock(), [], []

    async def slow(ctx, value):
        begun.append(ctx.attempt)
        try:
            if ctx.attempt < 3:
                await asyncio.Event().wait()
        finally:
            ended.append(ctx.attempt)
        return value

    async with Engine(clock=clock) as engine:
        run = await engine.start(chain(slow, timeout=0.01, retry=Retry(initial=0)), 1)
        for attempt in (1, 2):
            await until(lambda attempt=attempt: begun == list(range(1, attempt + 1)))
            await clock.advance(0.01)
        assert await run.result() == 1
        assert ended == [1, 2, 3]
        run = await engine.start(chain(slow, timeout=0.01), 1)
        await until(lambda: len(begun) == 4)
        await clock.advance(0.01)
        with pytest.raises(RunFailed, match=r"Timeout: attempt 1 took longer than 0.01 s") as caught:
            await run.result()
        assert isinstance(caught.value.__cause__, Timeout)


async def test_a_sync_attempt_that_takes_too_long_fails_and_its_late_result_is_ignored() -> None:
    clock, begun, let_go = VirtualClock(), threading.Event(), threading.Event()

    def slow(ctx, value):
        if ctx.attempt == 1:
            begun.set()
            let_go.wait()
            return "late"
        return "in time"

    async with Engine(clock=clock) as engine:
        run = await engine.start(chain(slow, timeout=0.05, retry=Retry(initial=0)), 1)
        try:
            await until(begun.is_set)
            await clock.advance(0.05)
            assert await run.result() == "in time"
        finally:
            let_go.set()


async def test_a_node_that_ends_just_in_time_keeps_its_result() -> None:
    clock, begun = VirtualClock(), asyncio.Event()

    async def stubborn(value):
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "cleaned up"

    async with Engine(clock=clock) as engine:
        run = await engine.start(chain(stubborn, timeout=0.01), 1)
        await begun.wait()
        await clock.advance(0.01)
        assert await run.result() == "cleaned up"


# Every exception that a node may raise.


class Unusual(BaseException):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (StopIteration("x"), "StopIteration"),
        (StopAsyncIteration("x"), "StopAsyncIteration: x"),
        (asyncio.CancelledError("x"), "CancelledError: x"),
        (Unusual(), "Unusual: <Unusual whose __str__ raises RuntimeError>"),
        (ExceptionGroup("both", [ValueError(1), KeyError(2)]), r"ExceptionGroup: both \(2 sub-exceptions\)"),
    ],
)
@pytest.mark.parametrize("sync", [False, True])
async def test_any_exception_of_a_node_fails_its_run_and_nothing_else(
    error: BaseException, text: str, sync: bool
) -> None:
    async def in_the_loop(value):
        raise error

    def in_a_thread(value):
        raise error

    async with Engine() as engine:
        with pytest.raises(RunFailed, match=text):
            await engine.execute(chain(in_a_thread if sync else in_the_loop), 1)
        assert await engine.execute(chain(lambda value: value, name="other"), 1) == 1


@pytest.mark.parametrize("sync", [False, True])
def test_a_node_that_exits_ends_the_program_and_not_the_run(sync: bool) -> None:
    store = MemoryStore()
    leave = True

    def exits(value):
        if leave:
            raise SystemExit(3)
        return value

    async def exits_in_the_loop(value):
        return exits(value)

    flow = chain(exits if sync else exits_in_the_loop)

    async def walk() -> Any:
        async with Engine(store) as engine:
            return await engine.execute(flow, 1, run_id="r")

    with pytest.raises(SystemExit) as caught:
        asyncio.run(walk())
    assert caught.value.code == 3
    leave = False
    assert asyncio.run(walk()) == 1
    gc.collect()  # collect the task that held the exception now, not during another test
