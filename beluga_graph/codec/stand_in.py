"""`StandIn`: an object that is stored as another value, never as itself."""

from __future__ import annotations

from typing import Any

__all__ = ["StandIn"]


class StandIn:
    """A view of stored data. Wherever it is in a value, the codec writes what it stands for."""

    __slots__ = ()

    def stored(self) -> Any:
        """Return what is written in the place of this object. No stand-in, but it may hold some."""
        raise NotImplementedError
