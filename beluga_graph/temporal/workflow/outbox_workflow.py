"""The workflow that keeps the messages of one run until a bus has accepted them, in order.

It runs in the sandbox of the SDK, like `run_workflow`. The run itself neither waits for a bus nor keeps messages: it
ends while its outbox waits for a worker that has a bus.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from beluga_graph.temporal.workflow.inputs import unpack_input
    from beluga_graph.temporal.workflow.message_queue import MessageQueue
    from beluga_graph.temporal.workflow.retries import RETRY
    from beluga_graph.temporal.workflow.wire import (
        ADD_MESSAGES,
        OUTBOX_WORKFLOW,
        PAYLOAD_BYTES,
        PUBLISH,
        pack,
        unpack,
    )

__all__ = ["OutboxWorkflow"]

_TIMEOUT = timedelta(hours=1)
_HEARTBEAT = timedelta(seconds=10)


@workflow.defn(name=OUTBOX_WORKFLOW)
class OutboxWorkflow:
    """The outbox of one run. It ends when it is empty; further messages of the run begin it again."""

    @workflow.init
    def __init__(self, packed: bytes) -> None:
        given = unpack_input(packed, is_final=True)
        self._messages = MessageQueue(given["messages"])
        self._last_batches: dict[str, int] = given["last_batches"]  # by execution of the run
        self._about = {name: given[name] for name in ("format", "queue", "run", "created_ms", "flow")}

    @workflow.signal(name=ADD_MESSAGES)
    def on_add(self, packed: bytes) -> None:
        """Add a batch behind the others. Ignore one that is known: an activity that is tried again sends it again.

        The batches of an execution come in order of their numbers. So one that comes late, from a worker that was
        taken for lost, is known, too.
        """
        batch = unpack(packed)
        execution, number = batch["execution"], batch["number"]
        if number > self._last_batches.get(execution, 0):
            self._last_batches[execution] = number
            self._messages.add(batch["messages"])

    @workflow.run
    async def run(self, packed: bytes) -> None:  # noqa: ARG002 - `__init__` has read it
        """Pass on all messages, batch by batch. A batch is passed again until a bus has accepted all of it."""
        while self._messages:
            batch = self._messages.first_batch()
            await self._wait_for(asyncio.ensure_future(self._publish(batch)))
            self._messages.remove_first(len(batch))
            if self._messages:
                self._continue_if_long()

    async def _wait_for(self, publishing: asyncio.Future[None]) -> None:
        """Wait until a batch is published. Without a bus, messages may come meanwhile, until the history is long."""
        while not publishing.done():
            await workflow.wait_condition(lambda: publishing.done() or self._should_continue())
            if not publishing.done():
                self._continue_if_long()
        publishing.result()

    def _continue_if_long(self) -> None:
        if self._should_continue():
            workflow.continue_as_new(pack(self._state()))

    async def _publish(self, batch: list[tuple[Any, ...]]) -> None:
        await workflow.execute_activity(
            PUBLISH,
            pack({**self._about, "messages": batch}),
            task_queue=self._about["queue"],
            start_to_close_timeout=_TIMEOUT,
            heartbeat_timeout=_HEARTBEAT,
            retry_policy=RETRY,
        )

    def _should_continue(self) -> bool:
        if not workflow.info().is_continue_as_new_suggested() or self._messages.size > PAYLOAD_BYTES:
            return False
        return len(pack(self._state())) <= PAYLOAD_BYTES

    def _state(self) -> dict[str, Any]:
        return {**self._about, "messages": self._messages.to_plain(), "last_batches": self._last_batches}
