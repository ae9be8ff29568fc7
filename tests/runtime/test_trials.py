"""When processes die again and again, the node that kills them fails, and never a node that ran beside it."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import poison_child
import pytest
from wrapped_store import until

import beluga_graph
import beluga_graph.runtime.trials
from beluga_graph import END, START, Context, Engine, Graph, Limits
from beluga_graph.storage.keys import Keys
from beluga_graph.storage.leases import Lease
from beluga_graph.storage.loading import rebuild
from stores import MemoryStore, Put

GUILTY = "Interrupted: 6 processes ended while the node ran; max_interruptions is 5"
IN_COMPANY = 3  # deaths after which a node runs alone among its kind


def life(tmp_path: Path, *flows: str, deaths: int = 0) -> Any:
    """Run the flows in a process; return their outputs, or `None` if it was killed."""
    job = json.dumps({"store": str(tmp_path / "store"), "flows": flows, "deaths": deaths})
    command = [sys.executable, poison_child.__file__, job]
    env = {"PYTHONPATH": str(Path(beluga_graph.__file__).parent.parent)}
    done = subprocess.run(command, stdout=subprocess.PIPE, env=env, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None


def lives(tmp_path: Path, *flows: str) -> tuple[int, Any]:
    """Run the flows in one process after another; return how many were killed, and the outputs."""
    for deaths in range(30):
        if (outputs := life(tmp_path, *flows)) is not None:
            return deaths, outputs
    raise AssertionError("the processes are killed over and over")


def test_only_the_poisonous_node_is_blamed_among_nodes_that_it_always_kills(tmp_path: Path) -> None:
    assert lives(tmp_path, "beside") == (6, [["slow", GUILTY, "slow", "slow"]])


def test_a_poisonous_node_is_found_among_nodes_that_finish_in_every_process(tmp_path: Path) -> None:
    assert lives(tmp_path, "counting") == (6, [[GUILTY, poison_child.VISITS]])


def test_a_poisonous_node_does_not_fail_the_other_runs_of_its_engine(tmp_path: Path) -> None:
    assert lives(tmp_path, "slow0", "poison", "slow1") == (6, ["slow", "failed", "slow"])


def test_six_kills_from_outside_fail_none_of_the_nodes_that_were_running(tmp_path: Path) -> None:
    for _ in range(IN_COMPANY):
        assert life(tmp_path, "harmless", deaths=4) is None
    for _ in range(6 - IN_COMPANY):
        assert life(tmp_path, "harmless", deaths=1) is None  # from now on they begin one at a time
    assert life(tmp_path, "harmless") == [["slow"] * 4]


def dead(store: MemoryStore, *run_ids: str) -> None:
    """Make the owner of runs that an engine has just stopped look dead."""
    for run_id in run_ids:
        key = Keys(run_id).lease
        blob = store.get(key)
        assert blob is not None
        store.commit(Put(key, Lease(b"dead", Lease.decode(key, blob).epoch).encode(key)))


def one(name: str, begun: list[str], limit: int = 5) -> Graph:
    """Return a flow of one node that waits for an event of its name in `deps`."""
    g = Graph(name, limits=Limits(max_interruptions=limit))

    @g.node
    async def node(ctx: Context, value: int) -> int:
        begun.append(name)
        await ctx.deps[name].wait()
        return value

    g.edge(START, node)
    g.edge(node, END)
    return g


@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_an_engine_that_closes_while_a_node_is_on_trial_proves_nothing(limit: int) -> None:
    store, begun, deps = MemoryStore(), [], {"r": asyncio.Event()}
    for stops in range(20):
        async with Engine(store, deps=deps) as engine:
            await engine.start(one("r", begun, limit), 1, run_id="r")
            await until(lambda stops=stops: len(begun) == stops + 1)
        if stops < (limit + 1) // 2:
            dead(store, "r")
    counted = [token.interruptions for token in rebuild(store, "r").tokens.values()]
    assert counted == [(limit + 1) // 2]
    deps["r"].set()
    async with Engine(store, deps=deps) as engine:
        assert await engine.execute(one("r", begun, limit), 1, run_id="r") == 1


async def test_nodes_on_trial_run_one_after_the_other_and_the_rest_beside_them() -> None:
    names, begun = ["a", "b", "c"], []
    store, deps = MemoryStore(), {name: asyncio.Event() for name in [*names, "new"]}
    for _ in range(IN_COMPANY):
        begun.clear()
        async with Engine(store, deps=deps) as engine:
            for name in names:
                await engine.start(one(name, begun), 1, run_id=name)
            await until(lambda: len(begun) == 3)
        dead(store, *names)
    begun.clear()
    async with Engine(store, deps=deps) as engine:
        runs = [await engine.start(one(name, begun), 1, run_id=name) for name in [*names, "new"]]
        await until(lambda: len(begun) == 2)
        assert begun == ["a", "new"]
        deps["a"].set()
        assert await runs[0].result(60) == 1
        await until(lambda: len(begun) == 3)
        assert begun == ["a", "new", "b"]
        for event in deps.values():
            event.set()
        assert [await run.result(60) for run in runs] == [1] * 4


async def test_a_node_on_trial_may_wait_for_another_run_that_is_on_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    store, begun = MemoryStore(), []
    deps: dict[str, Any] = {"inner": asyncio.Event()}
    monkeypatch.setattr(beluga_graph.runtime.trials, "_APART_S", 0.0)

    def outer() -> Graph:
        g = Graph("outer")

        @g.node
        async def node(ctx: Context, value: int) -> int:
            begun.append("outer")
            return await ctx.deps["engine"].execute(one("inner", begun), value, run_id="inner")

        g.edge(START, node)
        g.edge(node, END)
        return g

    for _ in range(IN_COMPANY):
        begun.clear()
        async with Engine(store, deps=deps) as engine:
            deps["engine"] = engine
            await engine.start(outer(), 1, run_id="outer")
            await until(lambda: len(begun) == 2)
        dead(store, "outer", "inner")
    deps["inner"].set()
    async with Engine(store, deps=deps) as engine:
        deps["engine"] = engine
        assert await (await engine.start(outer(), 1, run_id="outer")).result(60) == 1


async def test_a_node_that_waits_for_its_place_is_not_on_trial_yet() -> None:
    store, begun = MemoryStore(), []
    deps = {name: asyncio.Event() for name in ("suspect", "new")}
    for _ in range(IN_COMPANY):
        begun.clear()
        async with Engine(store, deps=deps) as engine:
            await engine.start(one("suspect", begun), 1, run_id="suspect")
            await until(lambda: begun)
        dead(store, "suspect")
    begun.clear()
    async with Engine(store, deps=deps, max_concurrency=1) as engine:
        await engine.start(one("new", begun), 1, run_id="new")
        await until(lambda: begun)
        suspect = await engine.start(one("suspect", begun), 1, run_id="suspect")
        for _ in range(50):
            await asyncio.sleep(0)
        # If the process died now, the interruption would count for the other node, which has the only slot.
        assert [token.interruptions for token in rebuild(store, "suspect").tokens.values()] == [IN_COMPANY]
        assert begun == ["new"]
        for event in deps.values():
            event.set()
        assert await suspect.result(60) == 1
