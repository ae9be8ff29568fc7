"""`StandIn`: an object that the codec replaces with another value when it is stored."""

from __future__ import annotations

from typing import Any

__all__ = ["StandIn"]


class StandIn:
    """A view of stored data. Wherever a value holds one, the codec writes the result of `to_value`."""

    __slots__ = ()

    def to_value(self) -> Any:
        """Return the value to store in place of this object. It is not a stand-in itself, but may hold some."""
        raise NotImplementedError
