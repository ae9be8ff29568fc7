"""Strangers: classes that a bus cannot build instances of, so that its handlers are handed `Unregistered` instead."""

from __future__ import annotations

import logging

__all__ = ["Strangers"]

_LOGGED_MAX = 1_000  # a topic for each run must not make the log, and this memory, grow without end

_log = logging.getLogger("beluga_graph.bus")


class Strangers:
    """Logs each such class once for each topic that events with it have."""

    def __init__(self) -> None:
        self._logged: set[tuple[str, str]] = set()

    def met(self, found: dict[str, str], topic: str, subscription: str) -> None:
        """Log classes that are new here, by name, with what keeps their instances from being built."""
        for name, why in found.items():
            if (name, topic) in self._logged or len(self._logged) >= _LOGGED_MAX:
                continue
            self._logged.add((name, topic))
            _log.warning(
                "subscription %r: an event on %r holds a %r, and its handler is handed an Unregistered instead: %s",
                subscription,
                topic,
                name,
                why or f"call bus.register({name.rpartition(':')[2]}) in this process before it subscribes",
            )
