"""Every fault that Temporal's SDK reports reaches the caller as an error of the tree that shows the way out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from secrets import token_hex
from types import SimpleNamespace

import pytest
from faulty_workflows import Failing, Open, worker
from servers import Server
from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from beluga_graph import (
    BadRunId,
    BelugaError,
    LimitReached,
    RunCancelled,
    RunConflict,
    RunError,
    RunFailed,
    RunNotFound,
    TemporalUnavailable,
)
from beluga_graph.temporal.connection.sdk_errors import check_payload_size, explain, translate_errors
from beluga_graph.temporal.workflow.wire import PAYLOAD_BYTES, pack

TWO_MIB, FOUR_MIB = 2 * 1024 * 1024, 4 * 1024 * 1024


@pytest.fixture
async def served(temporal_server: Server) -> AsyncIterator[SimpleNamespace]:
    client, queue = await temporal_server.connect(), token_hex(4)
    async with worker(client, queue):
        yield SimpleNamespace(client=client, queue=queue, address=temporal_server.address)


async def start(served: SimpleNamespace, workflow: type = Open, *args: bytes, **options) -> WorkflowHandle:
    args = args or (b"",)
    return await served.client.start_workflow(
        workflow.run, args=args, id=token_hex(4), task_queue=served.queue, **options
    )


@asynccontextmanager
async def raised(kind: type[BelugaError], run_id: str, *parts: str) -> AsyncIterator[None]:
    """Expect an error with exactly this class, the run's id, and these parts in its text."""
    async with asyncio.timeout(30):
        with pytest.raises(BelugaError) as caught, translate_errors(run_id, "host:7233"):
            yield
    assert type(caught.value) is kind
    assert caught.value.__cause__ is not None
    for part in (run_id, *parts):
        assert part in str(caught.value)


@pytest.mark.parametrize("operation", ["describe", "terminate", "cancel", "result", "signal", "query", "update"])
async def test_an_unknown_id_is_not_found(served: SimpleNamespace, operation: str) -> None:
    handle = served.client.get_workflow_handle("unknown-7")
    calls = {
        "describe": handle.describe,
        "terminate": handle.terminate,
        "cancel": handle.cancel,
        "result": handle.result,
        "signal": lambda: handle.signal(Open.close, b""),
        "query": lambda: handle.query(Open.broken),
        "update": lambda: handle.execute_update(Open.answer, b""),
    }
    async with raised(RunNotFound, "unknown-7", "check the id and the namespace", "retention"):
        await calls[operation]()


@pytest.mark.parametrize("size", [TWO_MIB, TWO_MIB + 1, 3_000_000, FOUR_MIB - 100_000, FOUR_MIB, 5_000_000])
async def test_a_large_payload_that_passes_the_door_is_a_limit(served: SimpleNamespace, size: int) -> None:
    run = await start(served)
    async with raised(LimitReached, "large-7", "2 MiB", "4 MiB", "claims="):
        await served.client.start_workflow(Open.run, bytes(size), id="large-7", task_queue=served.queue)
    async with raised(LimitReached, run.id, "2 MiB", "4 MiB", "claims="):
        await run.signal(Open.close, bytes(size))


async def test_the_largest_payload_of_the_door_is_accepted_by_the_server(served: SimpleNamespace) -> None:
    data = bytes(PAYLOAD_BYTES)
    check_payload_size(len(data), "the input", "r7")
    run = await start(served, Open, data)
    await run.signal(Open.close, data)
    async with asyncio.timeout(30):
        assert await run.result() == bytes(10)


def test_a_payload_beyond_the_door_names_both_sizes_and_the_way_out() -> None:
    with pytest.raises(LimitReached) as caught:
        check_payload_size(PAYLOAD_BYTES + 1, "the payload of signal 'go'", "r7")
    for part in ("run 'r7'", "the payload of signal 'go' has 1,900,001 bytes", "at most 1,900,000", "claims="):
        assert part in str(caught.value)


async def test_a_query_with_a_large_answer_is_a_limit(served: SimpleNamespace) -> None:
    run = await start(served)
    async with raised(LimitReached, run.id, "the answer of the workflow is too large", "claims="):
        await run.query(Open.large)


async def test_a_broken_query_shows_its_error(served: SimpleNamespace) -> None:
    run = await start(served)
    async with raised(RunError, run.id, "no such table", "log of the worker"):
        await run.query(Open.broken)


async def test_a_refused_update_is_a_conflict(served: SimpleNamespace) -> None:
    run = await start(served)
    async with raised(RunConflict, run.id, "question 'q7' is not pending"):
        await run.execute_update(Open.answer, b"")


