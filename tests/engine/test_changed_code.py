"""Changed code: which changes a run accepts, how its nodes are renamed, and how its past is shown."""

import asyncio
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import changed_flow
import pytest
from changed_flow import NEW, RUN, WAITING, shop
from flows_for_tests import chain, waiting
from pydantic import BaseModel
from wrapped_store import WrappedStore, until

import beluga_graph
from beluga_graph import (
    END,
    START,
    Agent,
    BadRename,
    Engine,
    Graph,
    GraphChanged,
    JudgedChange,
    PlanChange,
    Retry,
    RunConflict,
    RunFailed,
    RunStatus,
    append,
)
from beluga_graph.testing import ScriptedModel, ToolCall
from stores import MemoryStore

PATHS = {
    "order": "take",
    "split": "parts",
    "pack": "wrap",
    "packed": "wrapped",
    "ship": "deliver",
    "ship/label": "deliver/print",
    "ship/send": "deliver/hand_over",
    "confirm": "confirmed",
}


def killed(folder: Path, stop: str, names: dict[str, str] | None, rename: dict[str, str] | None) -> None:
    """Run the flow in a process that is killed at the node that never ends."""
    root = Path(beluga_graph.__file__).parent.parent
    job = json.dumps({"folder": str(folder), "stop": stop, "names": names, "rename": rename})
    command = [sys.executable, changed_flow.__file__, job]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(root)}) as process:
        try:
            assert process.stdout.readline() == "stopped\n"
        finally:
            process.kill()


async def told(folder: Path, flow: Graph | None) -> tuple[list[Any], list[Any]]:
    """Return the history and all snapshots as an engine reads them, with this flow registered or without."""
    async with Engine(folder / "store") as engine:
        if flow is not None:
            engine.register(flow)
        steps = await engine.history(RUN)
        return steps, [await engine.snapshot(RUN, step.seq) for step in steps]


@pytest.mark.parametrize("stop", ["order", "split", "pack", "label", "send", WAITING])
async def test_a_killed_run_continues_under_new_names_with_the_same_keys(tmp_path: Path, stop: str) -> None:
    killed(tmp_path, stop, None, None)
    killed(tmp_path, stop, NEW, PATHS)
    async with Engine(tmp_path / "store") as engine:
        engine.register(shop(tmp_path, names=NEW))
        run = await engine.resume(RUN, rename=PATHS)  # renaming a second time has no effect
        await engine.signal(RUN, "ok", "thanks")
        assert await run.result(60) == "thanks"
        assert [event.type async for event in run.events()][-1] == "done"
    keys: dict[str, list[str]] = {}
    for line in (tmp_path / "log").read_text().splitlines():
        node, key = line.split()
        keys.setdefault(node, []).append(key)
    assert {node: len(all_of) for node, all_of in keys.items() if len(all_of) > 1} == (
        {stop: 3} if stop in keys else {}
    )
    assert all(len(set(all_of)) == 1 for all_of in keys.values())
    if stop in keys:  # the run was at this node, so its key contains the old name
        assert keys[stop][0].rpartition("/")[2].removeprefix("r:") == f"{stop}#1"
    by_nobody = await told(tmp_path, None)
    assert by_nobody == await told(tmp_path, shop(tmp_path)) == await told(tmp_path, shop(tmp_path, names=NEW))
    nodes = [event.node for step in by_nobody[0] for event in step.events]
    (path,) = [path for path in PATHS if path.rpartition("/")[2] == stop]
    if stop != WAITING:  # the node finished under its new name; the branch that had finished before keeps the old name
        assert PATHS[path] in nodes
        assert nodes.count(path) == (1 if stop == "pack" else 0)


async def test_a_return_to_the_old_graph_is_refused_unless_it_renames_back(tmp_path: Path) -> None:
    killed(tmp_path, "label", None, None)
    killed(tmp_path, "label", NEW, PATHS)
    async with Engine(tmp_path / "store") as engine:
        engine.register(shop(tmp_path))
        with pytest.raises(GraphChanged) as refused:
            await engine.resume(RUN)
        assert refused.value.rename["deliver"] == "ship"
        run = await engine.resume(RUN, rename={new: old for old, new in PATHS.items()})
        await engine.signal(RUN, "ok", 1)
        assert await run.result(60) == 1


