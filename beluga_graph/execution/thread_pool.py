"""A pool of daemon threads for users' sync functions, which may hang and must not keep the process alive."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeAlias

__all__ = ["DaemonPool"]

Job: TypeAlias = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[[], Any]]


class DaemonPool:
    """At most `size` daemon threads, started on demand. A cancelled call keeps its thread until it ends.

    A call waits for a free thread on the event loop, never in a thread's queue. Acquire a thread with `try_acquire`
    or `acquire`; `call` then begins at once in that thread, and releases it at the end.
    """

    def __init__(self, size: int = 32, name: str = "beluga-graph") -> None:
        self._size, self._name = size, name
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._threads = 0
        self._idle = 0  # threads that no caller has acquired
        self._waiting: deque[asyncio.Future[None]] = deque()  # callers, in the order in which they get a thread
        self._calls: set[asyncio.Future[Any]] = set()

    @property
    def calls(self) -> frozenset[asyncio.Future[Any]]:
        """The calls under way whose callers still wait for them."""
        return frozenset(self._calls)

    async def run(self, call: Callable[..., Any], *args: Any) -> Any:
        """Call a function in a thread, with a copy of the caller's context variables, and return its result."""
        if not self.try_acquire():
            await self.acquire()
        return await self.call(call, *args)

    def try_acquire(self) -> bool:
        """Acquire a free thread for one `call`. Return `False` if all threads are busy.

        Raises `RuntimeError` if the system cannot start even one thread.
        """
        if self._idle:
            self._idle -= 1
            return True
        if self._threads == self._size:
            return False
        thread = threading.Thread(target=self._work, name=f"{self._name}-{self._threads + 1}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system cannot start more threads
            if not self._threads:
                raise
            return False  # the caller waits for one of the existing threads
        self._threads += 1
        return True

    async def acquire(self) -> None:
        """Wait for a free thread, and acquire it for one `call`."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # a thread was assigned at the same moment
                self.release()
            raise

    def release(self) -> None:
        """Pass an acquired thread on to the next caller."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._idle += 1

    async def call(self, call: Callable[..., Any], *args: Any) -> Any:
        """Call a function in the acquired thread, and release the thread when the function ends."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._jobs.put((loop, future, partial(contextvars.copy_context().run, call, *args)))
        self._calls.add(future)
        try:
            return await future
        finally:
            self._calls.discard(future)

    def close(self) -> None:
        """End idle threads now, and busy threads after their current call."""
        for _ in range(self._threads):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            loop, future, call = job
            result, error = None, None
            if not future.cancelled():
                try:
                    result = call()
                except BaseException as raised:  # noqa: BLE001 - passed to the caller, whatever it is
                    error = raised
            try:
                loop.call_soon_threadsafe(self._on_ended, future, result, error)
            except RuntimeError:  # the loop has ended, and with it the caller
                self._threads -= 1
                return
            del job, future, call, result, error

    def _on_ended(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        self.release()
        if future.done():  # cancelled meanwhile
            return
        if error is None:
            future.set_result(result)
            return
        if isinstance(error, StopIteration):  # a future cannot carry it
            error = RuntimeError(f"the function raised StopIteration: {error}")
        future.set_exception(error)
