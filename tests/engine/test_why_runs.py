"""`Engine.why` reports the true reasons and triggers of runs that this engine, another one, or none drives."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from beluga_graph import END, START, Agent, Engine, Graph, Question, Retry, SignalWait, Why, Workflow, step, wait_signal
from beluga_graph.flows.flow import Flow
from beluga_graph.storage.keys import Keys
from beluga_graph.storage.leases import Lease
from beluga_graph.testing import ScriptedModel, VirtualClock
from stores import LMDBStore, MemoryStore
from stores.base import Delete, Put

PATIENCE_S = 30.0


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await holds():  # noqa: ASYNC110  # other tasks change what is looked at, and announce nothing
            await asyncio.sleep(0.005)


def kinds(why: Why) -> list[tuple[str, str]]:
    return [(reason.token, reason.kind) for reason in why.reasons]


def triggers(why: Why) -> list[tuple[str, object]]:
    return [(each.kind, each.signal or each.question or each.due_ms or "") for each in why.triggers]


def all_waits() -> tuple[Graph, asyncio.Event]:
    """Return a graph with one branch for each kind of wait, and the event that lets its working node end."""
    graph, gate = Graph("waits"), asyncio.Event()

    async def work(value: int) -> int:
        await gate.wait()
        return value

    async def fail(value: int) -> int:
        raise ValueError(f"no {value}")

    branches = [
        graph.node(name="work")(work),
        graph.node(name="fail", retry=Retry(attempts=3, initial=10, factor=1))(fail),
        graph.wait("ship", "shipped", type=int, timeout=60),
        graph.timer("nap", 30),
        graph.node(name="pay", requires_approval=True)(work),
    ]
    graph.fan_out("each", to=branches, join="all")
    graph.join("all")
    graph.edge(START, "each")
    for branch in branches:
        graph.edge(branch, "all")
    graph.edge("all", END)
    return graph, gate


async def test_each_token_has_its_reason_and_each_trigger_is_named() -> None:
    clock = VirtualClock()
    graph, _ = all_waits()
    async with Engine(clock=clock) as engine:
        began = clock.now_ms()
        run = await engine.start(graph, 7, run_id="r")

        async def retries() -> bool:
            return ("each#1[1]/fail#1", "retry") in kinds(await engine.why("r"))

        await eventually(retries)
        why = await engine.why("r")
        assert (why.run_id, why.flow, why.status) == ("r", "waits", "running")
        assert kinds(why) == [
            ("each#1[0]/work#1", "attempt"),
            ("each#1[1]/fail#1", "retry"),
            ("each#1[2]/ship#1", "signal"),
            ("each#1[3]/nap#1", "timer"),
            ("each#1[4]/pay.approval#1", "answer"),
        ]
        assert triggers(why) == [
            ("drive", ""),
            ("signal", "shipped"),
            ("answer", "each#1[4]/pay.approval#1"),
            ("time", began + 10_000),
            ("time", began + 30_000),
            ("time", began + 60_000),
        ]
        texts = {reason.kind: reason.text for reason in why.reasons}
        assert texts["attempt"].startswith("attempt 1 is under way in this process, for less than a second (since ")
        assert texts["retry"].startswith("attempt 2 begins in 10 seconds (")
        assert texts["retry"].endswith(", after the error: no 7")
        assert texts["signal"].startswith("waits for signal 'shipped' with a payload of type int, for ")
        assert texts["timer"].startswith("its pause ends in 30 seconds (")
        assert texts["answer"].startswith("waits for a person to decide whether step 'pay' may run, for ")
        assert [reason.since_ms for reason in why.reasons] == [began] * 5
        commands = {reason.kind: reason.command for reason in why.reasons if reason.command}
        assert commands == {
            "signal": "await engine.signal('r', 'shipped', payload)",
            "answer": "await engine.answer('r', 'each#1[4]/pay.approval#1', 'approve')",
        }
        await run.cancel()


async def test_the_text_is_short_and_on_lines_of_their_own() -> None:
    clock = VirtualClock()

    def refuse(value: int) -> int:
        raise ValueError("two\nlines \x1b[31m" + "x" * 1_000)

    flow = Workflow("hostile", step("s", refuse))
    wide = Graph("wide")
    wait = wide.wait("wait", "go")
    wide.fan_out("each", to=wait, over=lambda count: list(range(count)), join="all", max_concurrency=30)
    wide.join("all")
    wide.edge(START, "each")
    wide.edge(wait, "all")
    wide.edge("all", END)
    async with Engine(clock=clock) as engine:
        await (await engine.start(flow, 1, run_id="x y")).outcome()
        text = str(await engine.why("x y"))
        assert text.splitlines()[0] == "run 'x y' of flow 'hostile' is failed"
        assert text.replace("\n", "").isprintable()
        assert all(len(line) <= 402 for line in text.splitlines())
        assert r"two lines \x1b[31m" in text
        assert text.splitlines()[2].strip() == "await engine.resume('x y')"
        await engine.start(wide, 100, run_id="wide")

        async def waits() -> bool:
            return len((await engine.why("wide")).reasons) == 31

        await eventually(waits)
        why = await engine.why("wide")
        assert why.reasons[-1].text == "70 of 100 branches wait for a place; max_concurrency is 30"
        assert "  … and 21 more" in str(why).splitlines()
        assert triggers(why) == [("signal", "go")]


async def test_attempts_beyond_the_concurrency_of_the_engine_wait_for_a_place() -> None:
    gate = asyncio.Event()
    graph = Graph("two")

    async def work(value: int) -> int:
        await gate.wait()
        return value

    node = graph.node(work)
    graph.fan_out("each", to=node, over=lambda _: [0, 1], join="all")
    graph.join("all")
    graph.edge(START, "each")
    graph.edge(node, "all")
    graph.edge("all", END)
    async with Engine(max_concurrency=1) as engine:
        run = await engine.start(graph, 0, run_id="r")

        async def is_queued() -> bool:
            return sorted(kind for _, kind in kinds(await engine.why("r"))) == ["attempt", "concurrency"]

        await eventually(is_queued)
        gate.set()
        await run.result()
        assert kinds(await engine.why("r")) == [("", "ended")]


async def test_a_failed_run_names_the_node_the_error_and_the_resume() -> None:
    flow = Workflow("fails", step("bad", lambda _: 1 / 0, retry=Retry(attempts=2, initial=0)))
    async with Engine() as engine:
        await (await engine.start(flow, 1, run_id="r")).outcome()
        why = await engine.why("r")
        (reason,) = why.reasons
        assert (reason.kind, reason.node, reason.command) == ("failed", "bad", "await engine.resume('r')")
        assert reason.text.startswith("failed after 2 attempts ")
        assert reason.text.endswith(": ZeroDivisionError: division by zero; a resume tries again")
        assert triggers(why) == [("drive", "")]


async def test_a_failed_run_that_keeps_its_session_says_so() -> None:
    agent = Agent("talker", model=ScriptedModel([]))
    async with Engine() as engine:
        await (await engine.start(agent, "hello", run_id="r", session="ada")).outcome()
        why = await engine.why("r")
        assert [reason.kind for reason in why.reasons] == ["failed", "session"]
        assert why.reasons[1].text == "it keeps session 'ada': other runs of the session are refused until it ends"


async def test_a_run_whose_time_is_over_names_no_resume() -> None:
    clock = VirtualClock()
    async with Engine(clock=clock) as engine:
        run = await engine.start(Workflow("late", wait_signal("w"), timeout=5), 1, run_id="r")
        await clock.advance(6)
        assert (await run.outcome()).status == "failed"
        why = await engine.why("r")
        (first, second) = why.reasons
        assert (first.kind, first.node, first.command, why.triggers) == ("failed", "", "", ())
        assert first.text.endswith("start a new run")
        assert (second.token, second.kind) == ("w#1", "failed")


@pytest.mark.parametrize("retry", [None, Retry(attempts=2)])
async def test_a_run_whose_sub_flow_is_out_of_time_names_no_resume_unless_a_signal_comes_first(
    retry: Retry | None,
) -> None:
    clock, graph = VirtualClock(), Graph("outer")
    graph.add(Workflow("inner", wait_signal("w")), timeout=5, retry=retry)
    graph.edge(START, "inner")
    graph.edge("inner", END)
    graph.on_signal("inner", "skip", END)
    async with Engine(clock=clock) as engine:
        run = await engine.start(graph, 1, run_id="r")
        await clock.advance(12)
        assert (await run.outcome()).status == "failed"
        why = await engine.why("r")
        assert (why.reasons[0].node, why.reasons[0].command, why.triggers) == ("inner", "", ())
        assert why.reasons[0].text.endswith("the time of 'inner' is over, also for a resume: start a new run")
        assert (await (await engine.resume("r")).outcome()).status == "failed"
        await engine.signal("r", "skip", 7)
        assert triggers(await engine.why("r")) == [("drive", "")]
        assert await (await engine.resume("r")).result(PATIENCE_S) == 7


async def begin(store: MemoryStore | LMDBStore, flow: Flow, run_id: str = "r") -> None:
    """Start a run and leave it to no engine."""
    async with Engine(store) as engine:
        await engine.start(flow, 1, run_id=run_id)


@pytest.fixture
def waiting() -> Flow:
    return Workflow("waiting", wait_signal("w", timeout=3_600), step("after", lambda value: value))


async def test_without_an_engine_the_command_begins_one(tmp_path: Path, waiting: Flow) -> None:
    store = LMDBStore(tmp_path / "a store")
    await begin(store, waiting)
    async with Engine(store) as looker:
        why = await looker.why("r")
        assert kinds(why) == [("", "owner"), ("w#1", "signal")]
        assert why.reasons[0].command == f"beluga-graph serve MODULE:FLOW --store '{tmp_path / 'a store'}'"
        assert why.reasons[1].command == f"beluga-graph signal r w --store '{tmp_path / 'a store'}'"
        assert [kind for kind, _ in triggers(why)] == ["signal", "time"]
        await looker.signal("r", "w", 5)
        why = await looker.why("r")
        assert why.reasons[1].text.startswith("signal 'w' has arrived, and is not read yet")
        assert [kind for kind, _ in triggers(why)] == ["drive", "time"]
    store.close()


async def test_a_service_without_the_flow_of_the_run_says_what_it_lacks() -> None:
    store = MemoryStore()
    first, second = (Workflow("flow", wait_signal("w"), version=version) for version in ("1", "2"))
    await begin(store, first)
    async with Engine(store) as engine:
        engine.register(second)
        service = asyncio.create_task(engine.serve())

        async def cannot_drive() -> bool:
            return (
                (await engine.why("r"))
                .reasons[0]
                .text.startswith("this engine serves, but cannot drive it: it keeps its version of the flow, 'flow@1'")
            )

        await eventually(cannot_drive)
        engine.register(first)
        assert not await cannot_drive()
        service.cancel()
        await asyncio.wait([service])


async def test_another_engine_and_a_dead_one_are_told_apart(waiting: Flow) -> None:
    store, keys = MemoryStore(), Keys("r")
    gate = asyncio.Event()

    async def work(value: int) -> int:
        await gate.wait()
        return value

    flow = Workflow("works", step("work", work))
    async with Engine(store) as owner, Engine(store) as looker:
        await owner.start(flow, 1, run_id="r")
        why = await looker.why("r")
        assert kinds(why) == [("work#1", "attempt")]
        assert "is under way in another engine, on this machine" in why.reasons[0].text
        await owner.close()
        why = await looker.why("r")
        assert kinds(why) == [("", "owner"), ("work#1", "attempt")]
        assert why.reasons[0].text.startswith("no engine runs on this store")
        store.commit(Put(keys.lease, Lease(b"x" * 16, 7).encode(keys.lease)))
        why = await looker.why("r")
        assert why.reasons[0].text.startswith("the engine that drove it has died")
        assert why.reasons[0].command == "await engine.serve()"
        assert "has not ended" in why.reasons[1].text
        assert triggers(why) == [("drive", "")]


async def test_a_run_that_an_engine_has_parked_needs_no_owner(waiting: Flow) -> None:
    store = MemoryStore()
    async with Engine(store) as engine, Engine(store) as looker:
        await engine.start(waiting, 1, run_id="r")

        async def is_parked() -> bool:
            return store.get(Keys("r").parked) is not None

        await eventually(is_parked)
        assert kinds(await engine.why("r")) == kinds(await looker.why("r")) == [("w#1", "signal")]
        store.commit(Delete(Keys("r").parked))
        why = await looker.why("r")
        assert why.reasons[0].text.startswith("no engine drives it")


async def test_a_run_that_has_moved_says_where_it_goes_on(waiting: Flow) -> None:
    async with Engine() as engine:
        await engine.start(waiting, 1, run_id="r")
        await engine.hand_over("r", "temporal://elsewhere/default")
        why = await engine.why("r")
        assert [reason.text for reason in why.reasons] == [
            "it has left this store and goes on at temporal://elsewhere/default: ask there"
        ]
        assert why.triggers == ()


async def test_waits_for_signals_are_listed_with_the_questions() -> None:
    clock = VirtualClock()
    graph, _ = all_waits()
    async with Engine(clock=clock) as engine:
        await engine.start(graph, 7, run_id="r")

        async def asks() -> bool:
            return len(await engine.pending()) == 1

        await eventually(asks)
        wait, question = await engine.pending(waits=True)
        assert isinstance(wait, SignalWait)
        assert isinstance(question, Question)
        assert (wait.run_id, wait.id, wait.flow, wait.node) == ("r", "each#1[2]/ship#1", "waits", "ship")
        assert (wait.signal, wait.type, wait.since_ms) == ("shipped", "int", clock.now_ms())
        assert wait.due_ms == clock.now_ms() + 60_000
        await engine.signal("r", "shipped", 1)

        async def is_read() -> bool:
            return len(await engine.pending(waits=True)) == 1

        await eventually(is_read)


async def test_a_signal_that_interrupts_is_named_with_what_it_interrupts() -> None:
    graph, gate = Graph("interrupted"), asyncio.Event()

    async def work(value: int) -> int:
        await gate.wait()
        return value

    async def change(value: int) -> int:
        return value

    busy, changed = graph.node(work), graph.node(change)
    wait = graph.wait("wait", "go")
    graph.edge(START, busy)
    graph.edge(busy, wait)
    graph.edge(wait, END)
    graph.edge(changed, wait)
    graph.on_signal(busy, "changed", changed)
    graph.on_signal(graph, "stop", changed)
    async with Engine() as engine:
        await engine.start(graph, 7, run_id="r")
        why = await engine.why("r")
        assert triggers(why) == [("drive", ""), ("signal", "stop"), ("signal", "changed")]
        assert [each.text for each in why.triggers[1:]] == [
            "signal 'stop', which interrupts the run",
            "signal 'changed', which interrupts 'work'",
        ]
        await engine.signal("r", "changed", 5)

        async def waits() -> bool:
            return ("wait#1", "signal") in kinds(await engine.why("r"))

        await eventually(waits)
        assert triggers(await engine.why("r")) == [("signal", "stop"), ("signal", "go")]
