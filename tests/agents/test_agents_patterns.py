"""The options of the patterns: failures in parallel flows, conditions of loops, and options that are refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from agents_checks import last_text, request_texts

from beluga_graph import (
    Agent,
    Context,
    DuplicateNode,
    Engine,
    Event,
    Failure,
    Flow,
    LoopAgent,
    ParallelAgent,
    RunFailed,
    SequentialAgent,
    Unreachable,
)
from beluga_graph.models.messages import Request
from beluga_graph.testing import ScriptedModel
from stores import MemoryStore


def agent(name: str, answer: Any = None) -> Agent:
    return Agent(name, model=ScriptedModel(answer or (lambda request: f"{name}: {last_text(request)}")))


def broken(name: str = "broken") -> Agent:
    return agent(name, [ValueError("no")])


# Parallel.


async def test_with_collect_a_failure_takes_the_place_of_the_missing_result() -> None:
    last = ScriptedModel(["ok"])
    parallel = ParallelAgent("all", [agent("one"), broken(), agent("two")], on_error="collect")
    output = await parallel.invoke("x")
    assert list(output) == ["one", "broken", "two"]
    assert isinstance(output["broken"], Failure)
    assert (output["broken"].type, output["broken"].message) == ("ValueError", "no")
    parallel = ParallelAgent("all", [agent("one"), broken()], on_error="collect")
    await SequentialAgent("row", [parallel, Agent("last", model=last)]).invoke("x")
    assert request_texts(last.requests[0]) == ["## one\none: x\n\n## broken\nfailed: ValueError: no"]


async def test_with_fail_the_first_failure_ends_the_others() -> None:
    ended = asyncio.Event()
    waiting = asyncio.Event()

    async def patient(request: Request) -> str:
        try:
            waiting.set()
            await asyncio.Event().wait()
        finally:
            ended.set()
        return "never"

    async def fails(request: Request) -> str:
        await waiting.wait()
        raise ValueError("no")

    parallel = ParallelAgent("all", [agent("patient", patient), agent("fails", fails)])
    async with Engine() as engine:
        with pytest.raises(RunFailed, match="node 'fails/fails' failed in attempt 1: ValueError: no"):
            await engine.execute(parallel, "x")
        await ended.wait()


async def test_max_concurrency_bounds_how_many_run_at_a_time() -> None:
    running: list[str] = []
    most: list[int] = []

    def worker(name: str) -> Agent:
        async def answer(request: Request) -> str:
            running.append(name)
            most.append(len(running))
            for _ in range(20):
                await asyncio.sleep(0)
            running.remove(name)
            return name

        return agent(name, answer)

    names = [f"w{n}" for n in range(6)]
    output = await ParallelAgent("all", [worker(name) for name in names], max_concurrency=2).invoke("x")
    assert list(output) == names
    assert max(most) == 2


@pytest.mark.parametrize("is_async", [False, True])
async def test_aggregate_gets_the_dict_and_the_context_if_it_accepts_one(is_async: bool) -> None:
    def joined(results: dict[str, Any]) -> str:
        return " + ".join(results.values())

    async def with_context(ctx: Context, results: dict[str, Any]) -> str:
        return f"{ctx.context['user']}: {' + '.join(results.values())}"

    aggregate: Callable[..., Any] = with_context if is_async else joined
    parallel = ParallelAgent("all", [agent("one"), agent("two")], aggregate=aggregate)
    output = await parallel.invoke("x", context={"user": "ada"})
    assert output == ("ada: " if is_async else "") + "one: x + two: x"


# One flow several times.


async def test_one_flow_may_run_several_times_for_a_vote_on_its_answers() -> None:
    answers = ScriptedModel(["4", "5", "4"])
    solver = Agent("solver", model=answers)

    def majority(results: dict[str, str]) -> tuple[list[str], str]:
        votes = list(results.values())
        return list(results), max(votes, key=votes.count)

    vote = ParallelAgent("vote", [solver] * 3, aggregate=majority, max_concurrency=1)
    async with Engine() as engine:
        run = await engine.start(vote, "2 + 2")
        assert await run.result() == (["solver", "solver-2", "solver-3"], "4")
        events = [event async for event in run.events()]
    asked = [event for event in events if event.type == "node_finished" and event.agent == "solver"]
    assert sorted(event.node for event in asked) == ["solver-2/solver", "solver-3/solver", "solver/solver"]


async def test_one_flow_may_occur_several_times_in_a_sequence() -> None:
    again = counter()
    assert await SequentialAgent("row", [again, again, again]).invoke("0") == "3"


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("a a", ["a", "a-2"]),
        ("a b a b a", ["a", "b", "a-2", "b-2", "a-3"]),
        ("a a a-2", ["a", "a-3", "a-2"]),
        ("a-2 a a", ["a-2", "a", "a-3"]),
        ("a a a-2 a-2", ["a", "a-3", "a-2", "a-2-2"]),
        ("a a a-3 a", ["a", "a-2", "a-3", "a-4"]),
    ],
)
@pytest.mark.parametrize("pattern", [SequentialAgent, ParallelAgent])
def test_a_numbered_repetition_never_takes_the_name_of_another_flow(
    pattern: Callable[..., Flow], given: str, names: list[str]
) -> None:
    known = {name: agent(name) for name in given.split()}
    plan = pattern("p", [known[name] for name in given.split()]).plan()
    assert [name for name, node in plan.shape.nodes.items() if node.kind == "frame"] == names


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda flow: ParallelAgent("p", [flow]), "p.split"),
        (lambda flow: ParallelAgent("p", [flow]), "p.merge"),
        (lambda flow: LoopAgent("p", flow), "p.until"),
    ],
)
def test_an_agent_called_as_a_node_of_the_pattern_is_refused(make: Callable[[Flow], Flow], name: str) -> None:
    with pytest.raises(
        DuplicateNode, match=f"flow 'p': one of its agents is called '{name}', like one of its own nodes"
    ):
        make(agent(name)).plan()


# Loop.


async def outcome(loop: LoopAgent, deps: Any = None) -> tuple[Any, str | None]:
    async with Engine(deps=deps) as engine:
        ended = await (await engine.start(loop, "0")).outcome()
    assert ended.failure is None, ended.failure
    return ended.output, ended.reason


def ends(events: list[Event]) -> list[tuple[str, str, int | None]]:
    return [(event.name, event.reason, event.iterations) for event in events if event.type == "loop_finished"]


async def test_each_loop_of_a_run_reports_why_it_ended_also_in_a_replay() -> None:
    first = LoopAgent("first", counter(), max_iterations=3)
    second = LoopAgent("second", counter(), max_iterations=9, until=lambda output: output == "5")
    store = MemoryStore()
    async with Engine(store) as engine:
        seen = [event async for event in engine.stream(SequentialAgent("row", [first, second]), "0", run_id="r")]
    assert ends(seen) == [("first", "limit", 3), ("second", "condition", 2)]
    assert [event.node for event in seen if event.type == "loop_finished"] == [
        "first/first.until",
        "second/second.until",
    ]
    async with Engine(store) as engine:
        run = await engine.start(SequentialAgent("row", [first, second]), "0", run_id="r")
        assert ends([event async for event in run.events()]) == ends(seen)
        assert (await run.outcome()).reason is None, "the run's flow is no loop"
        assert ends([event for step in await engine.history("r") for event in step.events]) == ends(seen)


async def test_an_inner_loop_reports_each_of_its_ends_and_the_outcome_is_that_of_the_outer_loop() -> None:
    inner = LoopAgent("inner", counter(), max_iterations=4, until=lambda output: output in ("3", "6"))
    outer = LoopAgent("outer", inner, max_iterations=3)
    async with Engine() as engine:
        run = await engine.start(outer, "0")
        ended = await run.outcome()
        events = [event async for event in run.events()]
    assert (ended.output, ended.reason) == ("10", "limit")
    inners = [("inner", "condition", 3), ("inner", "condition", 3), ("inner", "limit", 4)]
    assert ends(events) == [*inners, ("outer", "limit", 3)]
    tokens = [event.token for event in events if event.type == "loop_finished"]
    assert len(set(tokens)) == 4


async def test_parallel_loops_report_their_own_ends_and_the_outcome_names_none() -> None:
    loops = [
        LoopAgent("quick", counter(), max_iterations=1),
        LoopAgent("slow", counter(), until=lambda output: output == "3"),
    ]
    async with Engine() as engine:
        run = await engine.start(ParallelAgent("both", loops), "0")
        ended = await run.outcome()
        events = [event async for event in run.events()]
    assert sorted(ends(events)) == [("quick", "limit", 1), ("slow", "condition", 3)]
    assert (ended.output, ended.reason) == ({"quick": "1", "slow": "3"}, None)


def counter() -> Agent:
    return agent("counter", lambda request: str(int(last_text(request)) + 1))


async def async_until(output: str) -> bool:
    return output == "3"


def ctx_until(ctx: Context, output: str) -> bool:
    return output == str(ctx.deps)


def ctx_until_iteration(ctx: Context, output: str, iteration: int) -> bool:
    return iteration == ctx.deps and output == str(iteration)


def default_until(output: str, wanted: str = "3") -> bool:
    return output == wanted


@pytest.mark.parametrize(
    "until",
    [
        lambda output: output == "3",
        lambda output, iteration: iteration == 3 and output == "3",
        "3".__eq__,
        async_until,
        ctx_until,
        ctx_until_iteration,
        default_until,
    ],
)
async def test_a_condition_may_take_the_output_the_iteration_and_the_context(until: Callable[..., Any]) -> None:
    assert await outcome(LoopAgent("loop", counter(), until=until), deps=3) == ("3", "condition")


async def test_a_loop_without_a_condition_makes_every_pass() -> None:
    assert await outcome(LoopAgent("loop", counter(), max_iterations=4)) == ("4", "limit")
    assert await outcome(LoopAgent("loop", counter())) == ("10", "limit")


async def test_a_condition_that_raises_fails_the_run_and_is_not_retried() -> None:
    asked: list[str] = []

    def until(output: str) -> bool:
        asked.append(output)
        raise LookupError("no such thing")

    with pytest.raises(RunFailed, match="LookupError: no such thing"):
        await LoopAgent("loop", counter(), until=until).invoke("0")
    assert asked == ["1"]


async def test_a_loop_may_repeat_any_flow_and_each_pass_begins_a_new_conversation() -> None:
    model = ScriptedModel(lambda request: f"{last_text(request)}!")
    both = SequentialAgent("pass", [Agent("a", model=model), Agent("b", model=model)])
    assert await outcome(LoopAgent("loop", both, max_iterations=2)) == ("0!!!!", "limit")
    assert [len(request.messages) for request in model.requests] == [1, 1, 1, 1]


# Refusals.


@pytest.mark.parametrize("pattern", [SequentialAgent, ParallelAgent])
def test_a_pattern_without_flows_with_namesakes_or_with_another_object_is_refused(pattern: Callable[..., Flow]) -> None:
    with pytest.raises(Unreachable, match="flow 'p': it has no agents; give it at least one"):
        pattern("p", []).plan()
    with pytest.raises(DuplicateNode, match="flow 'p': two of its agents are called 'a'; rename one"):
        pattern("p", [agent("a"), agent("a")]).plan()
    with pytest.raises(TypeError, match="is not a flow; wrap a function in a Graph"):
        pattern("p", [len]).plan()


def test_options_that_make_no_sense_are_refused_at_construction() -> None:
    one = agent("a")
    for make, message in (
        (lambda: LoopAgent("l", one, max_iterations=0), "max_iterations=0.: a whole number of at least 1"),
        (lambda: ParallelAgent("p", [one], max_concurrency=0), "max_concurrency=0.: a whole number of at least 1"),
        (lambda: ParallelAgent("p", [one], on_error="ignore"), "on_error='ignore'.: 'fail' or 'collect'"),  # type: ignore[arg-type]  # the test
        (lambda: Agent("a", model=ScriptedModel(), max_turns=0), "max_turns=0.: a whole number of at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


async def test_a_failed_sequence_continues_where_it_failed() -> None:
    first, second = ScriptedModel(["one"]), ScriptedModel([ValueError("no"), "two"])
    row = SequentialAgent("row", [Agent("first", model=first), Agent("second", model=second)])
    async with Engine() as engine:
        with pytest.raises(RunFailed):
            await engine.execute(row, "go", run_id="r")
        assert await engine.execute(row, "go", run_id="r") == "two"
    assert len(first.requests) == 1, "what was answered is not asked again"
