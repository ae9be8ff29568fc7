"""The session that a run continues, as it was when the run took it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["RunSession"]


class RunSession(NamedTuple):
    """The session that a run continues, as it was when the run took it."""

    flow: str
    id: str
    version: int = 0
    length: int = 0
    """Number of messages."""
    generation: int = 0
    """Grows by one each time an input filter replaces the history."""
    active: str = ""
    """The agent that answered last."""
    run: str = ""
    """The run that has the session; empty if none."""
