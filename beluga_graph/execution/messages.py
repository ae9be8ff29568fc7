"""Messages for a bus: those that runs publish, and those about the status of runs, each with an id of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

from beluga_graph.codec.registry import Registry
from beluga_graph.execution.result import PendingMessage
from beluga_graph.kernel.status_topics import STARTED_TOPIC

__all__ = ["STATUS_INDEX", "Bus", "Message", "RunMessages"]

STATUS_INDEX = 0xFFFF_0000
"""Index of the first message about a run's status: those of a step's nodes sort before it."""


class Message(NamedTuple):
    """One event for a bus. Its id is the same each time it is passed to the bus."""

    event_id: str
    topic: str
    agent_id: str
    correlation_id: str
    causation_id: str
    at_ms: int
    value: bytes
    """The encoded value itself, not a reference to a large value."""


class Bus(Protocol):
    """The part of a bus that an engine uses. `EventBus` satisfies it."""

    async def relay(self, message: Message) -> None:
        """Accept a message; return once the bus has it. A durable bus accepts each id once."""
        ...

    def learn(self, registry: Registry) -> None:
        """Add the classes that a flow names, so that their values can be decoded."""
        ...


class RunMessages(NamedTuple):
    """Makes the messages of one run. A later run or fork with the same run id has other ids."""

    run_id: str
    created_ms: int
    """The creation time, not the start time: forks of one run share the start time of their source."""

    def of_node(self, token: str, published: Sequence[PendingMessage], at_ms: int) -> list[Message]:
        """Return the messages that a node publishes. A value may still be a reference."""
        cause = f"{self.run_id}:{token}"
        return [
            Message(self._id(token, index), topic, agent_id, self.run_id, cause, at_ms, value)
            for index, (topic, agent_id, value) in enumerate(published)
        ]

    def of_status(
        self, flow: str, seq: int, topics: Sequence[str], status: str, at_ms: int, encode: Callable[[Any], bytes]
    ) -> list[Message]:
        """Return the messages about the run's status after step `seq`."""
        messages = []
        for index, topic in enumerate(topics, STATUS_INDEX):
            shown = "running" if topic == STARTED_TOPIC else status
            value = encode({"run_id": self.run_id, "flow": flow, "status": shown})
            messages.append(Message(self._id(f"step {seq}", index), topic, flow, self.run_id, "", at_ms, value))
        return messages

    def _id(self, what: str, index: int) -> str:
        """Return the id of a message, the same in every process."""
        named = f"{len(self.run_id)}:{self.run_id}:{self.created_ms}:{what}:{index}"
        return blake2b(named.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
