"""Raw asyncio: the same node bodies, awaited or as tasks, without encoding or saving a value."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any

from benchmarks.flows import MESSAGE, doubled, first_value, next_value, piece, visits
from benchmarks.workloads import BLOB_STEPS, CHAIN_STEPS

__all__ = ["Asyncio"]


async def _node(value: dict[str, Any]) -> dict[str, Any]:
    return next_value(value)


async def _branch(number: int) -> int:
    return doubled(number)


class Asyncio:
    """Runs workloads like a program without an engine."""

    def __init__(self, *, tasks: bool) -> None:
        self._tasks = tasks

    async def open(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    async def prepare(self, workload: str, name: str, size: int) -> float | None:
        """Do nothing."""
        del workload, name, size
        return None

    async def settle(self) -> None:
        """Do nothing."""

    async def resume(self, name: str, size: int) -> None:
        """Raise: nothing was saved."""
        raise NotImplementedError(f"run {name!r} of {size} steps was not saved")

    async def run(self, workload: str, name: str, size: int) -> None:
        """Run the workload once."""
        del name
        match workload:
            case "w1":
                await self._chain(size)
            case "w2":
                await self._loop(size)
            case "w3":
                await self._fan_out(size)
            case "w5":
                await asyncio.gather(*(self._chain(CHAIN_STEPS) for _ in range(size)))
            case "w6":
                await self._chain(BLOB_STEPS)
            case "w8":
                await _queue(size)
            case "w9":
                await self._chain(size)
                visits(size - 1)
            case _:
                raise NotImplementedError(workload)

    def _made(self, node: Coroutine[Any, Any, Any]) -> Awaitable[Any]:
        return asyncio.create_task(node) if self._tasks else node

    async def _chain(self, steps: int) -> None:
        value = first_value()
        for _ in range(steps):
            value = await self._made(_node(value))
        assert value["n"] == steps, value

    async def _loop(self, turns: int) -> None:
        value, messages = first_value(), []
        for _ in range(turns):
            value = await self._made(_node(value))
            messages.append(MESSAGE)
            value = await self._made(_node(value))
        assert len(messages) == turns

    async def _fan_out(self, width: int) -> None:
        results = await asyncio.gather(*(self._made(_branch(number)) for number in range(width)))
        assert len(results) == width


async def _queue(count: int) -> None:
    queue: asyncio.Queue[str | None] = asyncio.Queue()

    async def produce() -> None:
        for number in range(count):
            queue.put_nowait(piece(number))
        queue.put_nowait(None)

    producer = asyncio.create_task(produce())
    got = 0
    while await queue.get() is not None:
        got += 1
    await producer
    assert got == count, got
