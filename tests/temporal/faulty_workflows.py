"""Workflows that go wrong in one way each, in a module without other imports, and a worker process for them."""

import asyncio
import os
import sys
from datetime import timedelta

from temporalio import workflow
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

__all__ = ["WORKFLOWS", "Attempting", "Defective", "Failing", "Large", "Open", "worker"]


@workflow.defn
class Open:
    """Stays open until it is closed by a signal, and refuses every update and query."""

    def __init__(self) -> None:
        self._is_closed = False

    @workflow.run
    async def run(self, value: bytes) -> bytes:
        await workflow.wait_condition(lambda: self._is_closed)
        return value[:10]

    @workflow.signal
    def close(self, value: bytes) -> None:
        self._is_closed = True

    @workflow.update
    def answer(self, value: bytes) -> None:
        pass

    @answer.validator
    def refuse(self, value: bytes) -> None:
        raise ApplicationError("question 'q7' is not pending", type="NotPending", non_retryable=True)

    @workflow.query
    def broken(self) -> bytes:
        raise LookupError("no such table")

    @workflow.query
    def large(self) -> bytes:
        return bytes(3_000_000)


@workflow.defn
class Defective:
    """Fails in each attempt of its task: not the run, but the worker's code is wrong."""

    @workflow.run
    async def run(self, value: bytes) -> bytes:
        raise ZeroDivisionError("defect in line 7")


@workflow.defn(name="beluga_graph.Run")
class DefectiveRun:
    """Fails in each attempt of its task, in place of the workflow of runs."""

    @workflow.run
    async def run(self, value: bytes) -> bytes:
        raise ZeroDivisionError("defect in line 7")


@workflow.defn
class Crashing:
    """Ends the process of its worker."""

    @workflow.run
    async def run(self, value: bytes) -> bytes:
        os._exit(1)


@workflow.defn
class Failing:
    """Ends as a run whose node failed does, with the details that it got."""

    @workflow.run
    async def run(self, *details: bytes) -> bytes:
        raise ApplicationError("node 'pay' failed", *details, type="RunFailed", non_retryable=True)


@workflow.defn
class Large:
    """Returns more than the server accepts."""

    @workflow.run
    async def run(self, value: bytes) -> bytes:
        return bytes(3_000_000)


@workflow.defn
class Attempting:
    """Waits for two activities on another queue."""

    @workflow.run
    async def run(self, queue: str) -> None:
        limit = timedelta(minutes=10)
        await asyncio.gather(
            *(workflow.execute_activity("attempt", task_queue=queue, start_to_close_timeout=limit) for _ in range(2))
        )


WORKFLOWS = [Open, Crashing, Defective, DefectiveRun, Failing, Large, Attempting]


def worker(client: Client, queue: str) -> Worker:
    return Worker(client, task_queue=queue, workflows=WORKFLOWS, workflow_runner=UnsandboxedWorkflowRunner())


async def serve(address: str, queue: str) -> None:
    async with worker(await Client.connect(address), queue):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
