"""Pruning: runs that are over are taken out of a store with all their records, whoever else is at work there.

A run goes in three strides. One commit buries it: on the condition that head and lease are as they were read, it
deletes them and all index entries, and puts a tombstone with a nonce. From then on there is no such run. Then its
records are swept, in bounded commits; each demands that very tombstone, and the last one deletes it. So whoever
comes upon a tombstone, after a crash or beside a living sweeper, may sweep as well, and a new run of the same id,
which cannot begin before the tombstone is gone, is never swept.

Large values are shared. A sweep takes the run's marks off a value and dooms it. A doomed value that no mark is
left of is deleted, on the condition that it still bears that very doom: whoever refers to a value lifts its doom
in the same commit. Shapes stay: they are small, shared by all runs of a graph, and remembered by engines. Sessions
stay, too; a failed run that has one gives it back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain, islice
from secrets import token_bytes
from typing import NamedTuple, TypeVar

from beluga_graph.codec.errors import DamagedRecord
from beluga_graph.errors import RunNotFound
from beluga_graph.inspection.reading import info_of
from beluga_graph.inspection.views import RunInfo, RunStatus
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, FAILED
from beluga_graph.storage.committer import Committer
from beluga_graph.storage.keys import Keys, Prefix, marked_digest, run_of
from beluga_graph.storage.leases import Lease, Owner, owner_is_alive
from beluga_graph.storage.loading import rebuild
from beluga_graph.storage.pace import Pace
from beluga_graph.storage.records import RunRecord, encode_record
from beluga_graph.storage.sessions import free_ops
from stores.base import Check, Conflict, Delete, Op, Put, Store

__all__ = ["cleared", "forgotten", "pruned"]

T = TypeVar("T")

_log = logging.getLogger("beluga_graph.storage.pruning")

_PRUNABLE = (COMPLETED, CANCELLED, FAILED)
_RUNS_AT_ONCE = 16  # their commits share transactions
_OPS_MOST = 64  # of one run in one commit
_RECORDS = b"SNCIBDQ"  # what is swept beside the marks on large values


class _Grave(NamedTuple):
    """A tombstone, as it was put or read."""

    key: bytes
    record: bytes

    @property
    def run(self) -> bytes:
        return run_of(self.key)

    @property
    def stands(self) -> Check:
        """What every sweeping commit demands."""
        return Check(self.key, self.record)


class _Burial(NamedTuple):
    """A run that may be taken out, the commit that does it, and the tombstone that this puts."""

    info: RunInfo
    ops: list[Op]
    grave: _Grave


async def pruned(
    committer: Committer, owner: Owner, older_than_s: float, status: Collection[str], *, now_ms: int, dry_run: bool
) -> tuple[RunInfo, ...]:
    """Take out the runs that have had one of these statuses for so long; see `Engine.prune`."""
    _check(older_than_s, status)
    store = committer.store
    latest = now_ms - round(older_than_s * 1000)
    found = [head for head in await _heads(store) if head.status in status and head.updated_ms <= latest]
    if dry_run:
        return await _free(store, owner, found)
    await _finish(committer)
    timers = await _timers(store, {Keys(head.run_id).run for head in found})
    gone: list[RunInfo] = []
    for some in _batches(found, _RUNS_AT_ONCE):
        burials = [burial for head in some if _is_free(store, owner, head) and (burial := _burial(store, head, timers))]
        refused = await committer.commit_all([burial.ops for burial in burials])
        buried = [burial for burial, error in zip(burials, refused, strict=True) if _was_done(error)]
        await _sweep(committer, [burial.grave for burial in buried])
        await _bury_values(committer)
        gone += [burial.info for burial in buried]
    return tuple(gone)


async def forgotten(
    committer: Committer, owner: Owner, run_ids: Iterable[str], *, is_held: Callable[[str], bool], has_bus: bool
) -> list[str]:
    """Take out runs that have ended, of a store that nobody else sees; return those that are gone.

    Each is checked and buried in one go, so that nobody can take hold of it between the two. What it still has to
    publish keeps it, if there is a bus.
    """
    store = committer.store
    graves: list[_Grave] = []
    gone: list[str] = []
    pace = Pace()
    for run_id in run_ids:
        key = Keys(run_id).head
        record = store.get(key)
        if record is None:
            gone.append(run_id)
        elif (
            (head := RunRecord.decode(key, record)).status in _PRUNABLE
            and not is_held(run_id)
            and (not has_bus or _is_free(store, owner, head))
        ):
            burial = _burial(store, head, {})
            if burial is not None:
                store.commit(*burial.ops)
                graves.append(burial.grave)
                gone.append(run_id)
        await pace.turn()
    for some in _batches(graves, _RUNS_AT_ONCE):
        await _sweep(committer, some)
    await _bury_values(committer)
    return gone


async def cleared(committer: Committer, run_id: str) -> None:
    """Sweep what is left of a pruned run, so that a new one of its id can begin."""
    key = Keys(run_id).tombstone
    while (record := committer.store.get(key)) is not None:
        await _sweep(committer, [_Grave(key, record)])


def _check(older_than_s: float, status: Collection[str]) -> None:
    if not 0 <= older_than_s < 2**53:
        msg = f"older_than={older_than_s!r}: give seconds, from 0 on"
        raise ValueError(msg)
    names = ", ".join(_PRUNABLE)
    for name in (status,) if isinstance(status, str) else status:
        if name not in _PRUNABLE:
            way_out = "cancel such runs first" if name in list(RunStatus) else "there is no such status"
            msg = f"status {name!r}: {way_out}; what can be pruned is {names}"
            raise ValueError(msg)
    if isinstance(status, str):
        msg = f"status={status!r}: give a row of names, such as ({status!r},)"
        raise ValueError(msg)  # noqa: TRY004 - one error for all that cannot be a row of statuses


async def _heads(store: Store) -> list[RunRecord]:
    found, pace = [], Pace()
    for key, blob in store.scan(Prefix.RUN):
        try:
            found.append(RunRecord.decode(key, blob))
        except DamagedRecord as error:  # it keeps its own run from being pruned, not all the others
            _log.warning("a run was left: %s", error)
        await pace.turn()
    return found


async def _free(store: Store, owner: Owner, heads: Iterable[RunRecord]) -> tuple[RunInfo, ...]:
    found, pace = [], Pace()
    for head in heads:
        if _is_free(store, owner, head):
            found.append(info_of(head))
        await pace.turn()
    return tuple(found)


def _is_free(store: Store, owner: Owner, head: RunRecord) -> bool:
    """Tell whether nobody has the run, and nothing of it is still to be published."""
    keys = Keys(head.run_id)
    if next(iter(store.scan(keys.messages, limit=1)), None) is not None:
        return False
    record = store.get(keys.lease)
    try:
        holder = Lease.decode(keys.lease, record).owner if record is not None else b""
    except DamagedRecord as error:
        _log.warning("run %r was left: %s", head.run_id, error)
        return False
    return holder == b"" or not owner_is_alive(store, holder, owner.now_ms())


# Burying.


def _burial(store: Store, head: RunRecord, timers: dict[bytes, list[bytes]]) -> _Burial | None:
    """Return what takes a run out, unless somebody has it by then, or it has gone on; `None` for a damaged one."""
    keys = Keys(head.run_id)
    grave = _Grave(keys.tombstone, encode_record(keys.tombstone, (head.run_id, token_bytes(16))))
    indexes = (keys.open, keys.parked, keys.cancel, *timers.get(keys.run, ()))
    ops: list[Op] = [
        Check(keys.head, head.encode(keys.head)),
        Check(keys.lease, store.get(keys.lease)),
        Check(grave.key, None),
        Put(*grave),
        *(Delete(key) for key in (keys.head, keys.lease, keys.first_snapshot, *indexes)),
    ]
    if head.status == FAILED:  # one that has ended gave its session back
        try:
            ops += free_ops(store, rebuild(store, head.run_id, 0))
        except RunNotFound:  # just gone: the commit will not be made
            pass
        except DamagedRecord as error:
            _log.warning("run %r was left: %s", head.run_id, error)
            return None
    return _Burial(info_of(head), ops, grave)


async def _timers(store: Store, runs: set[bytes]) -> dict[bytes, list[bytes]]:
    """Return the index entries of these runs' timers, of which one that is over should have none."""
    found: dict[bytes, list[bytes]] = {}
    pace = Pace()
    for key, _ in store.scan(Prefix.TIMER):
        if run_of(key) in runs:
            found.setdefault(run_of(key), []).append(key)
        await pace.turn()
    return found


