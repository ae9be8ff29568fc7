"""The writer thread of an environment: runs transactions whose begin another process may block forever."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeAlias

from stores.base import Op, StoreBusy

__all__ = ["Writer", "await_begin"]

_Job: TypeAlias = tuple[tuple[Op, ...], "Future[None]"]


class Writer:
    """A thread that runs one job after another. It starts with the first job."""

    def __init__(self, work_off: Callable[[tuple[Op, ...], "Future[None]"], None]) -> None:
        self._work_off = work_off
        self._jobs: SimpleQueue[_Job | None] | None = None

    def give(self, ops: tuple[Op, ...], outcome: "Future[None]") -> None:
        """Pass a job to the thread."""
        if self._jobs is None:
            self._jobs = SimpleQueue()
            threading.Thread(target=self._write, args=(self._jobs,), name="store-writer", daemon=True).start()
        self._jobs.put((ops, outcome))

    def end(self) -> None:
        """End the thread after the jobs that it has."""
        if self._jobs is not None:
            self._jobs.put(None)

    def _write(self, jobs: "SimpleQueue[_Job | None]") -> None:
        for job in iter(jobs.get, None):
            self._work_off(*job)
            del job  # free its values before the next job comes


def await_begin(outcome: "Future[None]", path: str, patience: float) -> None:
    """Wait for the outcome of a job, but at most `patience` seconds for its begin. Raises `StoreBusy` or its error."""
    # A begin that is blocked by a frozen process cannot be cancelled. It is left to the writer thread. Once the begin
    # succeeds, that thread finds its job cancelled, writes nothing and releases the turn.
    try:
        outcome.result(patience)
    except TimeoutError:
        if outcome.cancel():
            raise StoreBusy(path, patience) from None
        outcome.result()  # it has begun, so it will end soon
    except BaseException:
        outcome.cancel()  # as after Ctrl-C: no caller waits for it any more
        raise
