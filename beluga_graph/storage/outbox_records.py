"""The outbox: messages that a run publishes, stored by the commit of a step until a bus has accepted them."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

from beluga_graph.codec.values import Codec
from beluga_graph.execution.result import PendingMessage
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, FAILED, WAITING, Snapshot
from beluga_graph.kernel.triggers import RunForked, RunStarted, Trigger
from beluga_graph.storage.keys import Keys
from beluga_graph.storage.records import decode_record, encode_record
from stores.base import Op, Put

__all__ = ["STATUS_TOPICS", "Message", "message_ops", "read_message", "status_ops"]

_STATUS = 0xFFFF_0000  # messages of a step's nodes sort before those about the run's status
_STARTED = "run.started"
_TOPICS = {
    WAITING: "run.waiting",
    COMPLETED: "run.completed",
    FAILED: "run.failed",
    CANCELLED: "run.cancelled",
}
STATUS_TOPICS = frozenset({_STARTED, *_TOPICS.values()})
_CODEC = Codec()


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


def message_ops(
    keys: Keys, run: Snapshot, token: str, messages: Sequence[PendingMessage], at: int, created_ms: int
) -> list[Op]:
    """Return the writes of messages that a node publishes with the next step of its run, created at `created_ms`."""
    cause = f"{run.run_id}:{token}"
    return [
        _put(keys, run.seq + 1, i, Message(_id(run, created_ms, token, i), topic, agent, run.run_id, cause, at, value))
        for i, (topic, agent, value) in enumerate(messages)
    ]


def status_ops(
    keys: Keys, run: Snapshot, flow: str, trigger: Trigger, before: str, at: int, created_ms: int
) -> list[Op]:
    """Return the writes of messages about a run's status, after a step that has just been applied."""
    topics = [_STARTED] if isinstance(trigger, RunStarted | RunForked) else []
    # A fork copies its source's status, which was announced only for the source.
    if (run.status != before or isinstance(trigger, RunForked)) and run.status in _TOPICS:
        topics.append(_TOPICS[run.status])
    ops: list[Op] = []
    for index, topic in enumerate(topics, _STATUS):
        status = "running" if topic == _STARTED else run.status
        value = _CODEC.encode({"run_id": run.run_id, "flow": flow, "status": status})
        name = _id(run, created_ms, f"step {run.seq}", index)
        ops.append(_put(keys, run.seq, index, Message(name, topic, flow, run.run_id, "", at, value)))
    return ops


def read_message(key: bytes, blob: bytes) -> Message:
    """Return a message of the outbox. Its value may still be a reference. Raises `DamagedRecord`."""
    return Message(*decode_record(key, blob))


def _id(run: Snapshot, created_ms: int, what: str, index: int) -> str:
    """Return the id of a message, the same in every process. A later run or fork with the same run id has other ids."""
    # The creation time, not the start time: forks of one run share the start time of their source.
    named = f"{len(run.run_id)}:{run.run_id}:{created_ms}:{what}:{index}"
    return blake2b(named.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _put(keys: Keys, seq: int, index: int, message: Message) -> Put:
    key = keys.message(seq, index)
    return Put(key, encode_record(key, tuple(message)))