# Checking before a deployment.


async def test_a_refusal_shows_the_difference_and_a_rename_that_helps() -> None:
    disk, gate = MemoryStore(), asyncio.Event()

    async def body(value: int) -> int:
        await gate.wait()
        return value

    old, new = chain(body, body), Graph("chain")
    first, second = new.node(name="m0")(body), new.node(name="n1")(body)
    for source, target in ((START, first), (first, second), (second, END)):
        new.edge(source, target)
    async with Engine(WrappedStore(disk)) as engine:
        await engine.start(old, 1, run_id=RUN)
    async with Engine(WrappedStore(disk)) as engine:
        engine.register(new)
        with pytest.raises(GraphChanged) as refused:
            await engine.resume(RUN)
        error = pickle.loads(pickle.dumps(refused.value))
        assert error.difference == ("node 'n0' is gone: the run is at this node",)
        assert error.rename == {"n0": "m0"}
        assert str(error) == str(refused.value)
        assert "resume('r', rename={'n0': 'm0'})" in str(error)
        with pytest.raises(GraphChanged):
            await engine.start(new, 1, run_id=RUN)
        with pytest.raises(BadRename, match="the new graph has no node 'x'"):
            await engine.resume(RUN, rename={"n0": "x"})
        asked = await engine.difference(RUN, rename={"n0": "m0"})
        assert all(found.safe for found in asked)
        run = await engine.resume(RUN, rename=error.rename)
        gate.set()
        assert await run.result(60) == 1


async def test_a_flow_can_be_checked_before_it_is_deployed() -> None:
    disk = MemoryStore()
    async with Engine(WrappedStore(disk)) as engine:
        for name in ("parked", "failed", "completed"):
            run = await engine.start(waiting(), 1, run_id=name)
            if name != "parked":
                await run.signal("go", name)
                await run.result(60)
        other = await engine.start(waiting("other"), 1, run_id="other")
        await until(lambda: other._followers.active.snapshot.waits)
        changed = waiting(default=3)
        found = JudgedChange(
            change=PlanChange(node="w", what="default", before=None, after=b"\x03"),
            safe=False,
            why="the run waits here",
        )
        assert await engine.difference("parked", changed) == (found,)
        assert await engine.difference("parked") == ()
        assert await engine.check(changed) == {"parked": (found,)}
        assert await engine.check(waiting()) == {"parked": ()}
        with pytest.raises(RunConflict):
            await engine.difference("other", changed)
        with pytest.raises(BadRename):
            await engine.difference("parked", changed, rename={"nowhere": "w"})


async def test_the_type_of_a_payload_matters_even_if_the_wait_has_a_default() -> None:
    disk = MemoryStore()
    async with Engine(WrappedStore(disk)) as engine:
        run = await engine.start(waiting(type=int, default=3), 1, run_id=RUN)
        await until(lambda: run._followers.active.snapshot.waits)
        (found,) = (await engine.check(waiting(type=str, default=3)))[RUN]
        assert str(found.change) == "node 'w': payload was 'int' and is 'str'"


async def test_a_failed_run_is_unfinished() -> None:
    disk, healthy = MemoryStore(), []

    async def body(value: int) -> int:
        if not healthy:
            raise ValueError(value)
        return value

    new = Graph("chain")
    new.node(name="m0")(body)
    new.edge(START, "m0")
    new.edge("m0", END)
    async with Engine(WrappedStore(disk)) as engine:
        run = await engine.start(chain(body), 1, run_id=RUN)
        with pytest.raises(RunFailed):
            await run.result(60)
        assert [str(found) for found in (await engine.check(new))[RUN]] == [
            "node 'n0' is gone: the run is at this node",
        ]
        healthy.append(1)
        engine.register(new)
        run = await engine.resume(RUN, rename={"n0": "m0"})
        assert await run.result(60) == 1


