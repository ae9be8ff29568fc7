"""Imported runs: runs that come to the server with a state, from the store of a local engine or as a fork."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from beluga_graph.codec.references import is_reference, to_reference
from beluga_graph.execution.handed_over import HandedOver
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.temporal.workflow.pieces import ItemPieces, Piece
from beluga_graph.temporal.workflow.wire import pack

__all__ = ["ImportedRun"]

_PIECE_BYTES = 256 * 1024  # of a piece: an attempt reads whole pieces


class ImportedRun(NamedTuple):
    """A run in the form of the wire."""

    run: Snapshot
    items: ItemPieces
    inbox: Mapping[str, Sequence[bytes]]
    session: Sequence[Piece]
    large: list[bytes]
    """Values that must be in the claims before the run begins."""

    @classmethod
    def of(cls, moved: HandedOver, *, has_claims: bool) -> ImportedRun:
        """Return a run that has left a store. Without claims, large values take the places of their references."""
        large = list(moved.blobs.values()) if has_claims else []
        whole: HandedOver = moved if has_claims else _put_inline(moved, moved.blobs)

        def pieces_of(items: Iterable[bytes]) -> Iterator[Piece]:
            for some in _split(items):
                packed = pack(some)
                kept = to_reference(packed) if has_claims else packed
                if kept is not packed:
                    large.append(packed)
                yield Piece(len(some), kept)

        items = [(place, field, list(pieces_of(encoded))) for (place, field), encoded in whole.items.items() if encoded]
        session = list(pieces_of(whole.session_items))
        return cls(whole.run, ItemPieces(items), whole.signals, session, large)


def _put_inline(moved: HandedOver, blobs: Mapping[bytes, bytes]) -> HandedOver:
    """Return a run whose values are complete in themselves."""
    run, *others = _replace((moved.run.to_plain(), moved.items, moved.signals, moved.session_items), blobs)
    items, signals, session_items = others
    return HandedOver(Snapshot.from_plain(run), moved.shape, items, signals, session_items, {})


def _replace(plain: Any, blobs: Mapping[bytes, bytes]) -> Any:
    """Return plain data with large values in the places of their references."""
    if isinstance(plain, bytes):
        return blobs.get(plain, plain) if is_reference(plain) else plain
    if isinstance(plain, tuple | list):
        return type(plain)([_replace(part, blobs) for part in plain])
    if isinstance(plain, dict):
        return {key: _replace(part, blobs) for key, part in plain.items()}
    return plain


def _split(items: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield the items in lists of a bounded size."""
    some: list[bytes] = []
    size = 0
    for item in items:
        if some and size + len(item) > _PIECE_BYTES:
            yield some
            some, size = [], 0
        some.append(item)
        size += len(item)
    if some:
        yield some
