"""The values of one call of an activity: those in its input, and large ones by digest from the claims."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from beluga_graph.codec.errors import DamagedRecord
from beluga_graph.codec.references import REFERENCE, is_reference, to_reference
from beluga_graph.execution.items import KnownItems
from beluga_graph.execution.result import NewItems
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.temporal.claims.backends import ClaimsFailed
from beluga_graph.temporal.claims.claims import ClaimNotFound
from beluga_graph.temporal.workflow.pieces import ItemPieces, NewPiece, Piece
from beluga_graph.temporal.workflow.wire import pack, unpack

__all__ = ["CallValues", "LargeValues", "read_large_value"]


class LargeValues(Protocol):
    """Reads large values by digest."""

    def get(self, digest: bytes) -> bytes:
        """Return the bytes under a digest. Raises an error of the project's tree if they are missing or damaged."""
        ...


def read_large_value(claims: LargeValues | None, reference: bytes) -> bytes:
    """Return the value of a reference. Raises `ClaimNotFound`, also without claims, and the errors of the claims."""
    if claims is None:
        raise ClaimNotFound(reference[len(REFERENCE) :], "")
    return claims.get(reference[len(REFERENCE) :])


class CallValues:
    """Satisfies `ValueSource` for the attempts of one call. Without claims, large values travel with the calls.

    Attributes:
        read_error: The error of the last large value that this worker could not read; another worker may have it.
    """

    def __init__(
        self,
        claims: LargeValues | None,
        items: Iterable[tuple[str, str, Iterable[tuple[int, bytes]]]],
        session: Sequence[tuple[int, bytes]],
    ) -> None:
        self.decoded_cache: dict[Any, Any] = {}
        self.known_items = KnownItems()
        self.read_error: ClaimNotFound | ClaimsFailed | None = None
        self._claims = claims
        self._pieces = ItemPieces(items)
        self._session = [Piece(*piece) for piece in session]
        self._made: dict[bytes, bytes] = {}  # by reference: large values that attempts of this call have made

    def load(self, value: bytes) -> bytes:
        """Return an encoded value, following a reference."""
        if not is_reference(value):
            return value
        made = self._made.get(value)
        if made is not None:
            return made
        try:
            return read_large_value(self._claims, value)
        except (ClaimNotFound, ClaimsFailed) as error:
            self.read_error = error
            raise

    def to_reference(self, encoded: bytes) -> bytes:
        """Return a reference to a large encoded value if there are claims, else the value itself."""
        return to_reference(encoded) if self._claims is not None else encoded

    def read_items(self, place: str, field: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield the encoded items `start` to `stop` of an append field's layer. Raises `DamagedRecord`."""
        found = start
        for item in self._read(self._pieces.of(place, field), start, stop):
            found += 1
            yield item
        if found < stop:  # a worker in another language may report items that it does not send
            detail = f"has {found} items at {place or 'the run itself'!r}; the run has appended {stop}"
            raise DamagedRecord(f"the append field {field!r}", detail)

    def read_session_items(self, run: Snapshot, start: int = 0) -> Iterator[bytes]:
        """Yield the encoded messages that the run's session began with, from `start` on."""
        return self._read(self._session, start, run.session[3] if run.session is not None else 0)

    # Results.

    def add_blobs(self, blobs: Iterable[tuple[bytes, bytes]]) -> None:
        """Keep large values that an attempt has made, for the attempts after it in this call."""
        self._made.update(blobs)

    def add_piece(self, piece: NewPiece) -> None:
        """Add a piece that was made before."""
        self._pieces.add(piece)

    def add_items(self, new: NewItems) -> tuple[NewPiece, list[bytes]]:
        """Add an attempt's new items; return the piece for the workflow, and large values to store.

        With claims, the small pieces before it are folded into it as they grow, so that a conversation of any length
        crosses as a few references.
        """
        made, drop, large = self._fold(self._pieces.of(new.place, new.field), new.items)
        piece = NewPiece(new.place, new.field, *made, drop)
        self._pieces.add(piece)
        return piece, large

    def extend_session(self, first: int, items: Sequence[bytes]) -> tuple[int, list[Piece], list[bytes]]:
        """Add messages to the session from index `first` on, which is its length, or 0 for a new history.

        Return how many pieces of the session stay, the pieces after them, and large values to store.
        """
        earlier = self._session if first else []
        if not items:
            return len(earlier), [], []
        piece, drop, large = self._fold(earlier, items)
        return len(earlier) - drop, [piece], large

    # Within.

    def _fold(self, earlier: Sequence[Piece], new: Sequence[bytes]) -> tuple[Piece, int, list[bytes]]:
        """Return a piece of new items, how many of the last earlier pieces it replaces, and large values to store."""
        items, drop = list(new), 0
        if self._claims is not None:
            while drop < len(earlier) and earlier[-1 - drop].length <= len(items) and earlier[-1 - drop].data:
                items = [*self._items_of(earlier[-1 - drop]), *items]
                drop += 1
        data = pack(items)
        kept = self.to_reference(data)
        if kept is data:
            return Piece(len(items), kept), drop, []
        self._made[kept] = data
        return Piece(len(items), kept), drop, [data]

    def _items_of(self, piece: Piece) -> Sequence[bytes]:
        found: Sequence[bytes] = unpack(self.load(piece.data))
        return found

    def _read(self, pieces: Iterable[Piece], start: int, stop: int) -> Iterator[bytes]:
        first = 0
        for piece in pieces:
            if first >= stop:
                return
            if first + piece.length > start:
                items = self._items_of(piece)
                yield from items[max(0, start - first) : stop - first]
            first += piece.length
