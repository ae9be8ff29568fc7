"""Starts, describes and queries the workflows of runs, and sends them signals and updates."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

from temporalio.api.common.v1 import WorkflowExecution as WorkflowId
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse, ResetStickyTaskQueueRequest
from temporalio.client import (
    WorkflowExecution,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowHandle,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from beluga_graph.codec.references import digest_of
from beluga_graph.errors import RunBusy, RunError, RunNotFound, TemporalUnavailable
from beluga_graph.inspection.views import RunStatus
from beluga_graph.kernel.shape import Shape
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.triggers import Trigger
from beluga_graph.plan.plan import Plan
from beluga_graph.temporal.connection.connection import Connection
from beluga_graph.temporal.connection.history import read_input
from beluga_graph.temporal.connection.new_execution import (
    NewExecution,
    TemporalDurability,
    measure_first_calls,
    options_for,
    pack_input,
    queue_of,
)
from beluga_graph.temporal.connection.pollers import require_worker
from beluga_graph.temporal.connection.sdk_errors import check_payload_size, is_dropped, translate_errors
from beluga_graph.temporal.live.heartbeats import read_heartbeat_records
from beluga_graph.temporal.live.record import LiveRecord
from beluga_graph.temporal.live.subscriptions import LiveSubscriptions
from beluga_graph.temporal.workflow.live_options import LiveOptions
from beluga_graph.temporal.workflow.wire import (
    ANSWER,
    CHANGE_GRAPH,
    MEMO_ADOPTED_DIGEST,
    MEMO_CREATED_MS,
    MEMO_FLOW,
    MEMO_INPUT,
    MEMO_PLAN,
    MEMO_STATUS,
    PAYLOAD_BYTES,
    SIGNAL,
    WORKFLOW,
    pack,
    plain_trigger,
    unpack,
)

__all__ = ["PATIENCE", "PolledRun", "ServerRun", "WorkflowClient"]

_MEASURED_BYTES = PAYLOAD_BYTES // 4  # of an input: the calls of a smaller one fit, though they repeat parts of it
_LARGE_BYTES = 256 * 1024  # of the answer to a poll

PATIENCE = timedelta(seconds=20)  # the server keeps a request up to 10 s for the worker that walked the run before
_UPDATE_TRIES = 10
_LATE_S = 1.0  # before its time is up, a call that is cancelled was too slow
_NOT_LIVE = LiveOptions()

_STATUS = {
    WorkflowExecutionStatus.COMPLETED: RunStatus.completed,
    WorkflowExecutionStatus.FAILED: RunStatus.failed,
    WorkflowExecutionStatus.TIMED_OUT: RunStatus.cancelled,  # by a time limit that an operator has set
    WorkflowExecutionStatus.CANCELED: RunStatus.cancelled,
    WorkflowExecutionStatus.TERMINATED: RunStatus.cancelled,
}


class ServerRun(NamedTuple):
    """A run, as the server describes its last execution."""

    run_id: str
    execution_id: str
    flow: str
    plan: str
    """The fingerprint of the graph."""
    queue: str
    """The task queue from which workers take its work."""
    input_digest: str
    adopted_digest: str
    """The digest of the local run that it continues; empty if it was not adopted from a local engine."""
    status: RunStatus
    created_ms: int
    updated_ms: int

    @property
    def is_open(self) -> bool:
        """Whether the workflow goes on."""
        return self.status in (RunStatus.running, RunStatus.waiting)


class PolledRun(NamedTuple):
    """A run, as one poll finds it: how far it is, and the text in the heartbeats of its attempts under way."""

    execution_id: str
    length: int
    """The number of events of the execution's history."""
    is_open: bool
    records: list[LiveRecord]
    is_large: bool
    """Whether the answer of the server was large."""


