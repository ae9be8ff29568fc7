"""Inboxes: signals that were accepted for runs, and how they reach the waits of those that are driven here."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from beluga_graph.disk import read
from beluga_graph.kernel.triggers import SignalReceived
from beluga_graph.live import Live

if TYPE_CHECKING:
    from beluga_graph.scheduler import Scheduler

__all__ = ["Inbox"]

_LOOK_S = 0.08  # between two looks for signals that other processes sent


class Inbox:
    """Serves unread signals to the oldest waits of their runs, each once and in order."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._looking: asyncio.TimerHandle | None = None
        self._serving = False

    def keep_looking(self) -> None:
        """Look now and then, as long as a run waits: another process may send to it."""
        if self._looking is None:
            self._looking = asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    def close(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()

    def look_for(self, live: Live, signal: str) -> None:
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

    def serve(self, live: Live, signal: str) -> None:
        """Decide on each unread signal of a name that a wait is there for. Raises `DamagedRecord`."""
        while signal in live.snapshot.waits and not live.resting and not live.done.done():
            position = live.snapshot.inbox.get(signal, 0)
            key = live.history.keys.signal(signal, position)
            blob = self._scheduler.store.get(key)
            if blob is None:
                return
            _, payload, _ = read(key, blob)
            now = self._scheduler.clock.now_ms()
            if self._scheduler.decide(live, SignalReceived(signal, position, payload, now)) is None:
                return

    def _look(self) -> None:
        self._looking = None
        lives = self._scheduler.lives.values()
        waiting = {live.history.keys.run: live for live in lives if live.snapshot.waits}
        if not waiting:
            return
        self.keep_looking()
        try:
            unread = {key[1:17] for key, _ in self._scheduler.store.scan(b"U")}
        except Exception as error:  # noqa: BLE001 - the store is gone: everybody who waits is told
            for stopped in waiting.values():
                self._scheduler.abandon(stopped, error)
            return
        for run in unread:
            live = waiting.get(run)
            if live is not None:
                for signal in list(live.snapshot.waits):
                    self.look_for(live, signal)
