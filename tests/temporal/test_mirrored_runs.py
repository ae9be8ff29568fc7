"""Mirrored runs: one that cannot be read does not hide the others."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from secrets import token_hex

import pytest
from servers import Server

from beluga_graph import Workflow, step
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
