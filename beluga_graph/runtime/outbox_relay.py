"""The outbox: what committed steps publish waits on disk until the engine's bus has it.

A message is written in the commit of its step, so it exists if and only if the step does. A task of its own
gives it to the bus and then deletes it; a crash in between gives it again, under the same id, and a durable bus
takes an id once. The messages of one run are given in order: behind one that the bus refuses those of its run
wait, and no others. A bus that is slow, or refuses, holds up nothing but this task: what waits for it is on disk,
not in memory.

An engine without a bus leaves the messages where they are, for one that has it. An engine with a bus looks for
such when it begins and every second, for they may be left by a process that died after the last step of a run. It
passes by the runs that another engine drives: that one gives away its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextvars import Context
from typing import Protocol

from beluga_graph.codec.errors import DamagedRecord
from beluga_graph.codec.registry import Registry
from beluga_graph.errors import BelugaError, BusClosed
from beluga_graph.kernel.triggers import Trigger
from beluga_graph.plan.plan import Plan
from beluga_graph.runtime.active_run import ActiveRun
from beluga_graph.storage.committer import Committer
from beluga_graph.storage.keys import Prefix, run_of
from beluga_graph.storage.leases import Owner
from beluga_graph.storage.loading import RunReader
from beluga_graph.storage.outbox_records import Message, read_message, status_ops
from beluga_graph.storage.run_index import is_driven_elsewhere
from stores.base import Delete, Op, Put, Store, StoreError

__all__ = ["Bus", "Outbox"]

_PAGE = 64  # messages that are read, given and deleted together
_TRY_AGAIN_S = 1.0  # after a bus has refused a message
_LOOK_S = 1.0  # between two looks for what other engines left
_CLOSE_S = 5.0  # how long a close waits for the bus to take what is there

_log = logging.getLogger("beluga_graph.runtime.outbox_relay")


class Bus(Protocol):
    """What an engine needs of a bus; `EventBus` is one."""

    async def relay(self, message: Message) -> None:
        """Take a message: once, if a bus that lasts is given the same id again. Returns when it has it."""
        ...

    def learn(self, registry: Registry) -> None:
        """Know the classes that a flow names, so that values of them can be read."""
        ...


class Outbox:
    """What waits for the bus of one engine."""

    def __init__(self, store: Store, committer: Committer) -> None:
        self._store, self._committer = store, committer
        self.bus: Bus | None = None
        self._owner: Owner | None = None
        self._begun = False
        self._rung = False  # there may be messages that the pass under way has not seen
        self._task: asyncio.Task[None] | None = None
        self._later: asyncio.TimerHandle | None = None  # when it looks again
        self._waits = False  # until then, for the bus, or the store, takes nothing
        self._refused: set[bytes] = set()  # runs of which the bus has refused a message
        self._retry_at = 0.0  # when these are given again
        self._unreadable: set[bytes] = set()  # that were told of
        self._closed = False

    @property
    def has_bus(self) -> bool:
        """Whether what runs publish will be taken from here."""
        return self.bus is not None

    def serve(self, bus: Bus | None, owner: Owner) -> None:
        """Give messages to this bus from now on; with none, keep them."""
        self.bus, self._owner = bus, owner

    def learn(self, plan: Plan) -> None:
        """Let the bus know the classes that a flow names."""
        if self.bus is not None:
            self.bus.learn(plan.codec.registry)

    def begin(self) -> None:
        """Look for what was left, once."""
        if not self._begun and self.bus is not None:
            self._begun = True
            self._ring()

    def status_ops(self, live: ActiveRun, trigger: Trigger, before: str, at: int) -> list[Op]:
        """Return the writes that tell a bus, if there is one, what the step just applied makes of its run."""
        if self.bus is None:
            return []
        return status_ops(live.history.keys, live.snapshot, live.plan.name, trigger, before, at, live.head.created_ms)

    def on_committed(self, ops: Sequence[Op]) -> None:
        """A step is on disk: give away what it publishes."""
        if self.bus is not None and any(type(op) is Put and op.key[:1] == Prefix.OUTBOX for op in ops):
            self._ring()

    async def close(self) -> None:
        """Let the bus take what is there, for a while; the rest stays on disk."""
        self._closed = True
        if self._later is not None:
            self._later.cancel()
        task = self._task
        if task is not None:
            await asyncio.wait([task], timeout=_CLOSE_S)
            if not task.done():
                task.cancel()
                await asyncio.wait([task])

    def _ring(self) -> None:
        self._rung = True
        if self._task is None and not self._waits and not self._closed:
            if self._later is not None:
                self._later.cancel()
            # In a context of its own: an event that a handler is just dealing with is not the cause of these.
            self._task = asyncio.get_running_loop().create_task(self._relay(), context=Context())
            self._task.add_done_callback(self._relayed)

    def _relayed(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            _log.warning("messages stay in the outbox for now: %s: %s", type(error).__name__, error)
            self._rung = self._waits = True
        elif self._rung:
            self._ring()
            return
        if not self._closed:
            loop = asyncio.get_running_loop()
            pause = _TRY_AGAIN_S if self._waits else _LOOK_S
            if self._refused and not self._waits:
                pause = max(0.0, self._retry_at - loop.time())
            self._later = loop.call_later(pause, self._again)

    def _again(self) -> None:
        self._later, self._waits = None, False
        self._ring()

    async def _relay(self) -> None:
        """Give away what is there, in passes over the keys, until a pass has seen all of it."""
        while self._rung:
            self._rung = False
            if asyncio.get_running_loop().time() >= self._retry_at:
                self._refused.clear()
            position: bytes | None = Prefix.OUTBOX
            while position is not None:
                position = await self._give_page(position)

    async def _give_page(self, start: bytes) -> bytes | None:
        """Give away some messages, from a key on; return where to go on, `None` at the end."""
        page = list(self._store.scan(Prefix.OUTBOX, start=start, limit=_PAGE))
        driven: dict[bytes, bool] = {}
        given: list[Op] = []
        try:
            for key, blob in page:
                run = run_of(key)
                if run not in driven:
                    driven[run] = self._is_driven_elsewhere(run)
                if not driven[run] and run not in self._refused and await self._given(key, blob):
                    given.append(Delete(key))
        finally:  # also when the bus takes nothing, or the engine is closed: those before are with the bus
            if given:
                refused = await self._committer.commit(given)
        if given and refused is not None:
            raise refused
        if len(page) < _PAGE:
            return None
        last = page[-1][0]
        if run_of(last) in self._refused:  # the rest of that run can wait unread
            return last[:17] + b"\xff" * len(last[17:]) + b"\x00"
        return last + b"\x00"

    def _is_driven_elsewhere(self, run: bytes) -> bool:
        try:
            return self._owner is not None and is_driven_elsewhere(self._store, run, self._owner)
        except DamagedRecord:  # who has it can commit no more; and other runs must not wait for it
            return False

    async def _given(self, key: bytes, blob: bytes) -> bool:
        assert self.bus is not None
        try:
            message = read_message(key, blob)
            message = message._replace(value=RunReader(self._store, message.correlation_id).load(message.value))
        except BelugaError as error:
            if key not in self._unreadable:
                self._unreadable.add(key)
                _log.error("a message in the outbox cannot be published: %s", error)
            return False
        try:
            await self.bus.relay(message)
        except (BusClosed, StoreError):  # so it would say to every other one
            raise
        except Exception as error:  # noqa: BLE001 - whatever a bus may raise, other runs have nothing to do with it
            self._refuse(run_of(key), message, error)
            return False
        return True

    def _refuse(self, run: bytes, message: Message, error: Exception) -> None:
        """Keep the messages of a run for a while."""
        if not self._refused:
            self._retry_at = asyncio.get_running_loop().time() + _TRY_AGAIN_S
            what = type(error).__name__, error, message.topic, message.correlation_id
            _log.warning("messages stay in the outbox for now: %s: %s (on %r, of run %r)", *what)
        self._refused.add(run)
