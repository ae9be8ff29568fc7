"""The workflow that keeps the messages of one run until a bus has accepted them, in order.

It runs in the sandbox of the SDK, like `run_workflow`. The run itself neither waits for a bus nor keeps messages: it
ends while its outbox waits for a worker that has a bus.
"""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from beluga_graph.temporal.workflow.wire import ADD_MESSAGES, FORMAT, OUTBOX_WORKFLOW, PUBLISH, pack, unpack

__all__ = ["OutboxWorkflow"]

_RETRY = RetryPolicy(initial_interval=timedelta(milliseconds=100), maximum_interval=timedelta(seconds=10))
_LONGEST = timedelta(hours=1)
_HEARTBEAT = timedelta(seconds=10)
_BATCH_BYTES = 1_000_000


@workflow.defn(name=OUTBOX_WORKFLOW)
class OutboxWorkflow:
    """The outbox of one run. It ends when it is empty; further messages of the run begin it again."""

    @workflow.init
    def __init__(self, packed: bytes) -> None:
        given = unpack(packed)
        if given["format"] != FORMAT:
            text = f"the input has format {given['format']!r}; this worker reads {FORMAT}: update the worker"
            raise ApplicationError(text, type="UnknownFormat", non_retryable=True)
        self._messages = list(given["messages"])
        self._about = {name: value for name, value in given.items() if name != "messages"}

    @workflow.signal(name=ADD_MESSAGES)
    def on_add(self, packed: bytes) -> None:
        """Add messages behind the others."""
        self._messages += unpack(packed)

    @workflow.run
    async def run(self, packed: bytes) -> None:  # noqa: ARG002 - `__init__` has read it
        """Pass on all messages, batch by batch. A batch is passed again until a bus has accepted all of it."""
        while self._messages:
            batch = self._next_batch()
            await workflow.execute_activity(
                PUBLISH,
                pack({**self._about, "messages": batch}),
                task_queue=self._about["queue"],
                start_to_close_timeout=_LONGEST,
                heartbeat_timeout=_HEARTBEAT,
                retry_policy=_RETRY,
            )
            del self._messages[: len(batch)]
            if self._messages and workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(pack({**self._about, "messages": self._messages}))

    def _next_batch(self) -> list[tuple[object, ...]]:
        size = 0
        for index, message in enumerate(self._messages):
            size += len(pack(message))
            if index and size > _BATCH_BYTES:
                return self._messages[:index]
        return self._messages[:]
