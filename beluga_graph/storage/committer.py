"""The committer brings steps of many runs to the store, many in one transaction.

All entries that become ready in one pass of the event loop are one transaction, which is made in place, on the loop's
thread. Where a commit may block for long (syncs are slow, another process has the path open), the whole batch goes to
a writer thread instead. Only a prefix of each run's steps is ever committed. If a check of one entry fails, or the
store is full, the entries of the transaction are committed one by one. The work of a step is released after its own
commit.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

from beluga_graph.errors import RunError
from stores.base import Check, Conflict, Durability, Op, Put, Store, StoreError, StoreFull

__all__ = ["Commit", "Committer", "Entry", "Line"]

BATCH_STEPS = 4096  # of one transaction
BATCH_BYTES = 16 * 1024 * 1024
BATCH_PAUSE_S = 0.05  # durability "batch": the longest that a step waits for its commit
SLOW_COMMIT_S = 0.005
_DROPPED = StoreError("an earlier step of the run was rejected")  # the run reports that step's own error
_REMEMBERED = 64  # commits whose times show whether syncs are slow
_SLOW_MANY = 3  # of these: one in twenty
_SMALL = 64  # steps of a commit that takes about as long as its sync


class Line:
    """The steps of one run, in the order of their `seq`. The committer accepts only the next one."""

    __slots__ = ("run_id", "seq")

    def __init__(self, run_id: str, seq: int) -> None:
        self.run_id = run_id
        self.seq = seq  # the last step that was put, or that was on disk before

    def accept(self, seq: int) -> None:
        """Note a step that is put. Raises `RunError` for any but the next one: a gap could not be read back."""
        if seq != self.seq + 1:
            message = f"step {seq} was to be committed after step {self.seq}, a defect of the engine: resume the run"
            raise RunError(self.run_id, message)
        self.seq = seq


class Entry(Protocol):
    """Operations that are committed together or not at all, and the callbacks for both outcomes."""

    @property
    def line(self) -> Line | None:
        """The line that the entry has its place in, if it is a step of a run."""
        ...

    @property
    def seq(self) -> int:
        """Its place in that line."""
        ...

    @property
    def ops(self) -> Sequence[Op]:
        """The operations, in order."""
        ...

    @property
    def is_valid(self) -> bool:
        """Whether no entry that this one builds on was rejected: only a prefix of a run's steps is ever committed."""
        ...

    def on_committed(self) -> None:
        """Called when the entry is on disk."""
        ...

    def on_rejected(self, error: Exception) -> None:
        """Called when the entry was rejected: nothing of it is written, nor ever will be."""
        ...


class Commit:
    """An entry that is not a step of a run, such as a lease that is taken or given back."""

    __slots__ = ("_is_valid", "on_committed", "on_rejected", "ops")

    line = None
    seq = 0

    def __init__(
        self,
        ops: Sequence[Op],
        *,
        is_valid: Callable[[], bool] | None = None,
        on_committed: Callable[[], None] | None = None,
        on_rejected: Callable[[Exception], None] | None = None,
    ) -> None:
        self.ops = ops
        self._is_valid = is_valid
        self.on_committed = on_committed or _do_nothing
        self.on_rejected = on_rejected or _ignore

    @property
    def is_valid(self) -> bool:
        """Whether the operations are still to be committed."""
        return self._is_valid is None or self._is_valid()


