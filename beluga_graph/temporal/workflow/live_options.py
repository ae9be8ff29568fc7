"""The options of live text, which travel in the input of a run and in that of its activities."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["LiveOptions"]


class LiveOptions(NamedTuple):
    """How the workers of a run send its live text."""

    address: str = ""
    """The `host:port` at which the process that began the run listens; empty if it does not."""
    secret: bytes = b""
    """The shared secret with which both sides of that connection authenticate each other."""
    in_heartbeats: bool = False
    """Whether heartbeats carry the text if a worker cannot reach that process."""
