"""The items of append fields, as a workflow keeps them: pieces of consecutive items, encoded or by reference."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from beluga_graph.kernel.structural_names import is_inside

__all__ = ["ItemPieces", "NewPiece", "Piece"]


class Piece(NamedTuple):
    """Consecutive items of one field."""

    length: int
    data: bytes
    """The packed list of encoded items, or a reference to these bytes."""


class NewPiece(NamedTuple):
    """A piece that an attempt adds to a field."""

    place: str
    field: str
    length: int
    data: bytes
    drop: int = 0
    """How many of the last pieces it replaces: an attempt that appends may fold them into its own."""


class ItemPieces:
    """The pieces of one run, by place and field."""

    def __init__(self, plain: Iterable[tuple[str, str, Iterable[tuple[int, bytes]]]] = ()) -> None:
        self._pieces = {(place, field): [Piece(*piece) for piece in pieces] for place, field, pieces in plain}

    def of(self, place: str, field: str) -> list[Piece]:
        """Return the pieces of a field, in order."""
        return self._pieces.get((place, field), [])

    def add(self, new: NewPiece) -> None:
        """Add a piece at the end of its field."""
        pieces = self._pieces.setdefault((new.place, new.field), [])
        if new.drop:
            del pieces[-new.drop :]
        pieces.append(Piece(new.length, new.data))

    def close(self, scope: str) -> None:
        """Drop the items of the branches of a scope."""
        for key in [key for key in self._pieces if is_inside(key[0], scope)]:
            del self._pieces[key]

    def to_plain(self, places: Collection[str] | None = None) -> list[tuple[Any, ...]]:
        """Return the pieces as plain data: of some places, or all."""
        return [
            (place, field, pieces)
            for (place, field), pieces in self._pieces.items()
            if places is None or place in places
        ]
