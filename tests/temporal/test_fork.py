"""A fork on the server begins like one of the local engine: with the state after a step, edited, and its own keys."""

from __future__ import annotations

import asyncio
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
from moving_flows import LARGE, PATIENCE_S, Effects, asking, failing, opened, shelving, until_status
from servers import Server

from beluga_graph import END, START, Engine, Graph, GraphChanged, RunConflict, RunFailed, RunNotFound, StateError
from beluga_graph.storage.verify import verify_store
from stores import MemoryStore

WAITS_FIRST = 2  # the step after which the run waits for the first time
EDITS: list[dict[str, Any]] = [
    {},
    {"update": {"books": ["u", LARGE], "total": 5}},
    {"replace": {"books": ["r"], "total": 0, "label": LARGE}},
    {"replace": {"books": []}, "update": {"books": "u"}},
    {"replace": {"books": [LARGE]}, "update": {"label": "v"}},
]


async def fork_result(engine: Any, run_id: str, seq: int, edits: dict[str, Any]) -> Any:
    """Fork a run; return the result of the fork."""
    fork = await engine.fork(run_id, seq, run_id_new=token_hex(8), **edits)
    return await fork.result()


@pytest.mark.parametrize("has_claims", [False, True])
async def test_a_fork_goes_the_same_way_as_on_the_local_engine(
    temporal_server: Server, tmp_path: Path, has_claims: bool
) -> None:
    flow, claims = shelving(), tmp_path / "claims" if has_claims else None
    async with (
        asyncio.timeout(PATIENCE_S * 2),
        Engine(deps=Effects()) as local,
        opened(temporal_server, flow, claims=claims, deps=Effects()) as engine,
    ):
        ids = []
        for each in (local, engine):
            run = await each.start(flow, LARGE, run_id=token_hex(8))
            await until_status(each, run.id, "waiting")
            await run.signal("go", "one")
            await run.signal("go", LARGE)
            await run.result()
            ids.append(run.id)
        history = await local.history(ids[0])
        assert [step.trigger for step in history] == [step.trigger for step in await engine.history(ids[1])]
        last = len(history) - 1
        for seq, edits in [(1, {}), (last, {}), *((WAITS_FIRST, edits) for edits in EDITS)]:
            # Signals that the run had not read at the step go along: no other is needed.
            expected = await fork_result(local, ids[0], seq, edits)
            assert await fork_result(engine, ids[1], seq, edits) == expected, (seq, edits)


async def test_a_fork_asks_again_and_has_keys_of_its_own(temporal_server: Server) -> None:
    effects = Effects()
    async with asyncio.timeout(PATIENCE_S), opened(temporal_server, asking(), deps=effects) as engine:
        run = await engine.start(asking(), 3, run_id=token_hex(8))
        await until_status(engine, run.id, "waiting")
        (question,) = [found for found in await engine.pending() if found.run_id == run.id]
        await engine.answer(run.id, question.id, "approve")
        assert await run.result() == "paid 3"
        steps = await engine.history(run.id)
        asked = next(step.seq for step in steps if any(event.type == "waiting" for event in step.events))
        fork = await engine.fork(run.id, asked)
        await until_status(engine, fork.id, "waiting")
        (again,) = [found for found in await engine.pending() if found.run_id == fork.id]
        await engine.answer(fork.id, again.id, "approve")
        assert await fork.result() == "paid 3"
        assert (await engine.history(fork.id))[0].trigger == "RunForked"
        of_fork = await engine.fork(fork.id, 1)
        await until_status(engine, of_fork.id, "waiting")
        copy = MemoryStore()
        for each in (run, fork, of_fork):
            await engine.mirror(each.id, copy)
        assert verify_store(copy).damage == ()
    assert sorted(effects.keys.values()) == [1, 1]


async def test_a_fork_of_a_failed_run_goes_on_with_a_changed_graph(temporal_server: Server) -> None:
    effects, queue = Effects("bad"), token_hex(4)
    async with asyncio.timeout(PATIENCE_S):
        async with opened(temporal_server, failing(), queue=queue, deps=effects) as engine:
            run = await engine.start(failing(), 1, run_id=token_hex(8))
            with pytest.raises(RunFailed):
                await run.result()
        effects.broken.clear()
        async with opened(temporal_server, failing(more=True), queue=queue, deps=effects) as engine:
            assert await (await engine.fork(run.id, 2)).result() == [4]
            assert await engine.status(run.id) == "failed"


async def test_a_fork_that_cannot_be_is_refused(temporal_server: Server) -> None:
    flow, queue = shelving(), token_hex(4)
    async with asyncio.timeout(PATIENCE_S):
        async with opened(temporal_server, flow, queue=queue, deps=Effects()) as engine:
            run = await engine.start(flow, 1, run_id=token_hex(8))
            await until_status(engine, run.id, "waiting")
            for seq, error in ((0, RunConflict), (99, RunNotFound), (-1, RunNotFound)):
                with pytest.raises(error):
                    await engine.fork(run.id, seq)
            with pytest.raises(RunConflict, match="the id is taken"):
                await engine.fork(run.id, 1, run_id_new=run.id)
            with pytest.raises(StateError):
                await engine.fork(run.id, 1, update={"nope": 1})
            with pytest.raises(RunNotFound):
                await engine.fork("none", 1)
        other = Graph("shelving")
        other.node(name="other")(lambda value: value)
        other.edge(START, "other")
        other.edge("other", END)
        async with opened(temporal_server, other, queue=queue, deps=Effects()) as engine:
            with pytest.raises(GraphChanged, match="w1"):
                await engine.fork(run.id, WAITS_FIRST)
