"""Unknown classes: a bus cannot build instances of them, so handlers get `Unregistered` instead."""

from __future__ import annotations

import logging

__all__ = ["UnknownClasses"]

_LOGGED_MAX = 1_000  # a topic for each run must not make the log, and this memory, grow without end

_log = logging.getLogger("beluga_graph.bus")


class UnknownClasses:
    """Logs each unknown class once for each topic of the events that hold it."""

    def __init__(self) -> None:
        self._logged: set[tuple[str, str]] = set()

    def report(self, found: dict[str, str], topic: str, subscription: str) -> None:
        """Log the classes that were not logged before. `found` maps names to the reasons, which may be empty."""
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
