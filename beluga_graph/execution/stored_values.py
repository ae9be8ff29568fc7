"""Stored values of one run: where they are read from, and how they are decoded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from beluga_graph.codec.values import Codec
from beluga_graph.events import Failure
from beluga_graph.execution.items import KnownItems
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.types import Value

__all__ = ["StoredValues", "ValueSource"]


class ValueSource(Protocol):
    """The encoded data of one run, read from a store or from any other place."""

    decoded_cache: dict[Any, Any]
    """Objects decoded earlier from values that never change; lost with the process."""

    known_items: KnownItems
    """The items of append fields that were read earlier."""

    def load(self, value: bytes) -> bytes:
        """Return an encoded value, following a reference."""
        ...

    def to_reference(self, encoded: bytes) -> bytes:
        """Return a reference to a large encoded value, and a smaller value itself."""
        ...

    def read_items(self, place: str, field: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield the encoded items `start` to `stop` of an append field's layer."""
        ...

    def read_session_items(self, run: Snapshot, start: int = 0) -> Iterator[bytes]:
        """Yield the encoded messages that the run's session began with, from `start` on."""
        ...


class StoredValues:
    """Decodes the stored values of one run with the classes of one graph.

    If `lenient`, instances of classes that the graph does not name become `Unregistered`.
    """

    __slots__ = ("_codec", "_is_lenient", "source")

    def __init__(self, codec: Codec, source: ValueSource, *, lenient: bool = False) -> None:
        self._codec = codec
        self._is_lenient = lenient
        self.source = source

    def decode(self, value: Value | None) -> Any:
        """Return a new copy of a value; a failure becomes a `Failure`, and `None`, no value, stays `None`.

        Raises `SnapshotError`.
        """
        if value is None:
            return None
        if isinstance(value, bytes):
            return self._codec.decode(self.source.load(value), lenient=self._is_lenient)
        node, kind, message, attempts, given = value
        return Failure(node, kind, message, attempts, self.decode(given))
