"""Points in time as people read them: relative to now, with the absolute time in UTC."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["Moments"]

_UNITS = (("second", 1_000), ("minute", 60_000), ("hour", 3_600_000), ("day", 86_400_000))


class Moments:
    """Texts about points in time, as of `now_ms`. All times are in milliseconds since the epoch."""

    __slots__ = ("now_ms",)

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms

    def since(self, at_ms: int) -> str:
        """Return how long ago a time was, such as `for 3 minutes (since …)`."""
        return f"for {_span(self.now_ms - at_ms)} (since {_absolute(at_ms)})"

    def at(self, at_ms: int) -> str:
        """Return a time, such as `in 3 minutes (…)` or `3 minutes ago (…)`."""
        if at_ms > self.now_ms:
            return f"in {_span(at_ms - self.now_ms)} ({_absolute(at_ms)})"
        return f"{_span(self.now_ms - at_ms)} ago ({_absolute(at_ms)})"


def _span(length_ms: int) -> str:
    """Return a length of time in one unit: `90 seconds`, but `2 minutes`."""
    if length_ms < 1_000:
        return "less than a second"
    name, unit_ms = next((unit for unit in reversed(_UNITS) if length_ms >= 2 * unit[1]), _UNITS[0])
    count = length_ms // unit_ms
    return f"{count:,} {name}" if count == 1 else f"{count:,} {name}s"


def _absolute(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}Z"