class WorkflowClient:
    """The workflows of one namespace."""

    def __init__(
        self,
        connection: Connection,
        durability: TemporalDurability,
        node_queues: Mapping[str, str],
        subscriptions: LiveSubscriptions,
        *,
        announces: bool = False,
    ) -> None:
        self.connection, self._subscriptions = connection, subscriptions
        self._task_queue = connection.task_queue
        self._options_for = partial(
            options_for,
            engine_queue=connection.task_queue,
            durability=durability,
            node_queues=node_queues,
            announces=announces,
        )

    def pack(self, new: NewExecution, live: LiveOptions = _NOT_LIVE, *, previous: str = "") -> bytes:
        """Return the input of a new execution. Raises `LimitReached` if it is too large for the server."""
        packed = pack_input(
            new.plan,
            new.run,
            new.triggers,
            self._options_for(new.queue(self._task_queue), live=live),
            items=new.items,
            inbox=new.inbox,
            session=new.session,
            previous=previous,
            begin_by=new.begin_by,
        )
        run_id = new.run.run_id
        check_payload_size(len(packed), "the state that the run begins with", run_id)
        if len(packed) > _MEASURED_BYTES and not new.run.seq:
            for node, size in measure_first_calls(new):
                check_payload_size(size, f"the call of node {node!r}, with its input, state and context,", run_id)
        return packed

    async def begin(self, new: NewExecution, *, after: ServerRun | None = None, adopted_digest: str = "") -> bool:
        """Start the execution of a run; return `False` if the server has one under this id.

        With `after`, a failed execution, this one takes its place; `False` if another one has taken it.
        `adopted_digest` is that of an adopted local run. Raises `TemporalUnavailable`, `LimitReached`.
        """
        run = new.run
        live = await self._subscriptions.prepare(run.run_id)
        packed = self.pack(new, live, previous=after.execution_id if after is not None else "")
        client, queue = await self.connection.client(), new.queue(self._task_queue)
        try:
            await require_worker(client, queue, flow=None if new.only_ends else new.plan.name)
        except TemporalUnavailable:
            if after is None and await self.exists(run.run_id):
                return False  # a run that the server has may have ended, or workers of another version
            raise
        # The server compares ids only. Without this check, a slow resume could begin with an older failure.
        if after is not None and (await self.describe(run.run_id)).execution_id != after.execution_id:
            return False
        reuse = WorkflowIDReusePolicy
        with translate_errors(run.run_id, self.connection.address):
            try:
                await client.start_workflow(
                    WORKFLOW,
                    packed,
                    id=run.run_id,
                    task_queue=queue,
                    id_reuse_policy=reuse.REJECT_DUPLICATE if after is None else reuse.ALLOW_DUPLICATE_FAILED_ONLY,
                    memo=_memo(new, after, adopted_digest),
                    request_eager_start=True,
                )
            except WorkflowAlreadyStartedError:
                return False
        self._subscriptions.note_begun(run.run_id, run.seq)
        return True

    async def handle(self, run_id: str) -> WorkflowHandle[Any, bytes]:
        """Return the server's handle on a run."""
        client = await self.connection.client()
        return client.get_workflow_handle(run_id, result_type=bytes)

    async def describe(self, run_id: str) -> ServerRun:
        """Return the last execution of a run. Raises `RunNotFound`, `TemporalUnavailable`."""
        found = await self._describe(run_id)
        if found.workflow_type != WORKFLOW:
            raise RunNotFound(run_id, f"the workflow of this id has type {found.workflow_type!r}: it is not a run")
        return await _execution(found)

    async def read_description(self, run_id: str) -> DescribeWorkflowExecutionResponse:
        """Return the last execution of a run as the server describes it. Raises as `describe` does."""
        return (await self._describe(run_id)).raw_description

    async def exists(self, run_id: str) -> bool:
        """Return whether the server has a workflow of this id, a run or another one. Raises `TemporalUnavailable`."""
        try:
            await self._describe(run_id)
        except RunNotFound:
            return False
        return True

    async def _describe(self, run_id: str) -> WorkflowExecutionDescription:
        handle = await self.handle(run_id)
        with translate_errors(run_id, self.connection.address):
            return await handle.describe()

    async def poll(self, run_id: str) -> PolledRun:
        """PolledRun at the last execution of a run. Raises as `describe` does."""
        handle = await self.handle(run_id)
        with translate_errors(run_id, self.connection.address):
            found = await handle.describe()
        raw = found.raw_description
        is_open = found.status is None or found.status not in _STATUS
        return PolledRun(
            execution_id=found.run_id,
            length=found.history_length,
            is_open=is_open,
            records=await read_heartbeat_records(await self.connection.client(), raw) if is_open else [],
            is_large=raw.ByteSize() > _LARGE_BYTES,
        )

    async def find_all(self) -> AsyncIterator[ServerRun]:
        """Yield the last execution of each run, as the server lists them: new ones may be missing for a moment."""
        client = await self.connection.client()
        seen: set[str] = set()
        with translate_errors("", self.connection.address):
            async for found in client.list_workflows(f"WorkflowType = '{WORKFLOW}'"):
                if found.id in seen or found.status == WorkflowExecutionStatus.CONTINUED_AS_NEW:
                    continue  # the newest execution of a run comes first
                seen.add(found.id)
                yield await _execution(found)

    async def send(self, run_id: str, signal: str, payload: bytes) -> None:
        """Send a signal; it is in the history when this returns.

        Raises `RunNotFound`, `RunConflict`, `LimitReached`.
        """
        check_payload_size(len(payload), f"the payload of signal {signal!r}", run_id)
        handle = await self.handle(run_id)
        with translate_errors(run_id, self.connection.address):
            await handle.signal(SIGNAL, args=[signal, payload])

    async def answer(self, run_id: str, token: str, payload: bytes) -> None:
        """Answer a question; the answer is in the history when this returns. Raises as `send` and `query` do."""
        check_payload_size(len(payload), f"the answer to {token!r}", run_id)
        await self._update(run_id, ANSWER, token, payload)

    async def change_graph(self, plan: Plan, run: Snapshot, triggers: Sequence[Trigger]) -> bool:
        """Let a run adopt a changed graph; return `False` if the run has moved on from the state that was judged."""
        changed = {
            "seq": run.seq,
            "shape": plan.shape.to_plain(),
            "queue": queue_of(plan, self._task_queue),
            "triggers": [plain_trigger(trigger) for trigger in triggers],
        }
        packed = pack(changed)
        check_payload_size(len(packed), "the changed graph", run.run_id)
        await self.require_worker(plan)
        is_changed: bool = await self._update(run.run_id, CHANGE_GRAPH, packed)
        return is_changed

    async def require_worker(self, plan: Plan) -> None:
        """Return once workers serve the runs of a flow, and their attempts. Raises `TemporalUnavailable`."""
        client = await self.connection.client()
        await require_worker(client, queue_of(plan, self._task_queue), flow=plan.name)

    async def read_shape(self, known: ServerRun) -> Shape:
        """Return the graph of an execution. Raises `RunNotFound`."""
        client = await self.connection.client()
        with translate_errors(known.run_id, self.connection.address):
            given, _ = await read_input(client, known.run_id, known.execution_id)
        return Shape.from_plain(given["shape"])

    async def forget_worker(self, run_id: str) -> None:
        """Let any worker answer for a run at once: the one that walked it before may have ended."""
        client = await self.connection.client()
        execution = WorkflowId(workflow_id=run_id)
        request = ResetStickyTaskQueueRequest(namespace=client.namespace, execution=execution)
        with translate_errors(run_id, self.connection.address):
            await client.workflow_service.reset_sticky_task_queue(request)

    async def query(self, run_id: str, name: str, *args: Any, within: timedelta = PATIENCE) -> Any:
        """Return the answer of the workflow to a query. Raises `TemporalUnavailable` if no worker gives it."""
        handle, give_up = await self.handle(run_id), time.monotonic() + within.total_seconds()
        async with self._asking(run_id, within):
            while True:
                left = timedelta(seconds=give_up - time.monotonic())
                try:
                    return unpack(await handle.query(name, args=list(args), result_type=bytes, rpc_timeout=left))
                except RPCError as error:
                    # A worker that stops while it has a query takes that with it.
                    if error.status is not RPCStatusCode.CANCELLED or time.monotonic() > give_up - _LATE_S:
                        raise

    async def _update(self, run_id: str, name: str, *args: Any) -> Any:
        """Return the answer of the workflow to an update. The server may drop one and keep nothing of it: repeat it."""
        handle = await self.handle(run_id)
        async with self._asking(run_id):
            for _ in range(_UPDATE_TRIES):
                try:
                    return await handle.execute_update(name, args=list(args), rpc_timeout=PATIENCE)
                except RPCError as error:
                    if not is_dropped(error):
                        raise
        raise RunBusy(run_id, f"it goes on too fast to take the request {name!r}: try again")

    @asynccontextmanager
    async def _asking(self, run_id: str, within: timedelta = PATIENCE) -> AsyncIterator[None]:
        """Explain errors of a request that only a worker can answer."""
        try:
            with translate_errors(run_id, self.connection.address):
                yield
        except (TemporalUnavailable, RunError) as error:
            if not _is_silence(error.__cause__):
                raise
            queue = (await self._describe(run_id)).task_queue
            text = (
                f"run {run_id!r} does not answer (waited up to {within.total_seconds():g} s): check that a worker "
                f"takes its work from the task queue {queue!r}, or start one with `beluga-graph worker module:flow` "
                "from the code of this version; the server may keep work up to 10 s for a worker that was lost: then "
                "try again"
            )
            raise TemporalUnavailable(self.connection.address, text) from error.__cause__

    async def cancel(self, run_id: str) -> None:
        """Request the end of a run."""
        handle = await self.handle(run_id)
        with translate_errors(run_id, self.connection.address):
            await handle.cancel()


