"""A queue of messages that leave in batches, each of which fits into a payload."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from beluga_graph.temporal.workflow.wire import BATCH_BYTES, pack

__all__ = ["MessageQueue"]


class MessageQueue:
    """Messages as plain data, in order; see `wire`.

    Attributes:
        size: The length of all messages in bytes.
    """

    def __init__(self, messages: Iterable[tuple[Any, ...]] = ()) -> None:
        self._messages: list[tuple[Any, ...]] = []
        self._sizes: list[int] = []
        self.size = 0
        self.add(messages)

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, messages: Iterable[tuple[Any, ...]]) -> None:
        """Add messages behind the others."""
        for message in messages:
            self._messages.append(message)
            self._sizes.append(len(pack(message)))
            self.size += self._sizes[-1]

    def first_batch(self) -> list[tuple[Any, ...]]:
        """Return the first messages, as many as a batch may have: at least one, if there are any."""
        size = 0
        for index, each in enumerate(self._sizes):
            size += each
            if index and size > BATCH_BYTES:
                return self._messages[:index]
        return self.to_plain()

    def remove_first(self, count: int) -> None:
        """Remove the first messages."""
        self.size -= sum(self._sizes[:count])
        del self._messages[:count], self._sizes[:count]

    def to_plain(self) -> list[tuple[Any, ...]]:
        """Return all messages."""
        return self._messages[:]