@pytest.mark.parametrize("is_failed", [False, True])
async def test_a_run_at_a_node_that_a_changed_flow_lacks_can_be_cancelled(*, is_failed: bool) -> None:
    disk = MemoryStore()

    async def body(value: int) -> int:
        if is_failed:
            raise ValueError(value)
        await asyncio.Event().wait()
        return value

    new = Graph("chain")
    new.node(name="m0")(body)
    new.edge(START, "m0")
    new.edge("m0", END)
    async with Engine(WrappedStore(disk)) as engine:
        run = await engine.start(chain(body), 1, run_id=RUN)
        if is_failed:
            with pytest.raises(RunFailed):
                await run.result(60)
    async with Engine(WrappedStore(disk)) as engine:
        engine.register(new)
        assert await engine.cancel(RUN) is RunStatus.cancelled
        assert (await engine.history(RUN))[-1].trigger == "CancelRequested"
        assert (await engine.snapshot(RUN)).status is RunStatus.cancelled


async def test_a_retrying_frame_is_renamed_between_its_tries() -> None:
    disk, healthy, keys = MemoryStore(), [], []

    def flow(name: str) -> Graph:
        inside = Graph("inside")

        @inside.node
        async def x(ctx, value):
            keys.append(ctx.idempotency_key)
            if not healthy:
                raise ValueError(value)
            return value

        inside.edge(START, x)
        inside.edge(x, END)
        g = Graph("outer")
        sub = g.add(inside, name=name, retry=Retry(attempts=3, initial=0.2))
        g.edge(START, sub)
        g.edge(sub, END)
        return g

    async with Engine(WrappedStore(disk)) as engine:
        run = await engine.start(flow("old"), 1, run_id=RUN)
        await until(lambda: run._followers.active.snapshot.timers)
    healthy.append(1)
    async with Engine(WrappedStore(disk)) as engine:
        engine.register(flow("new"))
        run = await engine.resume(RUN, rename={"old": "new"})
        assert await run.result(60) == 1
    assert keys == ["r:old#1[0]/x#1", "r:old#2[0]/x#1"]


async def test_a_run_that_this_engine_drives_is_not_renamed() -> None:
    async with Engine() as engine:
        await engine.start(waiting(), 1, run_id=RUN)
        changed = Graph("waiting")
        changed.wait("v", "go")
        changed.edge(START, "v")
        changed.edge("v", END)
        engine.register(changed)
        with pytest.raises(RunConflict, match="with its old graph"):
            await engine.resume(RUN, rename={"w": "v"})


# The past.


class Log(BaseModel):
    gone: Annotated[list[str], append] = []
    kept: int = 0


class Kept(BaseModel):
    kept: int = 0


async def test_a_renamed_agent_continues_and_old_events_keep_its_old_name() -> None:
    disk, gate = MemoryStore(), asyncio.Event()

    def flow(name: str) -> Graph:
        async def look(city: str) -> str:
            """Look."""
            await gate.wait()
            return f"{city} is sunny"

        def answer(request: Any) -> Any:
            if len(request.messages) > 1:
                return f"{name} says: fine"
            return ToolCall("look", {"city": "Rome"})

        g = Graph("desk")
        bot = g.add(Agent(name, model=ScriptedModel(answer), tools=[look]), name="desk")
        g.edge(START, bot)
        g.edge(bot, END)
        return g

    rename = {f"desk/old{end}": f"desk/new{end}" for end in ("", ":calls", ":results", ".look")}
    async with Engine(WrappedStore(disk)) as engine:
        await engine.start(flow("old"), "weather?", run_id=RUN)
        await until(
            lambda: any(
                token.node == "desk/old.look" for token in engine._host.runs.actives[RUN].snapshot.tokens.values()
            )
        )
    gate.set()
    async with Engine(WrappedStore(disk)) as engine:
        engine.register(flow("new"))
        with pytest.raises(GraphChanged) as refused:
            await engine.resume(RUN)
        assert refused.value.rename == rename
        run = await engine.resume(RUN, rename=rename)
        assert await run.result(60) == "new says: fine"
        events = [event async for event in run.events()]
        (result,) = [event for event in events if event.type == "tool_result"]
        (call,) = [event for event in events if event.type == "tool_call"]
        assert (call.agent, result.agent) == ("old", "new")
        engine.register(flow("old"))
        stored = [event for step in await engine.history(RUN) for event in step.events]
        assert [(event.node, event.agent) for event in stored] == [(event.node, event.agent) for event in events]


