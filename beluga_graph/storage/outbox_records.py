"""The outbox: messages that a run publishes, stored by the commit of a step until a bus has accepted them."""

from __future__ import annotations

from collections.abc import Sequence

from beluga_graph.codec.values import Codec
from beluga_graph.execution.messages import STATUS_INDEX, Message, RunMessages
from beluga_graph.execution.result import PendingMessage
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.status_topics import list_status_topics
from beluga_graph.kernel.triggers import Trigger
from beluga_graph.storage.keys import Keys
from beluga_graph.storage.records import decode_record, encode_record
from stores.base import Op, Put

__all__ = ["message_ops", "read_message", "status_ops"]

_CODEC = Codec()


def message_ops(
    keys: Keys, run: Snapshot, token: str, messages: Sequence[PendingMessage], at: int, created_ms: int
) -> list[Op]:
    """Return the writes of messages that a node publishes with the next step of its run, created at `created_ms`."""
    made = RunMessages(run.run_id, created_ms).of_node(token, messages, at)
    return [_put(keys, run.seq + 1, index, message) for index, message in enumerate(made)]


def status_ops(
    keys: Keys, run: Snapshot, flow: str, trigger: Trigger, before: str, at: int, created_ms: int
) -> list[Op]:
    """Return the writes of messages about a run's status, after a step that has just been applied."""
    topics = list_status_topics(run, trigger, before)
    made = RunMessages(run.run_id, created_ms).of_status(flow, run.seq, topics, run.status, at, _CODEC.encode)
    return [_put(keys, run.seq, index, message) for index, message in enumerate(made, STATUS_INDEX)]


def read_message(key: bytes, blob: bytes) -> Message:
    """Return a message of the outbox. Its value may still be a reference. Raises `DamagedRecord`."""
    return Message(*decode_record(key, blob))


def _put(keys: Keys, seq: int, index: int, message: Message) -> Put:
    key = keys.message(seq, index)
    return Put(key, encode_record(key, tuple(message)))