async def test_a_cancelled_update_stays_a_cancellation(served: SimpleNamespace) -> None:
    client = served.client
    run = await client.start_workflow(Open.run, b"", id=token_hex(4), task_queue="unserved")

    async def answer() -> None:
        with translate_errors(run.id):
            await run.execute_update(Open.answer, b"")

    with pytest.raises(TimeoutError):  # and not `TemporalUnavailable`: the cancellation passes through
        await asyncio.wait_for(answer(), 1)
    await run.terminate()


async def test_a_taken_id_is_a_conflict(served: SimpleNamespace) -> None:
    run = await start(served)
    async with raised(RunConflict, run.id, "exists", "another id"):
        await served.client.start_workflow(Open.run, b"", id=run.id, task_queue=served.queue)
    await run.signal(Open.close, b"")
    await run.result()
    async with raised(RunConflict, run.id, "exists", "another id"):
        await served.client.start_workflow(
            Open.run, b"", id=run.id, task_queue="q", id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE
        )


async def test_an_id_that_the_server_refuses_is_a_bad_id(served: SimpleNamespace) -> None:
    async with raised(BadRunId, "x" * 80, "1500/1000", "choose another one"):
        with translate_errors("x" * 1500):
            await served.client.start_workflow(Open.run, b"", id="x" * 1500, task_queue=served.queue)


@pytest.mark.parametrize("operation", ["signal", "update", "terminate"])
async def test_a_request_to_an_ended_run_is_a_conflict(served: SimpleNamespace, operation: str) -> None:
    run = await start(served)
    await run.terminate()
    calls = {
        "signal": lambda: run.signal(Open.close, b""),
        "update": lambda: run.execute_update(Open.answer, b""),
        "terminate": run.terminate,
    }
    async with raised(RunConflict, run.id, "it has ended"):
        await calls[operation]()


async def test_a_failed_node_is_shown_as_by_the_local_engine(served: SimpleNamespace) -> None:
    run = await start(served, Failing, pack({"error": ("pay", "CardError", "no credit", 3, b"")}))
    async with raised(RunFailed, run.id, "node 'pay' failed in attempt 3: CardError: no credit"):
        await run.result()


@pytest.mark.parametrize("details", [(b"\xc1",), ({"error": b"\xc1"},), ()], ids=["unreadable", "reference", "none"])
async def test_a_failure_without_details_keeps_its_message(served: SimpleNamespace, details: tuple) -> None:
    run = await served.client.start_workflow(
        Failing.run, args=[pack(detail) for detail in details], id=token_hex(4), task_queue=served.queue
    )
    async with raised(RunFailed, run.id, "node 'pay' failed"):
        await run.result()


async def test_a_cancelled_run_is_cancelled(served: SimpleNamespace) -> None:
    run = await start(served)
    await run.cancel()
    async with raised(RunCancelled, run.id, "it was cancelled"):
        await run.result()


async def test_a_terminated_run_says_where_it_was_terminated(served: SimpleNamespace) -> None:
    run = await start(served)
    await run.terminate("by an operator")
    async with raised(RunCancelled, run.id, "terminated on the server"):
        await run.result()


async def test_an_execution_timeout_cancels_a_run(served: SimpleNamespace) -> None:
    run = await start(served, execution_timeout=timedelta(seconds=1))
    async with raised(RunCancelled, run.id, "execution timeout"):
        await run.result()


async def test_a_server_that_was_killed_is_unavailable(durable_server: Server) -> None:
    client = await durable_server.connect()
    run = await client.start_workflow(Open.run, b"", id="r7", task_queue="q")
    durable_server.kill()
    async with raised(TemporalUnavailable, "", "host:7233", "check it, and try again"):
        await run.describe()


async def test_a_query_that_no_worker_answers_is_unavailable(temporal_server: Server) -> None:
    client: Client = await temporal_server.connect()
    run = await client.start_workflow(Open.run, b"", id=token_hex(4), task_queue=token_hex(4))
    async with raised(TemporalUnavailable, "", "no answer in time", "a worker runs"):
        await run.query(Open.broken, rpc_timeout=timedelta(seconds=2))


@pytest.mark.parametrize("status", list(RPCStatusCode))
def test_every_status_has_an_error_of_the_tree_with_the_servers_text(status: RPCStatusCode) -> None:
    error = explain(RPCError("flux lost", status, b""), "r7", "host:7233")
    assert isinstance(error, BelugaError)
    said = "no run with this id" if status is RPCStatusCode.NOT_FOUND else "flux lost"
    assert said in str(error)
    assert "'r7'" in str(error) or "host:7233" in str(error)


def test_an_error_of_another_kind_stays_as_it_is() -> None:
    with pytest.raises(KeyError, match="mine"), translate_errors("r7"):
        raise KeyError("mine")
