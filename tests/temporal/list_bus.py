"""A bus that keeps its messages in a list."""

from __future__ import annotations

import asyncio

from beluga_graph.codec.registry import Registry
from beluga_graph.execution.messages import Message

__all__ = ["ListBus"]

_PATIENCE_S = 60


class ListBus:
    """A bus that accepts each message as often as it comes."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def relay(self, message: Message) -> None:
        """Add a message to the list."""
        self.messages.append(message)

    def learn(self, registry: Registry) -> None:
        """Do nothing: the messages stay encoded."""

    async def wait_for(self, topic: str) -> None:
        """Return once a message on the topic has come. Raises `TimeoutError`."""
        async with asyncio.timeout(_PATIENCE_S):
            while all(message.topic != topic for message in self.messages):  # noqa: ASYNC110 - one waiter in a test
                await asyncio.sleep(0.05)