class Committer:
    """One queue of entries for one store. Entries are committed in the order in which they were put."""

    def __init__(self, store: Store, durability: Durability) -> None:
        self.store = store
        self.durability = durability
        self._queue: deque[Entry] = deque()
        self._scheduled: asyncio.Handle | None = None
        self._pauses = False
        self._writing: asyncio.Task[None] | None = None
        self._writer: ThreadPoolExecutor | None = None
        self._syncs = durability != "none" and not store.private
        self._slow: deque[bool] = deque(maxlen=_REMEMBERED)  # whether each of the last small commits was slow
        self._slow_count = 0
        self.settled = 0  # entries that were committed or rejected

    def put(self, entry: Entry, *, urgent: bool = True, last: bool = False) -> None:
        """Queue an entry. An urgent one is committed after this pass of the loop, any other within 50 ms.

        With `last`, nothing else can join the commit, so it is made at once. Raises `RunError` for a step that is not
        the next one of its run; then nothing is queued.
        """
        if (line := entry.line) is not None:
            line.accept(entry.seq)
        self._queue.append(entry)
        if self._writing is not None:
            return
        if last:
            self.flush()
            return
        loop = asyncio.get_running_loop()
        if self._scheduled is not None and self._pauses and (urgent or len(self._queue) >= BATCH_STEPS):
            self._scheduled.cancel()
            self._scheduled = None
        if self._scheduled is None:
            self._pauses = not urgent
            self._scheduled = loop.call_later(BATCH_PAUSE_S, self.flush) if self._pauses else loop.call_soon(self.flush)

    def flush(self) -> None:
        """Commit the queue: here and now, or in the writer thread where that could block for long."""
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        if self._writing is not None:
            return
        try:
            apart = bool(self._queue) and (self._slow_count > _SLOW_MANY or self.store.shared)
        except Exception as error:  # noqa: BLE001 - the store is gone: reject every entry
            while self._queue:
                self._queue.popleft().on_rejected(error)
            return
        if apart:
            self._writing = asyncio.get_running_loop().create_task(self._write_apart())
            return
        while self._queue:
            if len(self._queue) == 1:  # a lone run: there is nothing to gather
                self._commit_one(self._queue.popleft())
                continue
            batch, ops = self._batch()
            self._report(batch, self._timed(ops, len(batch)))

    async def commit(self, ops: Sequence[Op]) -> Exception | None:
        """Commit operations that belong to no run that is driven here; return the error if they were rejected."""
        return await self._put_awaited(ops)

    async def commit_all(self, entries: Sequence[Sequence[Op]]) -> list[Exception | None]:
        """Commit several entries in as few transactions as possible; return the error of each, as `commit` does."""
        waiting = [self._put_awaited(ops) for ops in entries]
        return [await settled for settled in waiting]

    def give(self, ops: Sequence[Op]) -> None:
        """Commit operations without waiting. If they are rejected, nothing is lost."""
        self.put(Commit(ops))

    def _put_awaited(self, ops: Sequence[Op]) -> asyncio.Future[Exception | None]:
        settled: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.put(Commit(ops, on_committed=partial(_settle, settled), on_rejected=partial(_settle, settled)))
        return settled

    async def drain(self) -> None:
        """Return when everything that is queued now is committed or rejected. Later entries are not waited for."""
        await self.commit(())

    def close(self) -> None:
        """End the writer thread."""
        if self._writer is not None:
            self._writer.shutdown(wait=False)

    async def _write_apart(self) -> None:
        loop = asyncio.get_running_loop()
        if self._writer is None:
            self._writer = ThreadPoolExecutor(1, thread_name_prefix="beluga-graph-writer")
        try:
            while self._queue:
                batch, ops = self._batch()
                self._report(batch, await loop.run_in_executor(self._writer, self._timed, ops, len(batch)))
        finally:
            self._writing = None

    @property
    def is_busy(self) -> bool:
        """Whether entries wait to be committed, or are being committed."""
        return bool(self._queue) or self._writing is not None

    @property
    def is_behind(self) -> bool:
        """Whether the queue is longer than one commit takes: work that goes ahead of its commits must wait then."""
        return len(self._queue) > BATCH_STEPS

    def _timed(self, ops: Sequence[Op], entries: int) -> Exception | None:
        """Commit. Note how long a small commit took: about as long as a sync."""
        if entries > _SMALL or not self._syncs:
            return _attempt(self.store.commit, ops)
        began = time.perf_counter()
        error = _attempt(self.store.commit, ops)
        if len(self._slow) == _REMEMBERED:
            self._slow_count -= self._slow[0]
        is_slow = time.perf_counter() - began > SLOW_COMMIT_S
        self._slow.append(is_slow)
        self._slow_count += is_slow
        return error

    def _batch(self) -> tuple[list[Entry], list[Op]]:
        """Take entries for one transaction off the queue."""
        batch: list[Entry] = []
        ops: list[Op] = []
        written: set[bytes] = set()
        size = 0
        while self._queue and len(batch) < BATCH_STEPS and size < BATCH_BYTES:
            if batch and any(op.key in written for op in self._queue[0].ops if type(op) is Check):
                break  # a store checks before it writes, and this entry checks what the batch writes
            entry = self._queue.popleft()
            if not entry.is_valid:
                entry.on_rejected(_DROPPED)
                continue
            batch.append(entry)
            ops += entry.ops
            for op in entry.ops:
                if type(op) is Put:
                    size += len(op.value)
                if type(op) is not Check:
                    written.add(op.key)
        return batch, ops

    def _report(self, batch: list[Entry], error: Exception | None) -> None:
        if error is None:
            self.settled += len(batch)
            for entry in batch:
                entry.on_committed()
            return
        if isinstance(error, Conflict | StoreFull) and len(batch) > 1:
            self._one_by_one(batch)
            return
        self.settled += len(batch)
        for entry in batch:
            entry.on_rejected(error)

    def _one_by_one(self, batch: list[Entry]) -> None:
        """Commit each entry by itself after a failed check or a full store: only those concerned are rejected."""
        for entry in batch:
            self._commit_one(entry)

    def _commit_one(self, entry: Entry) -> None:
        if not entry.is_valid:
            entry.on_rejected(_DROPPED)
            return
        error = self._timed(entry.ops, 1)
        self.settled += 1
        if error is None:
            entry.on_committed()
        else:
            entry.on_rejected(error)


def _do_nothing() -> None:
    """Default `on_committed` callback."""


def _ignore(error: Exception) -> None:
    """Default `on_rejected` callback."""


def _settle(settled: asyncio.Future[Exception | None], error: Exception | None = None) -> None:
    if not settled.done():  # the caller that waited may have been cancelled
        settled.set_result(error)


def _attempt(commit: Callable[..., None], ops: Sequence[Op]) -> Exception | None:
    try:
        commit(*ops)
    except Exception as error:  # noqa: BLE001 - it is reported to every entry of the batch
        return error
    return None
