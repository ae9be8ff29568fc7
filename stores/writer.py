"""The writer thread of an environment: it makes the transactions whose begin another process may hold up for ever."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeAlias

from stores.base import Op, StoreBusy

__all__ = ["Writer", "await_begin"]

_Job: TypeAlias = tuple[tuple[Op, ...], "Future[None]"]


class Writer:
    """A thread that works off one job after another, begun with the first one."""

    def __init__(self, work_off: Callable[[tuple[Op, ...], "Future[None]"], None]) -> None:
        self._work_off = work_off
        self._jobs: SimpleQueue[_Job | None] | None = None

    def give(self, ops: tuple[Op, ...], outcome: "Future[None]") -> None:
        """Hand the thread a job."""
        if self._jobs is None:
            self._jobs = SimpleQueue()
            threading.Thread(target=self._write, args=(self._jobs,), name="store-writer", daemon=True).start()
        self._jobs.put((ops, outcome))

    def end(self) -> None:
        """Let the thread end after the jobs that it was given."""
        if self._jobs is not None:
            self._jobs.put(None)

    def _write(self, jobs: "SimpleQueue[_Job | None]") -> None:
        for job in iter(jobs.get, None):
            self._work_off(*job)
            del job  # or its values would stay in memory until the next one


def await_begin(outcome: "Future[None]", path: str, patience: float) -> None:
    """Wait for a job's outcome, but at most `patience` seconds for its begin. Raises `StoreBusy`, or its exception."""
    # A begin behind a frozen process cannot be called off. It is left to the writer thread, which finds
    # its job cancelled once it is let in, writes nothing and gives the turn back.
    try:
        outcome.result(patience)
    except TimeoutError:
        if outcome.cancel():
            raise StoreBusy(path, patience) from None
        outcome.result()  # it has begun, so nothing holds it up now
    except BaseException:
        outcome.cancel()  # as after Ctrl-C: nobody waits for it any more
        raise
