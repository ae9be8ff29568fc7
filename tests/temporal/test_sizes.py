"""Values that are too large for the server, without claims: a clear error, or a way around it, and never a hang."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
from parity_flows import questions_of
from parity_graphs import link
from servers import Server
from temporalio.client import WorkflowHistory
from worker_processes import change_options

from beluga_graph import Context, Graph, LimitReached, RunFailed, RunStatus
from beluga_graph.temporal import TemporalEngine
from beluga_graph.temporal.mirror.recording import export_history

PATIENCE_S = 120
LARGE = 1_850_000  # bytes that fit into one payload, with little beside them


@asynccontextmanager
async def serving(server: Server, *flows: Graph, **options: Any) -> AsyncIterator[TemporalEngine]:
    """Open an engine, with a worker for some flows. Without options, its calls are one by one, and inline."""
    engine = TemporalEngine(server.address, task_queue=token_hex(4), deps=Counter(), **options)
    async with asyncio.timeout(PATIENCE_S), engine, engine.worker(flows):
        yield engine


async def histories_of(server: Server, run_id: str) -> list[WorkflowHistory]:
    return await export_history(await server.connect(), run_id)


def returning(name: str, *sizes: int) -> Graph:
    """Return a chain whose nodes count their attempts and return texts of these sizes."""
    g = Graph(name)

    def add(size: int) -> str:
        @g.node(name=f"make_{size}")
        async def make(ctx: Context, value: Any) -> str:
            ctx.deps[size] += 1
            return "x" * size

        return f"make_{size}"

    link(g, *map(add, sizes))
    return g


def wide(name: str, *, size: int) -> Graph:
    """Return a fan-out whose branches have results of this size."""
    g = Graph(name)

    @g.node
    async def make(ctx: Context, item: int) -> str:
        return "x" * size

    g.fan_out("each", to=make, over=range, join="all")
    g.join("all", lambda results: [len(results), sum(map(len, results))])
    link(g, "each", "all")
    return g


def split(name: str, *, width: int, size: int) -> Graph:
    """Return a fan-out that gives the same value of this size to several nodes."""
    g = Graph(name)

    @g.node
    async def make(ctx: Context, value: Any) -> str:
        return "x" * size

    parts = [f"part{number}" for number in range(width)]
    for part in parts:
        g.node(name=part)(len)
    g.fan_out("split", to=parts, join="all")
    g.join("all", sum)
    link(g, make, "split", "all")
    return g


# At the door.


async def test_an_input_that_the_call_of_the_first_node_cannot_hold_is_refused_at_the_door(
    temporal_server: Server, tmp_path: Path
) -> None:
    g = Graph("measures")
    g.node(name="measure")(len)
    link(g, "measure")
    async with serving(temporal_server, g) as engine:
        with pytest.raises(LimitReached, match=r"the call of node 'measure'.* has 1,9.* claims="):
            await engine.start(g, "x" * 960_000, run_id=(run_id := token_hex(4)))
        assert await engine.execute(g, "x" * 940_000, run_id=run_id) == 940_000
    async with serving(temporal_server, g, claims=tmp_path / "claims") as engine:
        assert await engine.execute(g, "x" * 1_960_000) == 1_960_000


async def test_an_input_a_signal_and_an_answer_that_are_too_large_are_refused_at_the_door(
    temporal_server: Server,
) -> None:
    g = Graph("asking")
    g.wait("signal", "go")
    g.node(name="check", requires_approval=True)(lambda value: value)
    link(g, "signal", "check")
    async with serving(temporal_server, g) as engine:
        with pytest.raises(LimitReached, match="claims="):
            await engine.start(g, "x" * 2_000_000, run_id=(run_id := token_hex(4)))
        run = await engine.start(g, "small", run_id=run_id)
        with pytest.raises(LimitReached, match="claims="):
            await run.signal("go", "x" * 2_000_000)
        await run.signal("go", "fine")
        (question,) = await questions_of(engine, run, 1)
        with pytest.raises(LimitReached, match="claims="):
            await engine.answer(run_id, question.id, "modify", "x" * 2_000_000)
        await engine.answer(run_id, question.id, "modify", "mended")
        assert await run.result() == "mended"


# Results of nodes.


async def test_a_result_that_is_too_large_fails_its_node_which_runs_once(temporal_server: Server) -> None:
    g = returning("too_large_result", 2_500_000)
    deps: Counter[int] = Counter()
    engine = TemporalEngine(temporal_server.address, task_queue=token_hex(4), deps=deps)
    async with asyncio.timeout(PATIENCE_S), engine, engine.worker([g]):
        with pytest.raises(RunFailed, match="TooLarge: the result is 2,500,") as caught:
            await engine.execute(g)
    assert "claims=" in str(caught.value)
    assert deps == {2_500_000: 1}


async def test_an_output_may_be_as_large_as_one_payload(temporal_server: Server) -> None:
    g = returning("large_output", LARGE)
    async with serving(temporal_server, g) as engine:
        assert await engine.execute(g) == "x" * LARGE


async def test_an_activity_that_goes_on_reports_before_its_replies_are_too_large_together(
    temporal_server: Server,
) -> None:
    g = returning("growing", 900_000, LARGE)
    async with serving(temporal_server, g, durability="batch") as engine:
        assert await engine.execute(g) == "x" * LARGE


# Failures.


@pytest.mark.parametrize("size", [100_000, 900_000])
async def test_a_failure_of_any_size_is_read_in_full(temporal_server: Server, size: int) -> None:
    g = Graph("large_failure")

    @g.node
    async def fail(ctx: Context, value: str) -> None:
        raise ValueError(value)

    link(g, fail)
    async with serving(temporal_server, g) as engine:
        outcome = await (await engine.start(g, "x" * size)).outcome()
        assert outcome.status is RunStatus.failed
        assert outcome.failure is not None
        assert (outcome.failure.type, outcome.failure.input) == ("ValueError", "x" * size)
        assert outcome.failure.message.startswith("x" * 1_000)


async def test_an_error_message_that_is_too_large_is_a_failure(temporal_server: Server) -> None:
    g = Graph("huge_message")

    @g.node
    async def fail(ctx: Context, size: int) -> None:
        raise ValueError("x" * size)

    link(g, fail)
    async with serving(temporal_server, g) as engine:
        with pytest.raises(RunFailed):
            await engine.execute(g, 3_000_000)


# Calls.


async def test_calls_that_are_too_large_together_begin_one_after_another(temporal_server: Server) -> None:
    g = split("split_six", width=6, size=900_000)
    async with serving(temporal_server, g) as engine:
        assert await engine.execute(g) == 6 * 900_000


async def test_calls_of_which_each_is_too_large_fail_the_run(temporal_server: Server) -> None:
    g = Graph("two_waits")
    for side in ("left", "right"):
        g.wait(side, side, type=str)
    g.fan_out("both", to=["left", "right"], join="all")
    g.join("all", len)
    link(g, "both", "all")
    async with serving(temporal_server, g) as engine:
        run = await engine.start(g, context="y" * 100_000)
        for side in ("left", "right"):
            await run.signal(side, "x" * LARGE)
        with pytest.raises(RunFailed, match=r"TooLarge: the values that node '(left|right)' reads are .* claims="):
            await run.result()


async def test_a_join_whose_results_are_too_large_together_fails(temporal_server: Server) -> None:
    g = wide("wide_join", size=100_000)
    async with serving(temporal_server, g, durability="batch") as engine:
        with pytest.raises(RunFailed, match=r"TooLarge: the values that node 'all' reads are 3,0.* claims="):
            await engine.execute(g, 30)


# Runs that should continue as new.


async def test_a_run_whose_state_is_too_large_to_continue_as_new_fails(
    temporal_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_options(monkeypatch, continue_events=50, window=4)
    g = wide("wide_state", size=100_000)
    async with serving(temporal_server, g) as engine:
        with pytest.raises(RunFailed, match=r"TooLarge: the state of the run is .* claims="):
            await engine.execute(g, 60)


async def test_with_claims_the_same_run_continues_as_new(
    temporal_server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    change_options(monkeypatch, continue_events=50, window=4)
    g = wide("wide_state", size=100_000)
    async with serving(temporal_server, g, claims=tmp_path / "claims") as engine:
        run = await engine.start(g, 60)
        assert await run.result() == [60, 6_000_000]
        assert len(await histories_of(temporal_server, run.id)) > 2


async def test_a_run_continues_as_new_once_its_state_has_become_smaller(
    temporal_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_options(monkeypatch, continue_events=40)
    g = Graph("full_inbox")
    before, after = ([f"{when}{number}" for number in range(8)] for when in ("before", "after"))
    for name in (*before, *after):
        g.node(name=name)(lambda value: value)
    waits = [f"wait{number}" for number in range(3)]
    for name in waits:
        g.wait(name, "go", type=str)
    g.node(name="measure")(len)
    link(g, *before, *waits, "measure", *after)
    async with serving(temporal_server, g) as engine:
        run = await engine.start(g, 1)
        for _ in waits:
            await run.signal("go", "x" * 800_000)
        assert await run.result() == 800_000
        first, *others = await histories_of(temporal_server, run.id)
        assert others
        assert len(first.events) > 60
