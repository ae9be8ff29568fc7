"""The log of a bus: all its events in one order, and the cursors and dead letters of named subscriptions.

It is kept in a store that other processes may have open, too. The log of a bus in memory forgets the oldest events,
except those that a subscription still has to handle.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from beluga_graph.bus.event import BusEvent, DeadLetter
from beluga_graph.bus.record import Record
from beluga_graph.bus.unregistered import UnknownClasses
from beluga_graph.codec.errors import DamagedRecord, SnapshotError
from beluga_graph.codec.values import Codec
from beluga_graph.storage.committer import BATCH_BYTES, Committer
from beluga_graph.storage.keys import (
    Prefix,
    correlation_prefix,
    cursor_key,
    dead_letters_prefix,
    event_id_key,
    event_key,
    number_of,
)
from beluga_graph.storage.records import PRESENT, decode_record, encode_record
from stores.base import Check, Conflict, Delete, Op, Put, Store

__all__ = ["Appended", "Cursor", "Log"]

REMEMBERED = 10_000  # events of a bus in memory
_BATCH = 256  # events of one commit
_SLACK = 1_000  # events that a bus in memory forgets at a time


class Cursor(NamedTuple):
    """The position of a named subscription, and the record that holds it."""

    position: int
    record: bytes


class Appended(NamedTuple):
    """An event in the log: the one that was given, or an earlier one with the same id."""

    position: int
    record: Record
    is_new: bool


class _Waiting(NamedTuple):
    record: Record
    appended: asyncio.Future[Appended]


class Log:
    """Appends events to a store and reads them."""

    def __init__(self, store: Store, codec: Codec, *, forgets: bool) -> None:
        self.store = store
        self.codec = codec
        self.committer = Committer(store, "commit")
        self.unhandled: Callable[[], set[int]] = set  # returns the positions that must not be forgotten yet
        self.unknown_classes = UnknownClasses()
        self.on_grown: Callable[[], None] = lambda: None  # called after every commit
        self._forgets = forgets
        self._remembered: deque[tuple[int, Record]] = deque()
        self._waiting: deque[_Waiting] = deque()
        self._writer: asyncio.Task[None] | None = None

    # Appending.

    def append(self, record: Record) -> asyncio.Future[Appended]:
        """Append an event, unless the log has one with its id. Return a future of the event that is then on disk.

        The future may fail with `StoreError`. Events are appended in the order of the calls.
        """
        loop = asyncio.get_running_loop()
        appended: asyncio.Future[Appended] = loop.create_future()
        self._waiting.append(_Waiting(record, appended))
        if self._writer is None:
            self._writer = loop.create_task(self._write())
        return appended

    async def close(self) -> None:
        """Wait until all events given to `append` are written or refused, and write no more."""
        if self._writer is not None:
            await asyncio.wait([self._writer])
        await self.committer.drain()
        self.committer.close()

    async def _write(self) -> None:
        try:
            while self._waiting:
                await self._write_batch([self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))])
        finally:
            self._writer = None

    async def _write_batch(self, batch: list[_Waiting]) -> None:
        try:
            found = await self._commit([waiting.record for waiting in batch])
        except Exception as error:  # noqa: BLE001 - each publisher gets the error
            for waiting in batch:
                if not waiting.appended.done():
                    waiting.appended.set_exception(error)
            return
        self.on_grown()
        for waiting, appended in zip(batch, found, strict=True):
            if not waiting.appended.done():
                waiting.appended.set_result(appended)

    async def _commit(self, records: Sequence[Record]) -> list[Appended]:
        """Commit events after the last one; try again if another process was faster."""
        while True:
            found, ops = self._place(records)
            fresh = [(position, record) for position, record, is_new in found if is_new]
            if not fresh:
                return found
            refused = await self.committer.commit(ops)
            if refused is None:
                if self._forgets:
                    self._remembered.extend(fresh)
                    self._forget()
                return found
            if not isinstance(refused, Conflict):
                raise refused

    def _place(self, records: Sequence[Record]) -> tuple[list[Appended], list[Op]]:
        """Return the place of each event, or of the earlier one with its id, and the writes of the new events."""
        last = self.tail()
        ops: list[Op] = [Check(event_key(last + 1), None)]
        found: list[Appended] = []
        known: dict[bytes, Appended] = {}
        for record in records:
            key = event_id_key(record.id)
            before = known.get(key) or self._known(key, record)
            if before is None:
                last += 1
                at = event_key(last)
                ops += [Check(key, None), Put(key, encode_record(key, last)), Put(at, encode_record(at, tuple(record)))]
                ops.append(Put(correlation_prefix(record.correlation_id) + at[1:], PRESENT))
                found.append(Appended(last, record, is_new=True))
                known[key] = found[-1]._replace(is_new=False)
            else:
                found.append(before)
        return found, ops

    def _known(self, key: bytes, record: Record) -> Appended | None:
        """Return the event that was published under an id, if any; `record` stands in for one that is damaged."""
        blob = self.store.get(key)
        if blob is None:
            return None
        position: int = decode_record(key, blob)
        at = event_key(position)
        stored = self.store.get(at)
        with suppress(DamagedRecord):  # reading the event reports the damage
            record = _record(at, stored) if stored is not None else record
        return Appended(position, record, is_new=False)

    def _forget(self) -> None:
        """Delete the oldest events, a thousand at a time, except those that a subscription still has to handle."""
        if len(self._remembered) < REMEMBERED + _SLACK:
            return
        unhandled = self.unhandled()
        kept: list[tuple[int, Record]] = []
        ops: list[Op] = []
        while len(self._remembered) + len(kept) > REMEMBERED and self._remembered:
            position, record = self._remembered.popleft()
            if position in unhandled:
                kept.append((position, record))
                continue
            ops += _delete_ops(position, record)
        self._remembered.extendleft(reversed(kept))
        self.committer.give(ops)

    async def prune(self, latest_ms: int, handled: int) -> int:
        """Delete the events up to a time that all subscriptions have handled; return their number.

        Those of this process have handled the events up to the position `handled`; each named one has its cursor. An
        event is deleted in one commit with all entries that refer to it, on the condition that it is still there:
        otherwise its id may belong to a new event by now. The last event stays, because new positions follow it.
        Damaged events stay, so that they are reported.
        """
        places = {key[1:]: decode_record(key, blob)[1] for key, blob in self.store.scan(Prefix.CURSOR)}
        last = min(handled, self.tail() - 1, *places.values())
        count, position = 0, 0
        while position < last:
            position, old = self._find_old(position, last, latest_ms)
            count += await self._delete(old, places)
            await asyncio.sleep(0)  # a log may be long: let other tasks run
        return count

    def _find_old(self, position: int, last: int, latest_ms: int) -> tuple[int, dict[int, list[Op]]]:
        """Read some events after a position; return the last position read, and the deletions of old events."""
        old: dict[int, list[Op]] = {}
        size = 0
        for key, blob in self.store.scan(Prefix.EVENT, start=event_key(position + 1), limit=_BATCH):
            position = number_of(key)
            if position > last:
                break
            with suppress(DamagedRecord):
                record = _record(key, blob)
                if record.at_ms <= latest_ms:
                    old[position] = [Check(key, blob), *_delete_ops(position, record)]
                    size += len(blob)
            if size > BATCH_BYTES:
                break
        return position, old

    async def _delete(self, old: dict[int, list[Op]], names: Iterable[bytes]) -> int:
        """Delete events with their dead letters; return how many of them were still there."""
        if not old:
            return 0
        first, last = min(old), max(old)
        for name in names:
            for key, _ in self.store.scan(
                Prefix.DEAD_LETTER + name, start=Prefix.DEAD_LETTER + name + first.to_bytes(8, "big")
            ):
                position = number_of(key)
                if position > last:
                    break
                if position in old:
                    old[position].append(Delete(key))
        refused = await self.committer.commit_all(list(old.values()))
        for error in refused:
            if error is not None and not isinstance(error, Conflict):
                raise error
        if self._forgets:
            self._remembered = deque(found for found in self._remembered if found[0] not in old)
        return refused.count(None)

    # Reading.

    def tail(self) -> int:
        """Return the position of the last event; 0 if there is none."""
        last = next(iter(self.store.scan(Prefix.EVENT, reverse=True, limit=1)), None)
        return 0 if last is None else number_of(last[0])

    def after(self, position: int, most: int) -> Iterator[tuple[int, Record | DamagedRecord]]:
        """Yield the events after a position, in order; for a damaged event, the error."""
        for key, blob in self.store.scan(Prefix.EVENT, start=event_key(position + 1), limit=most):
            try:
                yield number_of(key), _record(key, blob)
            except DamagedRecord as error:
                yield number_of(key), error

    def event(self, position: int, record: Record, unknown: dict[str, str] | None = None) -> BusEvent:
        """Return an event with its own copy of the value. Raises `SnapshotError`.

        The names of unknown classes are added to `unknown`, as `Codec.decode` does.
        """
        topic, name, agent_id, correlation_id, causation_id, at_ms, value = record
        return BusEvent(
            topic=topic,
            data=self.codec.decode(value, lenient=True, unregistered=unknown),
            agent_id=agent_id,
            id=name,
            correlation_id=correlation_id,
            causation_id=causation_id,
            at_ms=at_ms,
            position=position,
        )

    def trace(self, correlation_id: str) -> list[BusEvent]:
        """Return the events of a correlation id, in order. Raises `DamagedRecord`."""
        prefix = correlation_prefix(correlation_id)
        found = (self._at(number_of(key)) for key, _ in self.store.scan(prefix))
        return [event for event in found if event is not None]

    def _at(self, position: int) -> BusEvent | None:
        key = event_key(position)
        blob = self.store.get(key)
        return None if blob is None else self.event(position, _record(key, blob))

    # Cursors and dead letters.

    def cursor(self, name: str) -> Cursor | None:
        """Return the cursor of a named subscription. Raises `DamagedRecord`."""
        key = cursor_key(name)
        blob = self.store.get(key)
        if blob is None:
            return None
        _, position = decode_record(key, blob)
        return Cursor(position, blob)

    def create_cursor(self, name: str, position: int) -> Cursor:
        """Store the cursor of a new named subscription before this returns; return an existing one as it is."""
        cursor, ops = self.cursor_ops(name, None, position)
        try:
            self.store.commit(*ops)
        except Conflict:
            return self.cursor(name) or cursor
        return cursor

    def cursor_ops(self, name: str, before: Cursor | None, position: int) -> tuple[Cursor, list[Op]]:
        """Return a cursor at another position, and its write, on the condition that it is still as `before`."""
        key = cursor_key(name)
        record = encode_record(key, (name, position))
        return Cursor(position, record), [Check(key, before.record if before else None), Put(key, record)]

    def dead_letter_op(self, letter: DeadLetter) -> Op:
        """Return the write of a dead letter."""
        key = dead_letters_prefix(letter.subscription) + letter.position.to_bytes(8, "big")
        return Put(
            key, encode_record(key, (letter.subscription, letter.position, letter.error, letter.tries, letter.at_ms))
        )

    def dead_letters(self, name: str | None) -> list[DeadLetter]:
        """Return the dead letters of one named subscription, or of all. Raises `DamagedRecord`."""
        found = []
        for key, blob in self.store.scan(Prefix.DEAD_LETTER if name is None else dead_letters_prefix(name)):
            subscription, position, error, tries, at_ms = decode_record(key, blob)
            letter = DeadLetter(
                subscription=subscription, position=position, event=None, error=error, tries=tries, at_ms=at_ms
            )
            try:
                found.append(replace(letter, event=self._at(position)))
            except SnapshotError:  # perhaps it became a dead letter because it cannot be read
                found.append(letter)
        return found


def _delete_ops(position: int, record: Record) -> list[Op]:
    """Return the deletions of an event and of all entries that refer to it."""
    at = event_key(position)
    return [Delete(at), Delete(event_id_key(record.id)), Delete(correlation_prefix(record.correlation_id) + at[1:])]


def _record(key: bytes, blob: bytes) -> Record:
    return Record(*decode_record(key, blob))
