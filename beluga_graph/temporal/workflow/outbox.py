"""The messages that a run publishes: an activity adds them to the run's outbox, a workflow that outlives the run."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from temporalio import workflow

from beluga_graph.kernel.ops import COUNT_STEP
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.status_topics import list_status_topics
from beluga_graph.kernel.triggers import Trigger
from beluga_graph.kernel.types import Patch
from beluga_graph.temporal.workflow.message_queue import MessageQueue
from beluga_graph.temporal.workflow.retries import RETRY
from beluga_graph.temporal.workflow.run_options import RunOptions
from beluga_graph.temporal.workflow.server_names import outbox_workflow_id, publish_queue
from beluga_graph.temporal.workflow.wire import ADD_TO_OUTBOX, FORMAT, MEMO_CREATED_MS, Reply, pack

__all__ = ["OutboxSender"]

_TIMEOUT = timedelta(minutes=1)


class _Batch(NamedTuple):
    """The first messages, on their way to the outbox, which may have them already."""

    execution: str
    """The execution of the run that began to send them."""
    number: int
    """The number of the batch within that execution."""
    length: int
    """How many messages these are."""


class OutboxSender:
    """The messages of one run that its outbox does not have yet. `unsent` are those of an earlier execution."""

    def __init__(self, flow: str, run: Snapshot, options: RunOptions, unsent: Mapping[str, Any] | None) -> None:
        self._flow, self._run, self._options = flow, run, options
        self._messages = MessageQueue(unsent["messages"] if unsent is not None else ())
        self._batch = _Batch(*unsent["batch"]) if unsent is not None and unsent["batch"] is not None else None
        self._batches = 0  # that this execution has begun to send
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Send the messages of an earlier execution."""
        self._add([])

    def add_published(self, reply: Reply | None, patch: Patch, at_ms: int) -> None:
        """Add the messages that a node publishes with a step, before the step is applied."""
        # Without a finished step, the route was refused and the attempt has failed.
        if reply is not None and reply.messages and (COUNT_STEP,) in patch.ops:
            self._add([(reply.trigger.token, at_ms, reply.messages)])

    def add_status(self, trigger: Trigger, before: str, at_ms: int) -> None:
        """Add the messages about the run's status after a step that was just applied, if they are wanted."""
        topics = list_status_topics(self._run, trigger, before) if self._options.announces else ()
        if topics:
            self._add([(self._run.seq, at_ms, topics, self._run.status)])

    def is_empty(self) -> bool:
        """Return whether the outbox has all messages. Raises the error that stopped the sending."""
        if self._task is not None and self._task.done():
            self._task.result()
        return not self._messages

    def to_plain(self) -> dict[str, Any]:
        """Return the messages as plain data, for the next execution; see `wire`."""
        return {"messages": self._messages.to_plain(), "batch": self._batch}

    def _add(self, messages: list[tuple[Any, ...]]) -> None:
        self._messages.add(messages)
        if self._messages and (self._task is None or self._task.done()):
            self._task = asyncio.ensure_future(self._send_all())

    async def _send_all(self) -> None:
        # One batch at a time keeps the order. What is added meanwhile goes with the next one.
        while self._messages:
            if self._batch is None:
                self._batches += 1
                self._batch = _Batch(workflow.info().run_id, self._batches, len(self._messages.first_batch()))
            await workflow.execute_activity(
                ADD_TO_OUTBOX,
                self._input_of(self._batch),
                task_queue=self._options.engine_queue,  # the workers of this version may end before the run does
                activity_id=f"{ADD_TO_OUTBOX}:{self._batches}",
                start_to_close_timeout=_TIMEOUT,
                heartbeat_timeout=timedelta(seconds=self._options.heartbeat_s),
                retry_policy=RETRY,
                summary="messages to the outbox",
            )
            self._messages.remove_first(self._batch.length)
            self._batch = None

    def _input_of(self, batch: _Batch) -> bytes:
        run_id, messages = self._run.run_id, self._messages.to_plain()[: batch.length]
        created_ms = workflow.memo_value(MEMO_CREATED_MS, self._run.started_ms)
        begun = {
            "format": FORMAT,
            "queue": publish_queue(self._options.engine_queue),
            "run": run_id,
            "created_ms": created_ms,
            "flow": self._flow,
            "messages": (),
            "last_batches": {},
        }
        return pack(
            {
                "format": FORMAT,
                "outbox": outbox_workflow_id(run_id, created_ms),
                "task_queue": self._options.engine_queue,
                "input": pack(begun),
                "batch": pack({"execution": batch.execution, "number": batch.number, "messages": messages}),
            }
        )
