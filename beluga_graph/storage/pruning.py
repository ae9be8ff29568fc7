"""Pruning: deletes ended runs with all their records, while other processes use the store.

A run is deleted in three steps:

1. One commit checks that the run record and the lease are as they were read, deletes both and all index entries, and
   puts a tombstone with a nonce. From then on the run does not exist.
2. Bounded commits delete the remaining records. Each checks that tombstone.
3. The last commit deletes the tombstone. Only then can a new run with the same id begin, so its records are never
   deleted by mistake. Any process that finds a tombstone, after a crash or during a deletion, may continue with it.

Large values are shared. Step 2 removes the run's marks from a value and makes the value a candidate for collection,
with a nonce. A candidate without marks is deleted on the condition that its nonce is unchanged; each commit that
refers to a value also deletes its candidate record. Shapes are kept: they are small, shared by all runs of a graph,
and cached by engines. Sessions are kept, too; a failed run that uses one gives it back.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain, islice
from secrets import token_bytes
from typing import NamedTuple, TypeVar

from beluga_graph.codec.errors import DamagedRecord
from beluga_graph.errors import RunNotFound
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, FAILED, RUNNING, WAITING
from beluga_graph.storage.committer import Committer
from beluga_graph.storage.keys import Keys, Prefix, marked_digest, run_key_of
from beluga_graph.storage.leases import Lease, Owner, owner_is_alive
from beluga_graph.storage.loading import read_first_seq, rebuild_first
from beluga_graph.storage.pace import Pace
from beluga_graph.storage.records import RunRecord, encode_record
from beluga_graph.storage.sessions import free_ops
from stores.base import Check, Conflict, Delete, Op, Put, Store

__all__ = ["delete_ended", "finish_deletion", "prune"]

T = TypeVar("T")

_log = logging.getLogger("beluga_graph.storage.pruning")

_PRUNABLE = (COMPLETED, CANCELLED, FAILED)
_RUNS_AT_ONCE = 16  # their commits share transactions
_OPS_MAX = 64  # of one run in one commit
_KINDS_TO_DELETE = (
    Prefix.STEP,
    Prefix.SNAPSHOT,
    Prefix.ITEM,
    Prefix.SIGNAL,
    Prefix.QUESTION,
    Prefix.WAKEUP,
    Prefix.OUTBOX,
)
"""Kinds that step 2 deletes, beside the marks on large values."""


class _Tombstone(NamedTuple):
    """A tombstone as it was put or read."""

    key: bytes
    record: bytes

    @property
    def run_key(self) -> bytes:
        return run_key_of(self.key)

    @property
    def check(self) -> Check:
        """The condition of every commit that deletes records of the run."""
        return Check(self.key, self.record)


class _Deletion(NamedTuple):
    """A run to delete, the commit of step 1, and the tombstone that this commit puts."""

    run: RunRecord
    ops: list[Op]
    tombstone: _Tombstone


async def prune(
    committer: Committer, owner: Owner, older_than_s: float, status: Collection[str], *, now_ms: int, dry_run: bool
) -> AsyncIterator[RunRecord]:
    """Delete the runs that have had one of these statuses for so long, and yield each; see `Engine.prune`."""
    _check_arguments(older_than_s, status)
    store = committer.store
    latest_ms = now_ms - round(older_than_s * 1000)
    found: deque[RunRecord] = deque()
    run_keys: set[bytes] = set()
    async for key, record in _read_records(store):
        if record.status not in status or record.updated_ms > latest_ms:
            continue
        if not dry_run:
            found.append(record)
            run_keys.add(run_key_of(key))
        elif _is_free(store, owner, record):
            yield record
    if dry_run:
        return
    await _finish_all(committer)
    timers = await _timers_of(store, run_keys)
    while found:
        some = [found.popleft() for _ in range(min(_RUNS_AT_ONCE, len(found)))]
        for deletion in await _delete(committer, [run for run in some if _is_free(store, owner, run)], timers):
            yield deletion.run


async def _delete(committer: Committer, runs: Iterable[RunRecord], timers: dict[bytes, list[bytes]]) -> list[_Deletion]:
    """Delete some runs in all three steps; return those whose first commit was made."""
    prepared = [deletion for run in runs if (deletion := _prepare(committer.store, run, timers))]
    refused = await committer.commit_all([deletion.ops for deletion in prepared])
    begun = [deletion for deletion, error in zip(prepared, refused, strict=True) if _was_made(error)]
    await _delete_records(committer, [deletion.tombstone for deletion in begun])
    await _collect_values(committer)
    return begun


async def delete_ended(
    committer: Committer, owner: Owner, run_ids: Iterable[str], *, is_held: Callable[[str], bool], has_bus: bool
) -> list[str]:
    """Delete ended runs from a store that no other process uses; return the ids of those that are gone.

    The check and the first commit of each run are one synchronous step, so no other task can take up the run in
    between. With a bus, a run that still has messages to publish is kept.
    """
    store = committer.store
    tombstones: list[_Tombstone] = []
    gone: list[str] = []
    pace = Pace()
    for run_id in run_ids:
        key = Keys(run_id).head
        record = store.get(key)
        if record is None:
            gone.append(run_id)
        elif (
            (run := RunRecord.decode(key, record)).status in _PRUNABLE
            and not is_held(run_id)
            and (not has_bus or _is_free(store, owner, run))
        ):
            deletion = _prepare(store, run, {})
            if deletion is not None:
                store.commit(*deletion.ops)
                tombstones.append(deletion.tombstone)
                gone.append(run_id)
        await pace.turn()
    for some in _chunks(tombstones, _RUNS_AT_ONCE):
        await _delete_records(committer, some)
    await _collect_values(committer)
    return gone


async def finish_deletion(committer: Committer, run_id: str) -> None:
    """Delete the remaining records of a pruned run, so that a new run with its id can begin."""
    key = Keys(run_id).tombstone
    while (record := committer.store.get(key)) is not None:
        await _delete_records(committer, [_Tombstone(key, record)])


def _check_arguments(older_than_s: float, status: Collection[str]) -> None:
    if not 0 <= older_than_s < 2**53:
        msg = f"older_than={older_than_s!r}: give seconds, from 0 on"
        raise ValueError(msg)
    names = ", ".join(_PRUNABLE)
    for name in (status,) if isinstance(status, str) else status:
        if name not in _PRUNABLE:
            way_out = "cancel such runs first" if name in (RUNNING, WAITING) else "there is no such status"
            msg = f"status {name!r}: {way_out}; what can be pruned is {names}"
            raise ValueError(msg)
    if isinstance(status, str):
        msg = f"status={status!r}: give a row of names, such as ({status!r},)"
        raise ValueError(msg)  # noqa: TRY004 - one error for every value that is not a row of statuses


async def _read_records(store: Store) -> AsyncIterator[tuple[bytes, RunRecord]]:
    """Yield the records of all runs with their keys. The loop turns between slices, whatever the caller does."""
    pace = Pace()
    for key, blob in store.scan(Prefix.RUN):
        try:
            yield key, RunRecord.decode(key, blob)
        except DamagedRecord as error:  # this run is not pruned, but others are
            _log.warning("a run was left: %s", error)
        await pace.turn()


def _is_free(store: Store, owner: Owner, run: RunRecord) -> bool:
    """Return whether the run has no living owner and no message to publish."""
    keys = Keys(run.run_id)
    if next(iter(store.scan(keys.messages, limit=1)), None) is not None:
        return False
    record = store.get(keys.lease)
    try:
        holder = Lease.decode(keys.lease, record).owner if record is not None else b""
    except DamagedRecord as error:
        _log.warning("run %r was left: %s", run.run_id, error)
        return False
    return holder == b"" or not owner_is_alive(store, holder, owner.now_ms())


# Step 1: the tombstone.


def _prepare(store: Store, run: RunRecord, timers: dict[bytes, list[bytes]]) -> _Deletion | None:
    """Return the first commit of a run's deletion, or `None` for a damaged run.

    The commit is refused if an owner has taken up the run, or the run has gone on.
    """
    keys = Keys(run.run_id)
    tombstone = _Tombstone(keys.tombstone, encode_record(keys.tombstone, (run.run_id, token_bytes(16))))
    indexes = (keys.open, keys.parked, keys.cancel, *timers.get(keys.run_key, ()))
    ops: list[Op] = [
        Check(keys.head, run.encode(keys.head)),
        Check(keys.lease, store.get(keys.lease)),
        Check(tombstone.key, None),
        Put(*tombstone),
        *(Delete(key) for key in (keys.head, keys.lease, keys.snapshot(read_first_seq(store, run.run_id)), *indexes)),
    ]
    if run.status == FAILED:  # a completed or cancelled run has given its session back
        try:
            ops += free_ops(store, rebuild_first(store, run.run_id))
        except RunNotFound:  # deleted just now: the commit will be refused
            pass
        except DamagedRecord as error:
            _log.warning("run %r was left: %s", run.run_id, error)
            return None
    return _Deletion(run, ops, tombstone)


async def _timers_of(store: Store, run_keys: Collection[bytes]) -> dict[bytes, list[bytes]]:
    """Return the index entries of these runs' timers. Runs that have ended should have none."""
    found: dict[bytes, list[bytes]] = {}
    pace = Pace()
    for key, _ in store.scan(Prefix.TIMER):
        if run_key_of(key) in run_keys:
            found.setdefault(run_key_of(key), []).append(key)
        await pace.turn()
    return found