def _is_silence(error: BaseException | None) -> bool:
    # The server refuses a query at once if it knows that no worker has asked for work lately.
    silent = (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED, RPCStatusCode.FAILED_PRECONDITION)
    is_late = isinstance(error, RPCError) and error.status in silent
    return is_late or isinstance(error, WorkflowUpdateRPCTimeoutOrCancelledError)


def _memo(new: NewExecution, after: ServerRun | None, adopted_digest: str) -> dict[str, Any]:
    assert isinstance(new.run.input, bytes)
    return {
        MEMO_FLOW: new.plan.name,
        MEMO_PLAN: new.plan.fingerprint,
        MEMO_INPUT: digest_of(new.run.input).hex(),
        MEMO_CREATED_MS: after.created_ms if after is not None else time.time_ns() // 1_000_000,
        MEMO_ADOPTED_DIGEST: after.adopted_digest if after is not None else adopted_digest,
        MEMO_STATUS: RunStatus.running.value,
    }


async def _execution(found: WorkflowExecution) -> ServerRun:
    memo = await found.memo()
    status = _STATUS.get(found.status) if found.status is not None else None
    if status is None:
        status = RunStatus(memo.get(MEMO_STATUS, RunStatus.running))
    changed = found.close_time or found.execution_time or found.start_time
    return ServerRun(
        run_id=found.id,
        execution_id=found.run_id,
        flow=memo.get(MEMO_FLOW, ""),
        plan=memo.get(MEMO_PLAN, ""),
        queue=found.task_queue,
        input_digest=memo.get(MEMO_INPUT, ""),
        adopted_digest=memo.get(MEMO_ADOPTED_DIGEST, ""),
        status=status,
        created_ms=memo.get(MEMO_CREATED_MS, 0),
        updated_ms=round(changed.timestamp() * 1000),
    )
