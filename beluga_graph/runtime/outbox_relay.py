"""The relay of the outbox: messages of committed steps are stored until the engine's bus has accepted them.

A message is written in the commit of its step, so it exists if and only if the step does. A task of its own passes it
to the bus and then deletes it. After a crash in between it is passed again, under the same id, and a durable bus
accepts an id once. The messages of one run are passed in order: behind one that the bus refuses, the other messages of
its run wait, and no messages of other runs. A bus that is slow or refuses delays nothing but this task, because the
messages wait on disk, not in memory.

An engine without a bus leaves the messages in the outbox, for an engine that has the bus. An engine with a bus looks
for such messages when it begins and every second, because a process that died after the last step of a run may have
left some. It skips the runs that another engine drives: that engine relays them itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextvars import Context

from beluga_graph.codec.errors import DamagedRecord
from beluga_graph.errors import BelugaError, BusClosed
from beluga_graph.execution.messages import Bus, Message
from beluga_graph.kernel.triggers import Trigger
from beluga_graph.plan.plan import Plan
from beluga_graph.runtime.active_run import ActiveRun
from beluga_graph.storage.committer import Committer
from beluga_graph.storage.keys import Prefix, run_key_of
from beluga_graph.storage.leases import Owner, is_driven_elsewhere
from beluga_graph.storage.loading import RunReader
from beluga_graph.storage.outbox_records import read_message, status_ops
from stores.base import Delete, Op, Put, Store, StoreError

__all__ = ["OutboxRelay"]

_PAGE = 64  # messages that are read, passed and deleted together
_TRY_AGAIN_S = 1.0  # after a bus has refused a message
_LOOK_S = 1.0  # between two looks for messages that other engines left
_CLOSE_S = 5.0  # how long `close` waits for the bus to accept the stored messages

_log = logging.getLogger("beluga_graph.runtime.outbox_relay")


class OutboxRelay:
    """Passes the messages of one engine's runs to its bus."""

    def __init__(self, store: Store, committer: Committer) -> None:
        self._store, self._committer = store, committer
        self.bus: Bus | None = None
        self._owner: Owner | None = None
        self._is_begun = False
        self._is_due = False  # there may be messages that the pass under way has not seen
        self._task: asyncio.Task[None] | None = None
        self._later: asyncio.TimerHandle | None = None  # when it looks again
        self._is_paused = False  # until then, because the bus or the store failed
        self._refused: set[bytes] = set()  # runs with a message that the bus has refused
        self._retry_at = 0.0  # when their messages are passed again
        self._unreadable: set[bytes] = set()  # keys of messages that were reported as unreadable
        self._closed = False

    @property
    def has_bus(self) -> bool:
        """Whether the messages of runs are passed on by this engine."""
        return self.bus is not None

    def serve(self, bus: Bus | None, owner: Owner) -> None:
        """Pass messages to this bus from now on. Without a bus, keep them."""
        self.bus, self._owner = bus, owner

    def learn(self, plan: Plan) -> None:
        """Add the classes that a flow names to the bus."""
        if self.bus is not None:
            self.bus.learn(plan.codec.registry)

    def begin(self) -> None:
        """Look for messages that were left. Only the first call does."""
        if not self._is_begun and self.bus is not None:
            self._is_begun = True
            self._wake()

    def status_ops(self, active: ActiveRun, trigger: Trigger, before: str, at: int) -> list[Op]:
        """Return the writes of the status messages of a step that was just applied. Without a bus there are none."""
        if self.bus is None:
            return []
        return status_ops(
            active.log.keys, active.snapshot, active.plan.name, trigger, before, at, active.head.created_ms
        )

    def on_committed(self, ops: Sequence[Op]) -> None:
        """Relay the messages of a step that is on disk."""
        if self.bus is not None and any(type(op) is Put and op.key[:1] == Prefix.OUTBOX for op in ops):
            self._wake()

    async def close(self) -> None:
        """Let the bus accept the stored messages for at most 5 seconds. The rest stays on disk."""
        self._closed = True
        if self._later is not None:
            self._later.cancel()
        task = self._task
        if task is not None:
            await asyncio.wait([task], timeout=_CLOSE_S)
            if not task.done():
                task.cancel()
                await asyncio.wait([task])

    def _wake(self) -> None:
        self._is_due = True
        if self._task is None and not self._is_paused and not self._closed:
            if self._later is not None:
                self._later.cancel()
            # In a context of its own: the event that a handler deals with now did not cause these messages.
            self._task = asyncio.get_running_loop().create_task(self._relay(), context=Context())
            self._task.add_done_callback(self._on_relayed)

    def _on_relayed(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            _log.warning("messages stay in the outbox for now: %s: %s", type(error).__name__, error)
            self._is_due = self._is_paused = True
        elif self._is_due:
            self._wake()
            return
        if not self._closed:
            loop = asyncio.get_running_loop()
            pause = _TRY_AGAIN_S if self._is_paused else _LOOK_S
            if self._refused and not self._is_paused:
                pause = max(0.0, self._retry_at - loop.time())
            self._later = loop.call_later(pause, self._look_again)

    def _look_again(self) -> None:
        self._later, self._is_paused = None, False
        self._wake()

    async def _relay(self) -> None:
        """Pass on the stored messages, in passes over the keys, until one pass has seen all of them."""
        while self._is_due:
            self._is_due = False
            if asyncio.get_running_loop().time() >= self._retry_at:
                self._refused.clear()
            position: bytes | None = Prefix.OUTBOX
            while position is not None:
                position = await self._relay_page(position)

    async def _relay_page(self, start: bytes) -> bytes | None:
        """Pass on some messages, from a key on. Return the key to continue at, `None` at the end."""
        page = list(self._store.scan(Prefix.OUTBOX, start=start, limit=_PAGE))
        driven: dict[bytes, bool] = {}
        accepted: list[Op] = []
        try:
            for key, blob in page:
                run_key = run_key_of(key)
                if run_key not in driven:
                    driven[run_key] = self._is_driven_elsewhere(run_key)
                if not driven[run_key] and run_key not in self._refused and await self._relay_message(key, blob):
                    accepted.append(Delete(key))
        finally:  # also after an error, or when the engine is closed: the bus has the messages before
            if accepted:
                rejected = await self._committer.commit(accepted)
        if accepted and rejected is not None:
            raise rejected
        if len(page) < _PAGE:
            return None
        last = page[-1][0]
        if run_key_of(last) in self._refused:  # the rest of that run can wait unread
            return last[:17] + b"\xff" * len(last[17:]) + b"\x00"
        return last + b"\x00"

    def _is_driven_elsewhere(self, run_key: bytes) -> bool:
        try:
            return self._owner is not None and is_driven_elsewhere(self._store, run_key, self._owner)
        except DamagedRecord:  # its owner cannot commit any more, and other runs must not wait for it
            return False

    async def _relay_message(self, key: bytes, blob: bytes) -> bool:
        """Pass one message to the bus; return whether the bus has it."""
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
        except (BusClosed, StoreError):  # every other message would raise the same
            raise
        except Exception as error:  # noqa: BLE001 - whatever the bus raises, other runs go on
            self._refuse(run_key_of(key), message, error)
            return False
        return True

    def _refuse(self, run_key: bytes, message: Message, error: Exception) -> None:
        """Keep the messages of a run for a while."""
        if not self._refused:
            self._retry_at = asyncio.get_running_loop().time() + _TRY_AGAIN_S
            what = type(error).__name__, error, message.topic, message.correlation_id
            _log.warning("messages stay in the outbox for now: %s: %s (on %r, of run %r)", *what)
        self._refused.add(run_key)
