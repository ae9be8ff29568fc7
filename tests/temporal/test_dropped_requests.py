"""Requests that the server drops because the run goes on, or because a worker stops, are sent again."""

from __future__ import annotations

import asyncio
from collections import Counter
from secrets import token_hex
from typing import Any

import pytest
from moving_flows import PATIENCE_S, Effects, asking, opened, shelving, until_status
from servers import NAMESPACE, Server
from temporalio.client import Client, Interceptor, OutboundInterceptor, QueryWorkflowInput, StartWorkflowUpdateInput
from temporalio.service import RPCError, RPCStatusCode

from beluga_graph import BelugaError, RunBusy
from beluga_graph.temporal import TemporalEngine

REPEATED = RPCError(
    "Unable to perform workflow execution update due to unexpected workflow task failure.",
    RPCStatusCode.FAILED_PRECONDITION,
    b"",
)
CLOSING = RPCError("workflow update was aborted by closing workflow", RPCStatusCode.NOT_FOUND, b"")
STOPPED = RPCError("context canceled", RPCStatusCode.CANCELLED, b"")


class Drops(Interceptor):
    """Drops the first requests of some names, and counts all."""

    def __init__(self, error: RPCError, count: int, *names: str) -> None:
        self.error, self.count, self.names, self.seen = error, count, names, Counter[str]()

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:  # noqa: A002 - the SDK's name
        return _Calls(next, self)


class _Calls(OutboundInterceptor):
    def __init__(self, following: OutboundInterceptor, drops: Drops) -> None:
        super().__init__(following)
        self._drops = drops

    async def start_workflow_update(self, input: StartWorkflowUpdateInput) -> Any:  # noqa: A002 - the SDK's name
        self._count(input.update)
        return await super().start_workflow_update(input)

    async def query_workflow(self, input: QueryWorkflowInput) -> Any:  # noqa: A002 - the SDK's name
        self._count(input.query)
        return await super().query_workflow(input)

    def _count(self, name: str) -> None:
        self._drops.seen[name] += 1
        if name in self._drops.names and self._drops.seen[name] <= self._drops.count:
            raise self._drops.error


async def connect(server: Server, drops: Drops) -> Client:
    return await Client.connect(server.address, namespace=NAMESPACE, interceptors=[drops])


@pytest.mark.parametrize("error", [REPEATED, CLOSING])
async def test_an_answer_and_a_changed_graph_reach_a_run_that_goes_on(temporal_server: Server, error: RPCError) -> None:
    queue, drops = token_hex(4), Drops(error, 1, "answer", "change_graph")
    async with (
        asyncio.timeout(PATIENCE_S),
        opened(temporal_server, shelving(), shelving(is_longer=True), asking(), queue=queue, deps=Effects()) as old,
        TemporalEngine(await connect(temporal_server, drops), task_queue=queue) as engine,
    ):
        asks = await old.start(asking(), 1, run_id=token_hex(8))
        changes = await old.start(shelving(), "in", run_id=token_hex(8))
        for run in (asks, changes):
            await until_status(old, run.id, "waiting")
        (question,) = [found for found in await old.pending() if found.run_id == asks.id]
        await engine.answer(asks.id, question.id, "approve")
        assert await asks.result() == "paid 1"
        engine.register(shelving(is_longer=True))
        resumed = await engine.resume(changes.id)
        for payload in (1, 2):
            await resumed.signal("go", payload)
        assert (await resumed.result())["of"][0] == 2
    assert (drops.seen["answer"], drops.seen["change_graph"]) == (2, 2)


async def test_a_query_is_not_lost_with_the_worker_that_had_it(temporal_server: Server) -> None:
    queue, drops = token_hex(4), Drops(STOPPED, 1, "state")
    async with (
        asyncio.timeout(PATIENCE_S),
        opened(temporal_server, asking(), queue=queue, deps=Effects()) as old,
        TemporalEngine(await connect(temporal_server, drops), task_queue=queue) as engine,
    ):
        run = await old.start(asking(), 1, run_id=token_hex(8))
        await until_status(old, run.id, "waiting")
        (question,) = [found for found in await old.pending() if found.run_id == run.id]
        await engine.answer(run.id, question.id, "approve")
        assert await run.result() == "paid 1"
    assert drops.seen["state"] == 2


async def test_a_request_that_is_dropped_again_and_again_says_that_the_run_is_busy(temporal_server: Server) -> None:
    queue, drops = token_hex(4), Drops(REPEATED, 1_000, "answer")
    async with (
        asyncio.timeout(PATIENCE_S),
        opened(temporal_server, asking(), queue=queue, deps=Effects()) as old,
        TemporalEngine(await connect(temporal_server, drops), task_queue=queue) as engine,
    ):
        run = await old.start(asking(), 1, run_id=token_hex(8))
        await until_status(old, run.id, "waiting")
        with pytest.raises(BelugaError, match="try again") as caught:
            await engine._host.workflows.answer(run.id, "pay.approval#1", b"")
        assert type(caught.value) is RunBusy
