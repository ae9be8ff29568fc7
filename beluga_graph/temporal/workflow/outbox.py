"""The messages that a run publishes: they leave a run's workflow for the run's outbox, a workflow that outlives it."""

from __future__ import annotations

import asyncio
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError

from beluga_graph.kernel.ops import COUNT_STEP
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.status_topics import list_status_topics
from beluga_graph.kernel.triggers import Trigger
from beluga_graph.kernel.types import Patch
from beluga_graph.temporal.workflow.run_options import RunOptions
from beluga_graph.temporal.workflow.wire import (
    ADD_MESSAGES,
    FORMAT,
    OUTBOX_WORKFLOW,
    Reply,
    outbox_workflow_id,
    pack,
    publish_queue,
)

__all__ = ["OutboxSender"]

_BATCH_BYTES = 1_000_000


class OutboxSender:
    """The messages of one run that its outbox does not have yet."""

    def __init__(self, flow: str, run: Snapshot, options: RunOptions) -> None:
        self._flow, self._run, self._options = flow, run, options
        self._messages: list[tuple[Any, ...]] = []
        self._task: asyncio.Task[None] | None = None
        self._outbox: workflow.ChildWorkflowHandle[Any, None] | None = None

    def add_published(self, reply: Reply | None, patch: Patch, at_ms: int) -> None:
        """Add the messages that a node publishes with a step, before the step is applied."""
        # Without a finished step, the route was refused and the attempt has failed.
        if reply is not None and reply.messages and (COUNT_STEP,) in patch.ops:
            self._add((reply.trigger.token, at_ms, reply.messages))

    def add_status(self, trigger: Trigger, before: str, at_ms: int) -> None:
        """Add the messages about the run's status after a step that was just applied, if they are wanted."""
        topics = list_status_topics(self._run, trigger, before) if self._options.announces else ()
        if topics:
            self._add((self._run.seq, at_ms, topics, self._run.status))

    def is_empty(self) -> bool:
        """Return whether the outbox has all messages. Raises the error that stopped the sending."""
        if self._task is not None and self._task.done():
            self._task.result()
        return not self._messages

    def _add(self, message: tuple[Any, ...]) -> None:
        self._messages.append(message)
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._send_all())

    async def _send_all(self) -> None:
        while self._messages:
            batch, size = self._messages[:1], len(pack(self._messages[0]))
            for message in self._messages[1:]:
                size += len(pack(message))
                if size > _BATCH_BYTES:
                    break
                batch.append(message)
            await self._send(batch)
            del self._messages[: len(batch)]

    async def _send(self, batch: list[tuple[Any, ...]]) -> None:
        """Add messages to the outbox. It may end at any time, and may be open since an earlier execution of the run."""
        outbox_id = outbox_workflow_id(self._run.run_id)
        while True:
            if self._outbox is None or self._outbox.done():
                try:
                    self._outbox = await workflow.start_child_workflow(
                        OUTBOX_WORKFLOW,
                        self._input_of(batch),
                        id=outbox_id,
                        parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                        cancellation_type=workflow.ChildWorkflowCancellationType.ABANDON,
                    )
                except WorkflowAlreadyStartedError:
                    pass
                else:
                    return
            try:
                await workflow.get_external_workflow_handle(outbox_id).signal(ADD_MESSAGES, pack(batch))
            except ApplicationError:  # it has ended
                self._outbox = None
            else:
                return

    def _input_of(self, batch: list[tuple[Any, ...]]) -> bytes:
        return pack(
            {
                "format": FORMAT,
                "queue": publish_queue(workflow.info().task_queue),
                "run": self._run.run_id,
                "created_ms": workflow.memo_value("created_ms", self._run.started_ms),
                "flow": self._flow,
                "messages": batch,
            }
        )
