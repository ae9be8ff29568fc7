"""A pool of daemon threads: for users' sync functions, which may hang and must not keep the process alive."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeAlias

__all__ = ["DaemonPool"]

Job: TypeAlias = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[[], Any]]


class DaemonPool:
    """At most `size` daemon threads, started when needed. A cancelled call's thread runs on to its end."""

    def __init__(self, size: int = 32, name: str = "beluga-graph") -> None:
        self._size, self._name = size, name
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._threads = 0
        self._idle = threading.Semaphore(0)

    async def run(self, call: Callable[..., Any], *args: Any) -> Any:
        """Call a function in a thread, with a copy of the caller's context variables; return what it returns."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        inside = contextvars.copy_context()
        self._jobs.put((loop, future, lambda: inside.run(call, *args)))
        if not self._idle.acquire(blocking=False) and self._threads < self._size:
            self._threads += 1
            threading.Thread(target=self._work, name=f"{self._name}-{self._threads}", daemon=True).start()
        return await future

    def close(self) -> None:
        """Let idle threads end, and busy ones after what they do."""
        for _ in range(self._threads):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            loop, future, call = job
            if future.cancelled():  # it waited for a thread, and nobody waits for it any more
                self._idle.release()
                continue
            try:
                result, error = call(), None
            except BaseException as raised:  # noqa: BLE001 - handed to the caller, whatever it is
                result, error = None, raised
            self._idle.release()
            try:
                loop.call_soon_threadsafe(_settle, future, result, error)
            except RuntimeError:  # the loop has ended: nobody waits any more
                return
            del job, future, call, result, error


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():  # cancelled meanwhile
        return
    if error is None:
        future.set_result(result)
        return
    if isinstance(error, StopIteration):  # a future cannot carry it
        error = RuntimeError(f"the function raised StopIteration: {error}")
    future.set_exception(error)
