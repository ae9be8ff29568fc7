"""The records of a session: its summary, and its messages, which are written once each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from beluga_graph.codec.errors import DamagedRecord
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.storage.keys import Prefix, hash16
from beluga_graph.storage.records import decode_record
from stores.base import Store

__all__ = ["Session", "read_session_items"]


@dataclass(frozen=True, slots=True)
class Session:
    """A session as it is stored between two runs."""

    flow: str
    id: str
    version: int = 0
    length: int = 0
    """Number of messages."""
    generation: int = 0
    """Grows by one each time the input filter of a run has replaced the history."""
    active: str = ""
    """The agent that answered last."""
    run: str = ""
    """The run that has the session now; empty if none."""

    @property
    def key(self) -> bytes:
        """Key of the session's record."""
        return Prefix.SESSION + self.owner

    @property
    def owner(self) -> bytes:
        """Digest used in the keys of this session and in its marks on large values."""
        return hash16(f"{self.flow}\n{self.id}")

    @property
    def prefix(self) -> bytes:
        """Prefix of the keys of its messages. A message is written once, under its own key."""
        return Prefix.SESSION_ITEM + self.owner + self.generation.to_bytes(4, "big")

    def item(self, index: int) -> bytes:
        """Return the key of a message."""
        return self.prefix + index.to_bytes(8, "big")

    def fields(self) -> tuple[str, str, int, int, int, str, str]:
        """Return the session as plain data."""
        return (self.flow, self.id, self.version, self.length, self.generation, self.active, self.run)


def read_session_items(store: Store, run: Snapshot, start: int = 0) -> Iterator[bytes]:
    """Yield the encoded messages that a run's session had when it began, from `start` on. Raises `DamagedRecord`."""
    if run.session is None:
        return
    session = Session(*run.session)
    for index in range(start, session.length):
        key = session.item(index)
        blob = store.get(key)
        if blob is None:
            raise DamagedRecord("the message", f"{index} of session {session.id!r} of flow {session.flow!r} is missing")
        item: bytes = decode_record(key, blob)
        yield item
