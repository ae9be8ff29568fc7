"""The verbs of a run: start, continue, watch, signal, cancel, fork, inspect."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import pytest
from flows_for_tests import chain, waiting
from pydantic import BaseModel

from beluga_graph import (
    END,
    START,
    Context,
    Engine,
    Graph,
    LimitReached,
    Limits,
    RunCancelled,
    RunError,
    RunFailed,
    RunStatus,
    SignalTimeout,
    StateError,
    add,
    append,
    run_sync,
)
from beluga_graph.testing import VirtualClock
from stores import MemoryStore


class Switch:
    """A node that fails until it is fixed, and counts its calls."""

    def __init__(self) -> None:
        self.mended = False
        self.calls: Counter[str] = Counter()

    def flow(self) -> Graph:
        def first(value):
            self.calls["first"] += 1
            return value + 1

        def second(value):
            self.calls["second"] += 1
            if not self.mended:
                raise ConnectionError("down")
            return value * 10

        return chain(first, second)


async def until(run: Any, status: RunStatus) -> None:
    async with asyncio.timeout(60):
        while await run.status() is not status:  # noqa: ASYNC110  # a status is read, not announced
            await asyncio.sleep(0)


# Starting and continuing.


async def test_a_started_run_is_on_disk_before_its_id_is_returned(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine:
        run = await engine.start(waiting(), 1)
        history = await engine.history(run.id)
        assert history[0].trigger == "RunStarted"
        assert [info.run_id for info in await engine.runs()] == [run.id]


async def test_a_known_id_returns_the_stored_output_and_runs_nothing() -> None:
    switch = Switch()
    switch.mended = True
    store = MemoryStore()
    async with Engine(store) as engine:
        assert await engine.execute(switch.flow(), 1, run_id="r") == 20
    async with Engine(store) as engine:
        assert await engine.execute(switch.flow(), 1, run_id="r") == 20
    assert switch.calls == {"first": 1, "second": 1}


async def test_callers_at_the_same_time_share_one_run() -> None:
    calls = 0

    async def slow(value):
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.01)
        return value

    async with Engine() as engine:
        flow = chain(slow)
        assert await asyncio.gather(*(engine.execute(flow, 7, run_id="r") for _ in range(10))) == [7] * 10
    assert calls == 1


@pytest.mark.parametrize("again", ["execute", "resume"])
async def test_a_failed_run_continues_at_the_node_that_failed(again: str) -> None:
    switch = Switch()
    async with Engine() as engine:
        with pytest.raises(RunFailed) as caught:
            await engine.execute(switch.flow(), 1, run_id="r")
        assert (caught.value.run_id, caught.value.node, caught.value.attempt) == ("r", "n1", 1)
        assert isinstance(caught.value.__cause__, ConnectionError)
        assert await engine.status("r") is RunStatus.failed
        switch.mended = True
        if again == "execute":
            assert await engine.execute(switch.flow(), 1, run_id="r") == 20
        else:
            run = await engine.resume("r")
            assert await run.result() == 20
    assert switch.calls == {"first": 1, "second": 2}


async def test_a_handle_reports_the_stored_run_even_after_a_resume_by_another_handle() -> None:
    switch = Switch()
    async with Engine() as engine:
        run = await engine.start(switch.flow(), 1, run_id="r")
        with pytest.raises(RunFailed):
            await run.result()
        switch.mended = True
        await (await engine.resume("r")).result()
        assert await run.status() is RunStatus.completed
        assert await run.result() == 20


async def test_a_stored_failure_is_raised_again_by_an_engine_that_did_not_see_it() -> None:
    store, switch = MemoryStore(), Switch()
    async with Engine(store) as engine:
        with pytest.raises(RunFailed):
            await engine.execute(switch.flow(), 1, run_id="r")
    async with Engine(store) as engine:
        snapshot = await engine.snapshot("r")
        assert snapshot.failure is not None
        assert (snapshot.failure.node, str(snapshot.failure)) == ("n1", "ConnectionError: down")
        with pytest.raises(RunFailed, match="ConnectionError: down"):
            await engine.execute(switch.flow(), 1, run_id="r")
    assert switch.calls["second"] == 2


async def test_resume_needs_a_registered_flow() -> None:
    store = MemoryStore()
    async with Engine(store) as engine:
        await engine.start(waiting(), 1, run_id="r")
    async with Engine(store) as engine:
        with pytest.raises(RunError) as caught:
            await engine.resume("r")
        assert str(caught.value) == (
            "run 'r': its flow 'waiting' is not known here (known: none): call engine.register(flow) first"
        )


async def test_recover_continues_all_unfinished_runs_and_reports_the_others() -> None:
    store = MemoryStore()
    async with Engine(store) as engine:
        for name in ("a", "b"):
            await engine.start(waiting(), 1, run_id=name)
        await engine.start(waiting("other"), 1, run_id="c")
        await engine.execute(chain(lambda value: value), 1, run_id="ended")
        switch = Switch()
        with pytest.raises(RunFailed):
            await engine.execute(switch.flow(), 1, run_id="failed")
    async with Engine(store) as engine:
        engine.register(waiting())
        recovery = await engine.recover()
        assert sorted(run.id for run in recovery) == ["a", "b"]
        assert list(recovery.skipped) == ["c"]
        for run in recovery:
            await run.signal("go", run.id)
        assert [await run.result() for run in recovery] == [run.id for run in recovery]


async def test_a_closed_engine_raises_an_error_that_says_so() -> None:
    engine = Engine(MemoryStore())
    await engine.start(waiting(), 1, run_id="r")
    await engine.close()
    await engine.close()
    with pytest.raises(RunError, match="the engine is closed"):
        await engine.start(waiting(), 1)
    with pytest.raises(RunError, match="the engine is closed"):
        await engine.resume("r")


def test_run_sync_returns_the_output_in_plain_code() -> None:
    assert run_sync(chain(lambda value: value + 1, lambda value: value * 2), 3) == 8


async def test_invoke_returns_the_same_as_execute_at_any_nesting() -> None:
    inner = chain(lambda value: value + 1, name="inner")
    outer = Graph("outer")
    outer.edge(START, outer.add(inner))
    outer.edge("inner", END)
    assert await inner.invoke(1) == await outer.invoke(1) == 2


# Waits and timers.


async def test_a_wait_ends_at_its_timeout_with_its_default_or_as_a_failure() -> None:
    clock = VirtualClock()
    async with Engine(clock=clock) as engine:
        with_default = await engine.start(waiting(timeout=60, default="nobody"), 1)
        without = await engine.start(waiting("strict", timeout=60), 1)
        await until(with_default, RunStatus.waiting)
        await until(without, RunStatus.waiting)
        await clock.advance(59.9)
        assert await without.status() is RunStatus.waiting
        await clock.advance(0.2)
        assert await with_default.result(timeout=60) == "nobody"
        with pytest.raises(RunFailed, match="SignalTimeout: no signal 'go' came within 60 s") as caught:
            await without.result(timeout=60)
        assert caught.value.cause.type == SignalTimeout.__name__


async def test_a_timer_keeps_its_time_across_engines_and_passes_its_input_on() -> None:
    clock, store = VirtualClock(), MemoryStore()
    g = Graph("g")
    g.timer("pause", 100)
    g.edge(START, "pause")
    g.edge("pause", END)
    async with Engine(store, clock=clock) as engine:
        await engine.start(g, "kept", run_id="r")
        await clock.advance(60)
    async with Engine(store, clock=clock) as engine:
        run = await engine.start(g, "kept", run_id="r")
        await clock.advance(39)
        assert await run.status() is RunStatus.waiting
        await clock.advance(2)
        assert await run.result(timeout=60) == "kept"
        fired = [event async for event in run.events() if event.type == "timer"]
        assert len(fired) == 1


# Ending.


async def test_cancel_is_final_and_idempotent() -> None:
    ended = asyncio.Event()

    async def slow(value):
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with Engine() as engine:
        run = await engine.start(chain(slow), 1, run_id="r")
        await asyncio.sleep(0)
        assert await asyncio.gather(run.cancel(), run.cancel()) == [RunStatus.cancelled] * 2
        assert await engine.cancel("r") is RunStatus.cancelled
        with pytest.raises(RunCancelled, match="it was cancelled"):
            await run.result()
        assert (await run.outcome()).status is RunStatus.cancelled
        with pytest.raises(RunCancelled):
            await engine.execute(chain(slow), 1, run_id="r")
        with pytest.raises(RunCancelled):
            await (await engine.resume("r")).result()
    assert ended.is_set()


async def test_cancel_of_a_completed_run_returns_the_status_that_won() -> None:
    async with Engine() as engine:
        assert await engine.execute(chain(lambda value: value), 1, run_id="r") == 1
        assert await engine.cancel("r") is RunStatus.completed
        assert await engine.execute(chain(lambda value: value), 1, run_id="r") == 1


async def test_a_run_can_be_cancelled_without_its_code() -> None:
    store = MemoryStore()
    switch = Switch()
    async with Engine(store) as engine:
        await engine.start(waiting(), 1, run_id="waits")
        with pytest.raises(RunFailed):
            await engine.execute(switch.flow(), 1, run_id="failed")
    async with Engine(store) as engine:
        assert await engine.cancel("waits") is RunStatus.cancelled
        assert await engine.cancel("failed") is RunStatus.cancelled
    async with Engine(store) as engine:
        with pytest.raises(RunCancelled):
            await engine.execute(waiting(), 1, run_id="waits")


async def test_a_result_that_takes_too_long_does_not_touch_the_run() -> None:
    async with Engine() as engine:
        run = await engine.start(waiting(), 1)
        with pytest.raises(TimeoutError):
            await run.result(timeout=0.01)
        with pytest.raises(TimeoutError):
            await run.outcome(timeout=0.01)
        await run.signal("go", 5)
        assert await run.result(timeout=60) == 5


async def test_an_outcome_returns_a_failure_and_raises_nothing() -> None:
    async with Engine() as engine:
        outcome = await (await engine.start(Switch().flow(), 1)).outcome()
        assert (outcome.status, outcome.output, outcome.steps) == (RunStatus.failed, None, 1)
        assert str(outcome.failure) == "ConnectionError: down"
        outcome = await (await engine.start(chain(lambda value: value), 1)).outcome()
        assert (outcome.status, outcome.output, outcome.steps) == (RunStatus.completed, 1, 1)


async def test_leaving_the_engine_stops_a_run_without_ending_it() -> None:
    store = MemoryStore()
    async with Engine(store) as engine:
        run = await engine.start(waiting(), 1, run_id="r")
        result = asyncio.ensure_future(run.result())
        await asyncio.sleep(0)
    with pytest.raises(RunError, match="this engine stopped driving it before its end"):
        await result
    async with Engine(store) as engine:
        assert await engine.status("r") in (RunStatus.waiting, RunStatus.running)


# Reading.


class Tally(BaseModel):
    total: Annotated[int, add] = 0
    seen: Annotated[list[int], append] = []
    mood: str = "calm"


def tallying() -> Graph:
    g = Graph("tallying", state=Tally)

    @g.node
    async def one(ctx, value):
        ctx.update(total=1, seen=[1])
        return value

    @g.node
    async def two(ctx, value):
        ctx.update(total=10, seen=[2, 3], mood="glad")
        return value

    @g.node
    async def end(ctx, value):
        return [ctx.state.total, list(ctx.state.seen), ctx.state.mood]

    g.edge(START, one)
    g.edge(one, two)
    g.edge(two, end)
    g.edge(end, END)
    return g


async def test_a_snapshot_of_any_step_shows_the_run_as_it_was() -> None:
    async with Engine() as engine:
        assert await engine.execute(tallying(), "in", run_id="r") == [11, [1, 2, 3], "glad"]
        shown = [await engine.snapshot("r", seq) for seq in range(1, 5)]
        assert [snapshot.state for snapshot in shown] == [
            {"total": 0, "seen": [], "mood": "calm"},
            {"total": 1, "seen": [1], "mood": "calm"},
            {"total": 11, "seen": [1, 2, 3], "mood": "glad"},
            {"total": 11, "seen": [1, 2, 3], "mood": "glad"},
        ]
        assert [[token.node for token in snapshot.tokens] for snapshot in shown] == [["one"], ["two"], ["end"], []]
        assert [snapshot.input for snapshot in shown] == ["in"] * 4
        assert [snapshot.status for snapshot in shown] == [RunStatus.running] * 3 + [RunStatus.completed]
        assert await engine.snapshot("r") == shown[-1]


async def test_runs_lists_every_run_with_its_flow_and_status() -> None:
    async with Engine() as engine:
        await engine.execute(chain(lambda value: value), 1, run_id="a")
        await engine.start(waiting(), 1, run_id="b")
        with pytest.raises(RunFailed):
            await engine.execute(Switch().flow(), 1, run_id="c")
        await until(await engine.start(waiting(), 1, run_id="b"), RunStatus.waiting)
        assert {(info.run_id, info.flow, info.status) for info in await engine.runs()} == {
            ("a", "chain", RunStatus.completed),
            ("b", "waiting", RunStatus.waiting),
            ("c", "chain", RunStatus.failed),
        }


# Forks.


async def test_a_fork_continues_from_its_step_with_keys_of_its_own() -> None:
    keys = []

    def note(ctx: Context, value: int) -> int:
        keys.append(ctx.idempotency_key)
        return value + 1

    async with Engine() as engine:
        assert await engine.execute(chain(note, note, note), 0, run_id="r") == 3
        fork = await engine.fork("r", 2, run_id_new="copy")
        assert fork.id == "copy"
        assert await fork.result(timeout=60) == 3
        assert await engine.execute(chain(note, note, note), 0, run_id="r") == 3
    assert keys == ["r:n0#1", "r:n1#1", "r:n2#1", "copy:n1#1", "copy:n2#1"]


async def test_a_fork_may_update_the_state_through_its_reducers() -> None:
    async with Engine() as engine:
        await engine.execute(tallying(), 0, run_id="r")
        fork = await engine.fork("r", 2, update={"total": 100, "seen": [9], "mood": "odd"})
        assert await fork.result(timeout=60) == [111, [1, 9, 2, 3], "glad"]
        with pytest.raises(StateError, match="state Tally has no field 'nope'"):
            await engine.fork("r", 2, update={"nope": 1})
        assert await engine.execute(tallying(), 0, run_id="r") == [11, [1, 2, 3], "glad"]


async def test_a_fork_of_a_failed_run_tries_its_node_again() -> None:
    switch = Switch()
    async with Engine() as engine:
        with pytest.raises(RunFailed):
            await engine.execute(switch.flow(), 1, run_id="r")
        switch.mended = True
        last = (await engine.history("r"))[-1].seq
        assert await (await engine.fork("r", last)).result(timeout=60) == 20
        assert await engine.status("r") is RunStatus.failed
    assert switch.calls == {"first": 1, "second": 2}


async def test_a_fork_gets_the_unread_signals() -> None:
    async with Engine() as engine:
        run = await engine.start(waiting(), 1, run_id="r")
        await run.signal("other", "unread")
        await run.signal("go", "read")
        await run.result(timeout=60)
        fork = await engine.fork("r", 1)
        assert await fork.result(timeout=60) == "read"


@pytest.mark.parametrize("sent", ["before the fork", "to the fork"])
async def test_a_fork_gets_the_next_signal_of_a_name_that_its_source_had_read(sent: str) -> None:
    g = Graph("twice")
    g.wait("first", "go")
    g.wait("second", "go")
    for source, target in ((START, "first"), ("first", "second"), ("second", END)):
        g.edge(source, target)
    async with Engine() as engine:
        run = await engine.start(g, None, run_id="r")
        await run.signal("go", "one")
        await anext(event async for event in run.events() if event.type == "signal")
        if sent == "before the fork":
            await run.signal("go", "two")
        fork = await engine.fork("r", 2)
        if sent == "to the fork":
            await fork.signal("go", "two")
        assert await fork.result(timeout=60) == "two"


# Context, deps, limits.


async def test_a_node_sees_the_runs_input_context_and_the_engines_deps() -> None:
    deps, seen = object(), []

    async def look(ctx, value):
        seen.append((ctx.run_id, ctx.node, ctx.attempt, ctx.input, ctx.context, ctx.deps is deps, value))
        ctx.input.append("only here")
        return "next"

    async with Engine(deps=deps) as engine:
        await engine.execute(chain(look, look), ["in"], run_id="r", context={"user": 7})
    assert seen == [
        ("r", "n0", 1, ["in"], {"user": 7}, True, ["in"]),
        ("r", "n1", 1, ["in"], {"user": 7}, True, "next"),
    ]


async def test_a_value_that_a_node_changes_is_its_own_copy() -> None:
    async def spoil(value):
        value.append("spoilt")
        await asyncio.sleep(0)
        return len(value)

    g = Graph("g")
    for name in ("a", "b"):
        g.node(name=name)(spoil)
    g.fan_out("both", to=["a", "b"], join="j")
    g.join("j")
    g.edge(START, "both")
    g.edge("j", END)
    given = ["in"]
    assert await g.invoke(given) == [2, 2]
    assert given == ["in"]


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (Limits(max_visits=3), "node 'n0' was visited 3 times in one scope"),
        (Limits(max_steps=5), "the run made 5 steps"),
    ],
)
async def test_a_loop_that_exceeds_a_limit_fails_and_names_it(limits: Limits, text: str) -> None:
    g = Graph("g")
    g.node(name="n0")(lambda value: value + 1)
    g.edge(START, "n0")
    g.branch("n0", lambda value: value > 100, {True: END, False: "n0"})
    async with Engine() as engine:
        with pytest.raises(RunFailed, match=text) as caught:
            await engine.execute(g, 0, limits=limits)
        assert caught.value.cause.type == LimitReached.__name__


async def test_a_run_that_fails_when_it_reaches_a_timer_is_not_in_the_timer_index_until_it_is_resumed() -> None:
    g = Graph("pausing")
    g.node(name="n0")(lambda value: value)
    g.timer("pause", 0.05)
    for source, target in ((START, "n0"), ("n0", "pause"), ("pause", END)):
        g.edge(source, target)
    async with Engine() as engine:
        with pytest.raises(RunFailed, match="the run made 1 steps"):
            await engine.execute(g, 7, run_id="r", limits=Limits(max_steps=1))
        assert not list(engine.store.scan(b"T"))
        run = await engine.resume("r", limits=Limits(max_steps=9))
        assert await run.result(timeout=60) == 7
        assert not list(engine.store.scan(b"T"))


async def test_a_fan_out_wider_than_its_limit_fails_and_names_it() -> None:
    g = Graph("g")
    g.node(name="n")(lambda value: value)
    g.fan_out("out", to="n", over=range, join="j")
    g.join("j", len)
    g.edge(START, "out")
    g.edge("j", END)
    async with Engine() as engine:
        assert await engine.execute(g, 0) == 0
        assert await engine.execute(g, 4, limits=Limits(max_width=4)) == 4
        with pytest.raises(RunFailed, match="has more branches than max_width 4"):
            await engine.execute(g, 5, limits=Limits(max_width=4))