async def test_past_states_are_shown_with_their_own_fields() -> None:
    disk = MemoryStore()

    def flow(model: type[BaseModel], nodes: int) -> Graph:
        g = Graph("kept", state=model)

        @g.node
        async def first(ctx, value):
            ctx.update(kept=1) if nodes else ctx.update(kept=1, gone="x")
            return value

        g.wait("w", "go")
        for source, target in ((START, first), (first, "w"), ("w", END)):
            g.edge(source, target)
        return g

    async with Engine(WrappedStore(disk)) as engine:
        run = await engine.start(flow(Log, 0), 1, run_id=RUN)
        await until(lambda: run._followers.active.snapshot.waits)
        found = await engine.difference(RUN, flow(Kept, 1))
        assert [str(one) for one in found if not one.safe] == [
            "the graph: state field 'gone' is gone: the run holds its value"
        ]
    async with Engine(WrappedStore(disk)) as engine:
        engine.register(flow(Kept, 1))
        snapshot = await engine.snapshot(RUN)
        assert snapshot.state == {"gone": ["x"], "kept": 1}
        assert await engine.status(RUN) is RunStatus.waiting


def two(first: str, second: str = "", *, prompt: str = "") -> Graph:
    """Return a flow of a wait and a node. Another `second` makes another graph of the same name."""
    g = Graph("two")
    g.wait(first, "go")
    g.edge(START, first)

    @g.node(name=second or "last", retry=Retry(attempts=2, initial=0) if prompt else None)
    def last(value: str) -> str:
        """Return the value."""
        return value + prompt

    g.edge(first, last)
    g.edge(last, END)
    return g


async def started(engine: Engine, how: str, flow: Graph) -> None:
    if how == "stream":
        async for _ in engine.stream(flow, 1, run_id=RUN):
            pass
    else:
        await getattr(engine, how)(flow, 1, run_id=RUN)


@pytest.mark.parametrize("changed", [two("wait", "other"), two("other")], ids=["ahead of the run", "where it stands"])
@pytest.mark.parametrize("how", ["start", "execute", "stream"])
async def test_another_graph_is_refused_for_a_run_that_this_engine_drives(how: str, changed: Graph) -> None:
    async with Engine() as engine:
        run = await engine.start(two("wait"), 1, run_id=RUN)
        with pytest.raises(GraphChanged, match="this engine drives it with another graph of this name:\n") as refused:
            await started(engine, how, changed)
        assert refused.value.is_driven
        assert any("'other'" in line for line in refused.value.difference)
        assert str(pickle.loads(pickle.dumps(refused.value))) == str(refused.value)
        followed = await engine.resume(RUN)  # with the graph that it continues with
        await run.signal("go", "gone")
        assert await followed.result(60) == "gone"


async def test_a_graph_that_differs_only_in_code_attaches_to_a_run_that_this_engine_drives() -> None:
    async with Engine() as engine:
        run = await engine.start(two("wait"), 1, run_id=RUN)
        same = await engine.start(two("wait", prompt="!"), 1, run_id=RUN)
        await run.signal("go", "gone")
        assert await same.result(60) == "gone"


async def test_a_simultaneous_start_with_another_graph_is_refused() -> None:
    async with Engine() as engine:
        starts = [engine.start(flow, 1, run_id=RUN) for flow in (two("wait"), two("wait", "other"))]
        run, refused = await asyncio.gather(*starts, return_exceptions=True)
        assert isinstance(refused, GraphChanged)
        assert not isinstance(run, BaseException)
        await run.signal("go", "gone")
        assert await run.result(60) == "gone"


@pytest.mark.parametrize(("changed", "warns"), [(two("wait", "other"), True), (two("wait", prompt="!"), False)])
async def test_the_log_warns_when_a_known_name_gets_another_graph(
    changed: Graph, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with Engine() as engine:
        engine.register(two("wait"))
        engine.register(changed)
        engine.register(changed)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == warns
    assert all("flow 'two' is known with another graph from now on: " in line and "'other'" in line for line in told)