# Steps 2 and 3: the records, and the tombstone.


async def _finish_all(committer: Committer) -> None:
    """Finish the deletions that a crash has interrupted."""
    for some in _chunks(committer.store.scan(Prefix.TOMBSTONE), _RUNS_AT_ONCE):
        await _delete_records(committer, [_Tombstone(*item) for item in some])
    await _collect_values(committer)


async def _delete_records(committer: Committer, tombstones: Iterable[_Tombstone]) -> None:
    """Delete all remaining records of these runs, and their tombstones."""
    deletions = [_batches(committer.store, tombstone) for tombstone in tombstones]
    while deletions:
        batches = [(deletion, ops) for deletion in deletions if (ops := next(deletion, None)) is not None]
        refused = await committer.commit_all([ops for _, ops in batches])
        # If its tombstone is gone, another process has finished the deletion.
        deletions = [deletion for (deletion, _), error in zip(batches, refused, strict=True) if _was_made(error)]


def _batches(store: Store, tombstone: _Tombstone) -> Iterator[list[Op]]:
    """Yield one commit after the other. Each must be made before the next one is requested."""
    for marks in _chunks(store.scan(Prefix.MARK_BY_RUN + tombstone.run_key), _OPS_MAX // 3):
        yield [tombstone.check, *chain.from_iterable(_unmark(tombstone.run_key, key) for key, _ in marks)]
    keys = (key for kind in _KINDS_TO_DELETE for key, _ in store.scan(kind + tombstone.run_key))
    for some in _chunks(keys, _OPS_MAX):
        yield [tombstone.check, *map(Delete, some)]
        if len(some) < _OPS_MAX:
            break
    yield [tombstone.check, Delete(tombstone.key)]


def _unmark(run_key: bytes, mark: bytes) -> tuple[Op, ...]:
    """Return the operations that remove a run's marks from a large value and make it a candidate, with a new nonce."""
    digest = marked_digest(mark)
    candidate = Prefix.GC_CANDIDATE + digest
    return (
        Delete(Prefix.MARK_BY_VALUE + digest + run_key),
        Delete(mark),
        Put(candidate, encode_record(candidate, token_bytes(16))),
    )


async def _collect_values(committer: Committer) -> None:
    """Delete the candidates that have no mark; make the others normal values again."""
    store = committer.store
    for candidates in _chunks(store.scan(Prefix.GC_CANDIDATE), _OPS_MAX):
        entries: list[list[Op]] = []
        for key, record in candidates:
            entries.append([Check(key, record), Delete(key)])
            if next(iter(store.scan(Prefix.MARK_BY_VALUE + key[1:], limit=1)), None) is None:
                entries[-1].append(Delete(Prefix.VALUE + key[1:]))
        for error in await committer.commit_all(entries):
            _was_made(error)  # if not, a run refers to the value again, or another process will collect it


def _was_made(error: Exception | None) -> bool:
    """Return whether a commit was made, `False` if one of its conditions failed. Raises any other error."""
    if error is None or isinstance(error, Conflict):
        return error is None
    raise error


def _chunks(items: Iterable[T], size: int) -> Iterator[Sequence[T]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
