"""Subscriptions: pass live records from the side channel to the followers of a run in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from beluga_graph.temporal.live.listener import Listener
from beluga_graph.temporal.live.record import LiveRecord
from beluga_graph.temporal.workflow.live_options import LiveOptions

__all__ = ["HEARTBEATS", "LiveSubscription", "LiveSubscriptions"]

HEARTBEATS = "heartbeats"
"""A value of `live=` in place of an address: heartbeats carry the text, so that followers in any process see it."""

_LOOPBACK = "127.0.0.1"
_RECORDS_MAX = 10_000  # of a follower that reads slowly; it then shows the rest of a text when its node has finished


class LiveSubscription:
    """The records for one follower of a run.

    Attributes:
        begun_seq: The step after which this follower sees all live events of the run; `None` if it came after the run
            had begun.
        ready: Done when there are records.
    """

    def __init__(self) -> None:
        self.begun_seq: int | None = None
        self._records: list[LiveRecord] = []
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def put(self, record: LiveRecord) -> None:
        """Add a record."""
        if len(self._records) < _RECORDS_MAX:
            self._records.append(record)
        if not self.ready.done():
            self.ready.set_result(None)

    def take(self) -> list[LiveRecord]:
        """Remove the records so far, and return them."""
        taken, self._records = self._records, []
        if self.ready.done():
            self.ready = asyncio.get_running_loop().create_future()
        return taken


class LiveSubscriptions:
    """The subscriptions of one engine, and the listener behind them.

    `live` is the `host` or `host:port` to listen on, or `HEARTBEATS`; `None` is a free port of loopback, if there is
    one. Raises `ValueError` for a port that is not a number.
    """

    def __init__(self, live: str | None) -> None:
        self._uses_heartbeats, self._is_given = live == HEARTBEATS, live is not None
        self._subscriptions: dict[str, list[LiveSubscription]] = {}
        self._listener: Listener | None = None
        if not self._uses_heartbeats:
            host, _, port = (live or _LOOPBACK).partition(":")
            if port and not port.isdecimal():
                msg = f"live {live!r}: give 'host', 'host:port' or {HEARTBEATS!r}"
                raise ValueError(msg)
            self._listener = Listener(host, int(port or 0), self._on_record)

    @contextmanager
    def watch(self, run_id: str) -> Iterator[LiveSubscription]:
        """Subscribe to the live records of a run within the block."""
        subscription = LiveSubscription()
        self._subscriptions.setdefault(run_id, []).append(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions[run_id].remove(subscription)
            if not self._subscriptions[run_id]:
                del self._subscriptions[run_id]

    async def prepare(self, run_id: str) -> LiveOptions:
        """Return how the workers of a run are to report its live events, and listen for them.

        A run that is followed from its start uses heartbeats where the listener cannot be reached. Raises `ValueError`
        if this process cannot listen on an address that was given.
        """
        in_heartbeats = self._uses_heartbeats or run_id in self._subscriptions
        if self._listener is None:
            return LiveOptions(in_heartbeats=in_heartbeats)
        try:
            return LiveOptions(await self._listener.open(), self._listener.secret, in_heartbeats)
        except OSError as error:
            if not self._is_given:
                return LiveOptions(in_heartbeats=in_heartbeats)
            msg = f"cannot listen on the address given as live=: {error}; give a free one, or {HEARTBEATS!r}"
            raise ValueError(msg) from error

    def note_begun(self, run_id: str, seq: int) -> None:
        """Note that a run has begun, or goes on, after a step."""
        for subscription in self._subscriptions.get(run_id, ()):
            subscription.begun_seq = seq if subscription.begun_seq is None else subscription.begun_seq

    async def close(self) -> None:
        """Stop listening. Idempotent."""
        if self._listener is not None:
            await self._listener.close()

    def _on_record(self, record: LiveRecord) -> None:
        for subscription in self._subscriptions.get(record.run_id, ()):
            subscription.put(record)