# Sweeping.


async def _finish(committer: Committer) -> None:
    """Do what a crash has left to do."""
    for some in _batches(committer.store.scan(Prefix.TOMBSTONE), _RUNS_AT_ONCE):
        await _sweep(committer, [_Grave(*item) for item in some])
    await _bury_values(committer)


async def _sweep(committer: Committer, graves: Iterable[_Grave]) -> None:
    """Delete all that is left of these runs, and their tombstones."""
    sweeps = [_strokes(committer.store, grave) for grave in graves]
    while sweeps:
        strokes = [(sweep, ops) for sweep in sweeps if (ops := next(sweep, None)) is not None]
        refused = await committer.commit_all([ops for _, ops in strokes])
        # Where the tombstone is gone, somebody else has swept to the end.
        sweeps = [sweep for (sweep, _), error in zip(strokes, refused, strict=True) if _was_done(error)]


def _strokes(store: Store, grave: _Grave) -> Iterator[list[Op]]:
    """Yield one commit after the other; each is made before the next one is asked for."""
    for marks in _batches(store.scan(Prefix.MARK_BY_RUN + grave.run), _OPS_MOST // 3):
        yield [grave.stands, *chain.from_iterable(_unmarked(grave.run, key) for key, _ in marks)]
    keys = (key for kind in _RECORDS for key, _ in store.scan(bytes((kind,)) + grave.run))
    for some in _batches(keys, _OPS_MOST):
        yield [grave.stands, *map(Delete, some)]
        if len(some) < _OPS_MOST:
            break
    yield [grave.stands, Delete(grave.key)]


def _unmarked(run: bytes, mark: bytes) -> tuple[Op, ...]:
    """Return what takes a run's marks off a large value, and dooms it with a nonce that nobody has used before."""
    digest = marked_digest(mark)
    doom = Prefix.GC_CANDIDATE + digest
    return Delete(Prefix.MARK_BY_VALUE + digest + run), Delete(mark), Put(doom, encode_record(doom, token_bytes(16)))


async def _bury_values(committer: Committer) -> None:
    """Delete the doomed values that nobody refers to; lift the doom of the others."""
    store = committer.store
    for dooms in _batches(store.scan(Prefix.GC_CANDIDATE), _OPS_MOST):
        entries: list[list[Op]] = []
        for key, record in dooms:
            entries.append([Check(key, record), Delete(key)])
            if next(iter(store.scan(Prefix.MARK_BY_VALUE + key[1:], limit=1)), None) is None:
                entries[-1].append(Delete(Prefix.VALUE + key[1:]))
        for error in await committer.commit_all(entries):
            _was_done(error)  # else somebody refers to it anew, or has doomed it anew and will see to it


def _was_done(error: Exception | None) -> bool:
    """Tell whether a commit was made; `False` if things were not as it demands. Raises any other error."""
    if error is None or isinstance(error, Conflict):
        return error is None
    raise error


def _batches(items: Iterable[T], most: int) -> Iterator[Sequence[T]]:
    rest = iter(items)
    while batch := list(islice(rest, most)):
        yield batch
