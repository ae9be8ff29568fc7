"""Mirrored runs: one that cannot be read does not hide the others, and is not written in part."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from functools import partial
from pathlib import Path
from secrets import token_hex

import pytest
from flows_for_tests import waiting
from servers import Server

from beluga_graph import Engine, RunCancelled, RunStatus, SnapshotError, Workflow, step
from beluga_graph.temporal import TemporalEngine

PATIENCE_S = 120


async def test_questions_are_listed_without_those_of_a_run_that_cannot_be_read(
    temporal_server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flow, queue = Workflow("asks", step("pay", lambda value: value, requires_approval=True)), token_hex(4)
    with_claims = TemporalEngine(temporal_server.address, task_queue=queue, claims=tmp_path / "claims")
    without = TemporalEngine(temporal_server.address, task_queue=queue)
    large, small = token_hex(8), token_hex(8)

    async def list_own(engine: TemporalEngine, *run_ids: str) -> list[str]:
        """Return the own runs with questions, once those given have asked."""
        found: set[str] = set()
        while not found.issuperset(run_ids):
            await asyncio.sleep(0.1)
            found = {question.run_id for question in await engine.pending()} & {large, small}
        return sorted(found)

    async with asyncio.timeout(PATIENCE_S), with_claims, without, with_claims.worker([flow]):
        for run_id, value in ((large, "x" * 20_000), (small, "x")):
            await with_claims.start(flow, value, run_id=run_id)
        assert await list_own(with_claims, large, small) == sorted((large, small))
        with caplog.at_level(logging.WARNING, "beluga_graph.temporal"):
            assert await list_own(without, small) == [small]
    (warning,) = {record.getMessage() for record in caplog.records if large in record.getMessage()}
    assert warning.startswith(f"questions of run {large!r} are left out: ")
    assert "give the claims of its workers" in warning


async def test_a_run_that_cannot_be_read_creates_no_store(temporal_server: Server, tmp_path: Path) -> None:
    flow = Workflow("sizes", step("small", lambda value: value[:5]), step("large", lambda value: value * 5_000))
    server, queue = temporal_server.address, token_hex(4)
    with_claims = TemporalEngine(server, task_queue=queue, claims=tmp_path / "claims")
    without, with_others = TemporalEngine(server), TemporalEngine(server, claims=tmp_path / "others")
    path = tmp_path / "copies" / "copy.lmdb"
    async with asyncio.timeout(PATIENCE_S), with_claims, without, with_others, with_claims.worker([flow]):
        run = await with_claims.start(flow, "abcdefgh")
        await run.result()
        for engine in (without, with_others):
            with pytest.raises(SnapshotError, match="claims"):
                await engine.mirror(run.id, path)
            assert not path.parent.exists()
        for _ in range(2):
            await with_claims.mirror(run.id, path)
    async with Engine(path) as reader:
        assert (await reader.snapshot(run.id)).output == "abcde" * 5_000


async def test_a_run_whose_execution_timed_out_is_cancelled_wherever_it_is_shown(
    temporal_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, flow = await temporal_server.connect(), waiting()
    timeout = timedelta(seconds=3)
    monkeypatch.setattr(client, "start_workflow", partial(client.start_workflow, execution_timeout=timeout))
    async with asyncio.timeout(PATIENCE_S), TemporalEngine(client, task_queue=token_hex(4)) as engine:
        async with engine.worker([flow]):
            run = await engine.start(flow, 1)
            with pytest.raises(RunCancelled, match="execution timeout"):
                await run.result()
        shown = [await run.status(), (await run.outcome()).status, (await engine.snapshot(run.id)).status]
    assert shown == [RunStatus.cancelled] * 3
