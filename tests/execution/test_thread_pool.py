"""The pool of daemon threads: no thread is lost, whatever happens to those that wait for it."""

import asyncio
import threading

import pytest

from beluga_graph.execution.thread_pool import DaemonPool


async def test_threads_that_the_system_cannot_start_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool = DaemonPool(2)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        for _ in range(3):
            with pytest.raises(RuntimeError, match="new thread"):
                await pool.run(int)
    blocked = threading.Event()
    first = asyncio.create_task(pool.run(blocked.wait, 60))
    await asyncio.sleep(0)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        second = asyncio.create_task(pool.run(int))  # it waits for the existing thread
        await asyncio.sleep(0)
    blocked.set()
    assert await asyncio.wait_for(asyncio.gather(first, second), 60) == [True, 0]
    pool.close()


async def test_a_wait_for_a_thread_can_be_cancelled_even_at_the_moment_it_ends() -> None:
    pool = DaemonPool(1)
    assert pool.try_acquire()
    first, second, third = (asyncio.create_task(pool.acquire()) for _ in range(3))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    pool.release()
    second.cancel()  # it has the thread, but the waiting task has not run yet
    await asyncio.wait_for(third, 60)
    assert first.cancelled()
    assert second.cancelled()
    assert not pool.try_acquire()
    pool.release()
    assert await pool.run(str, 3) == "3"
    pool.close()
