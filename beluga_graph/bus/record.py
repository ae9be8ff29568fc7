"""Records: the form in which the log stores events."""

from __future__ import annotations

import secrets
from typing import NamedTuple

from beluga_graph.bus.event import BusEvent
from beluga_graph.codec.errors import NotData
from beluga_graph.codec.values import Codec
from beluga_graph.execution.messages import Message
from beluga_graph.topics import check_topic

__all__ = ["Record", "record_of_event", "record_of_message"]


class Record(NamedTuple):
    """An event as the log stores it. Its value is encoded, and decoded separately for each handler."""

    topic: str
    id: str
    agent_id: str
    correlation_id: str
    causation_id: str
    at_ms: int
    value: bytes


def record_of_event(event: BusEvent, codec: Codec, cause: BusEvent | None, now_ms: int) -> Record:
    """Return the record of an event that is published, with all its fields filled in.

    `cause` is the event whose handler publishes it, if any. Raises `BadTopic`, `NotData`, `TypeError` for a field of
    the wrong type.
    """
    check_topic(event.topic)
    for what in ("agent_id", "id", "correlation_id", "causation_id"):
        if not isinstance(getattr(event, what), str):
            msg = f"{what} {getattr(event, what)!r:.80} of an event on {event.topic!r}: give a str"
            raise TypeError(msg)
    if type(event.at_ms) is not int:
        msg = f"at_ms {event.at_ms!r:.80} of an event on {event.topic!r}: give milliseconds, as an int"
        raise TypeError(msg)
    try:
        value = codec.encode(event.data)
    except NotData as error:
        reason = f"{error.reason}; it was published to {event.topic!r}: make classes known by bus.register(…)"
        raise NotData(error.path, error.type_name, error.shown, reason) from None
    name = event.id or secrets.token_hex(16)
    correlation_id = event.correlation_id or (cause.correlation_id if cause else name)
    causation_id = event.causation_id or (cause.id if cause else "")
    return Record(event.topic, name, event.agent_id, correlation_id, causation_id, event.at_ms or now_ms, value)


def record_of_message(message: Message) -> Record:
    """Return the record of a message of an engine's outbox, under the id that it has there. Raises `BadTopic`."""
    return Record(
        check_topic(message.topic),
        message.event_id,
        message.agent_id,
        message.correlation_id,
        message.causation_id,
        message.at_ms,
        message.value,
    )
