"""The scheduler: how many attempts run, what they leave of the loop to others, and what stops a run."""

import asyncio
from typing import Any

import pytest
from counting_store import CountingStore, talking
from counting_store import wide as instant_nodes
from flows_for_tests import chain, waits
from wrapped_store import RUN, WrappedStore

from beluga_graph import (
    END,
    START,
    Context,
    Engine,
    Graph,
    LeaseLost,
    RunError,
    RunFailed,
)
from beluga_graph.kernel.triggers import RunTakenOver
from beluga_graph.storage.leases import Lease
from stores import MemoryStore, Put, StoreFull


@pytest.mark.parametrize("durability", ["commit", "batch", "none"])
async def test_a_branch_may_lose_its_race_before_it_has_begun(durability: Any) -> None:
    async def instant(value):
        return value

    g = Graph("g")
    names = [f"n{i}" for i in range(5)]
    for name in names:
        g.node(name=name)(instant)
        g.node(name=f"{name}-then")(instant)
        g.edge(name, f"{name}-then")
        g.edge(f"{name}-then", "first")
    g.fan_out("race", to=names, join="first")
    g.join("first", len, wait=1)
    g.edge(START, "race")
    g.edge("first", END)
    async with Engine(durability=durability) as engine:
        assert await engine.execute(g, 1) == 1
        assert await asyncio.gather(*(engine.execute(g, 1) for _ in range(20))) == [1] * 20


async def test_the_engine_limits_the_attempts_under_way() -> None:
    now = most = 0

    async def busy(value):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1
        return value

    g = Graph("g")
    g.node(busy)
    g.fan_out("out", to="busy", over=lambda value: range(20), join="j")
    g.join("j", sum)
    g.edge(START, "out")
    g.edge("j", END)
    async with Engine(max_concurrency=3) as engine:
        assert await asyncio.gather(engine.execute(g), engine.execute(g)) == [190, 190]
    assert most == 3


async def test_steps_of_many_runs_in_one_pass_of_the_loop_are_one_commit() -> None:
    store = CountingStore()
    async with Engine(store) as engine:
        g = instant_nodes(1)
        await asyncio.gather(*(engine.execute(g, 0) for _ in range(200)))
    assert store.commits < 60


def test_nodes_that_never_wait_do_not_block_the_loop() -> None:
    turns = 0

    async def walk() -> None:
        nonlocal turns
        async with Engine() as engine:
            run = asyncio.ensure_future(engine.execute(talking(2_000), 0))
            while not run.done():
                turns += 1
                await asyncio.sleep(0)

    asyncio.run(walk())
    assert turns > 10


async def test_a_node_that_cancels_its_own_task_stops_its_run_which_can_be_resumed() -> None:
    mended: list[bool] = []

    async def body(value: int) -> int:
        if not mended:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        return value

    async with Engine() as engine:
        run = await engine.start(chain(body), 1, run_id=RUN)
        with pytest.raises(RunError, match="the task of one of its nodes was cancelled: resume it"):
            await run.result(60)
        mended.append(True)
        assert await (await engine.resume(RUN)).result(60) == 1


@pytest.mark.parametrize("where", ["shared", "get", "scan"])
async def test_a_store_that_fails_outside_of_a_commit_stops_the_run_with_its_error(where: str) -> None:
    class Gone(WrappedStore):
        is_gone = False

        def __getattribute__(self, name: str) -> Any:
            if name == where and self.is_gone:
                raise StoreFull("x", "no address space")
            return super().__getattribute__(name)

    disk = MemoryStore()
    store = Gone(disk)
    async with Engine(store) as engine, Engine(WrappedStore(disk)) as sender:
        run = await engine.start(waits(1), 1, run_id=RUN)
        store.is_gone = True
        await sender.signal(RUN, "s", 1)
        await asyncio.wait_for(asyncio.shield(run._followers.active.done), 60)
        store.is_gone = False
        with pytest.raises(StoreFull, match="no address space"):
            await run.result(60)
        assert await (await engine.resume(RUN)).result(60) == 1


def failing() -> Graph:
    """Return a flow of one node that fails when its event is set."""

    async def fail(ctx: Context, value: int) -> int:
        await ctx.deps.wait()
        raise ValueError("no")

    g = Graph("failing")
    g.node(name="fail")(fail)
    g.edge(START, "fail")
    g.edge("fail", END)
    return g


@pytest.mark.parametrize("meanwhile", ["a node looks at the lease", "a wakeup record asks for a cancel"])
async def test_a_trigger_between_a_failure_and_its_commit_does_not_hide_the_failure(
    meanwhile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = asyncio.Event()
    async with Engine(MemoryStore(), deps=fails) as engine:
        run = await engine.start(failing(), 1, run_id=RUN)
        scheduler = engine._host.scheduler
        live, put, looks = engine._host.runs.actives[RUN], scheduler.committer.put, []

        def put_beside(entry: Any, **_: Any) -> None:
            """Put the step, and make another trigger arrive in the same pass of the loop."""
            monkeypatch.setattr(scheduler.committer, "put", put)
            put(entry)
            if meanwhile == "a node looks at the lease":
                look = scheduler.commit(live, [live.claim])
                looks.append(look)
                look.send(None)
            else:
                keys = live.log.keys
                engine.store.commit(Put(keys.cancel, b"\x01"), Put(keys.wakeup, b"ring"))
                engine._host.wakeups._answer_wakeups()

        monkeypatch.setattr(scheduler.committer, "put", put_beside)
        monkeypatch.setattr(scheduler.committer, "put", put_beside)
        fails.set()
        with pytest.raises(RunFailed):
            await run.result(60)
        for look in looks:
            look.close()


@pytest.mark.parametrize("durability", ["commit", "batch"])
async def test_a_step_with_further_operations_still_claims_the_lease(durability: Any) -> None:
    store, moves = MemoryStore(), asyncio.Event()
    async with Engine(store, durability=durability, deps=moves) as engine:
        run = await engine.start(failing(), 1, run_id=RUN)
        live = engine._host.runs.actives[RUN]
        store.commit(Put(live.log.keys.lease, Lease(b"another owner...", 2).encode(live.log.keys.lease)))
        step = engine._host.scheduler.decide(live, RunTakenOver(0), more=[Put(b"beside", b"written")])
        assert step is not None
        await engine._host.scheduler.committer.drain()
        with pytest.raises(LeaseLost):
            await run.result(60)
    assert not step.is_committed
    assert store.get(b"beside") is None
