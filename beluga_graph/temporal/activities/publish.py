"""The activity that passes the messages of runs to a bus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from temporalio import activity

from beluga_graph.codec.references import find_references
from beluga_graph.codec.values import Codec
from beluga_graph.execution.messages import Bus, Message, RunMessages
from beluga_graph.execution.result import PendingMessage
from beluga_graph.temporal.activities.progress import Progress
from beluga_graph.temporal.claims.call_values import CallValues
from beluga_graph.temporal.claims.claims import CachedClaims
from beluga_graph.temporal.workflow.inputs import unpack_input
from beluga_graph.temporal.workflow.wire import PUBLISH

__all__ = ["PublishActivity"]

_CODEC = Codec()


class PublishActivity:
    """Passes messages to the bus of one worker."""

    def __init__(self, bus: Bus, claims: CachedClaims | None) -> None:
        self._bus, self._claims = bus, claims

    @activity.defn(name=PUBLISH)
    async def publish(self, packed: bytes) -> None:
        """Pass messages to the bus, in order. After an error or a crash, all are passed again, under the same ids."""
        given = unpack_input(packed, is_final=False)
        async with Progress().send_heartbeats():
            if self._claims is not None:
                await self._claims.get_all(find_references(given["messages"]))
            values = CallValues(self._claims, (), ())
            for plain in given["messages"]:
                for message in _read(given, plain):
                    await self._bus.relay(message._replace(value=values.load(message.value)))


def _read(given: Mapping[str, Any], plain: tuple[Any, ...]) -> list[Message]:
    """Return the messages for the bus; see `wire`."""
    messages = RunMessages(given["run"], given["created_ms"])
    if len(plain) == 3:  # of a node
        token, at_ms, published = plain
        return messages.of_node(token, [PendingMessage(*each) for each in published], at_ms)
    seq, at_ms, topics, status = plain
    return messages.of_status(given["flow"], seq, topics, status, at_ms, _CODEC.encode)
