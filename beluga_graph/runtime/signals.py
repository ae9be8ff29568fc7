"""Inboxes: signals that were accepted for runs, and how they reach the waits of those that are driven here."""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING

from beluga_graph.kernel.triggers import SignalReceived
from beluga_graph.runtime.active_run import ActiveRun
from beluga_graph.storage.keys import Prefix
from beluga_graph.storage.records import decode_record

if TYPE_CHECKING:
    from beluga_graph.runtime.scheduler import Scheduler

__all__ = ["Inbox"]


class Inbox:
    """Serves unread signals to the oldest waits of their runs, each once and in order."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._serving = False
        self._doors: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    def door(self, run_id: str) -> asyncio.Lock:
        """Return what lets the senders of this engine to one run in by turns, so that they keep their order."""
        door = self._doors.get(run_id)
        if door is None:
            door = self._doors[run_id] = asyncio.Lock()
        return door

    def look_for(self, live: ActiveRun, signal: str) -> None:
        """Serve unread signals of a name to a run's waits. What cannot be read stops that run, and is told."""
        if self._serving:  # from within a look: one after the other, or a thousand signals are a thousand frames
            asyncio.get_running_loop().call_soon(self.look_for, live, signal)
            return
        self._serving = True
        try:
            self.serve(live, signal)
        except Exception as error:  # noqa: BLE001 - only this run stops
            self._scheduler.abandon(live, error)
        finally:
            self._serving = False

    def look_behind(self, live: ActiveRun, bell: bytes) -> None:
        """Serve unread signals of the one name that a doorbell was rung for. What cannot be read stops that run."""
        try:
            last = next(iter(self._scheduler.store.scan(Prefix.SIGNAL + bell[1:], reverse=True, limit=1)), None)
            signal = decode_record(*last)[0] if last is not None else None
        except Exception as error:  # noqa: BLE001 - only this run stops
            self._scheduler.abandon(live, error)
            return
        if signal is not None:
            self.look_for(live, signal)

    def look_for_all(self, live: ActiveRun) -> None:
        """Serve unread signals of every name that a run waits for: what a release before this one rang for."""
        for signal in list(live.snapshot.waits):
            self.look_for(live, signal)

    def serve(self, live: ActiveRun, signal: str) -> None:
        """Decide on each unread signal of a name that a wait is there for. Raises `DamagedRecord`."""
        while signal in live.snapshot.waits and not live.resting and not live.done.done():
            position = live.snapshot.inbox.get(signal, 0)
            key = live.history.keys.signal(signal, position)
            blob = self._scheduler.store.get(key)
            if blob is None:
                return
            _, payload, _ = decode_record(key, blob)
            now = self._scheduler.clock.now_ms()
            if self._scheduler.decide(live, SignalReceived(signal, position, payload, now)) is None:
                return
