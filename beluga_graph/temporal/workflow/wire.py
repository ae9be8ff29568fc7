"""The wire: what crosses between clients, the workflow and its activities, as plain data in msgpack.

Every payload is one `bytes` argument, so a user's data converter may encrypt or compress it, and a worker in any
language that has msgpack can serve a node. Maps have text keys. Triggers are maps of their fields by name. A value is
`bytes`: an encoded value, which is plain msgpack for plain data, or a reference to a large one. A failure travels as a
value, too: a list of node, type, message, attempts and input.

Input of a run:

| field      | type                | content                                                           |
|------------|---------------------|-------------------------------------------------------------------|
| `format`   | int                 | `FORMAT`; a release that changes the meaning of a field raises it |
| `shape`    | map                 | `Shape.to_plain`                                                  |
| `run`      | map                 | `Snapshot.to_plain`                                               |
| `triggers` | list of [text, map] | triggers to decide at the beginning: class and fields             |
| `items`    | list                | items of append fields: [place, field, list of [length, data]]    |
| `inbox`    | map of lists        | by signal: payloads (bytes) that the run has not read             |
| `session`  | list                | pieces of the conversation that the run continues: [length, data] |
| `options`  | map                 | `RunOptions.to_plain`                                             |
| `previous` | text                | the execution that this one continues, or empty                   |
| `begin_by` | int                 | a later start of the workflow finds its session lost; 0: no limit |
| `unsent`   | map or nil          | `messages` for the outbox; `batch`: execution, number, length     |

A changed graph: `seq` (int) of the run, `shape` (map), `queue` (text), `triggers` (list of [text, map]).

Input of an activity:

| field               | type         | content                                                                       |
|---------------------|--------------|-------------------------------------------------------------------------------|
| `format`            | int          | `FORMAT`                                                                      |
| `flow`, `plan`      | text         | the name of the flow, the fingerprint of its graph                            |
| `ahead_ms`          | int          | how long the activity may go on before it reports; 0: one attempt             |
| `is_whole`          | bool         | whether the only call has the whole run: the activity may go on to next nodes |
| `max_interruptions` | int          | after more losses of its worker, the attempt fails                            |
| `timeout_ms`        | int or nil   | the time limit of each attempt, which the worker keeps; not one of a function |
| `live`              | list         | `LiveOptions`: where text goes while a node runs; a worker may leave it out   |
| `calls`             | list of maps | see below; of one node. A node with a queue of its own gets one call          |

A call: `run` (map: `Snapshot.to_plain` of the view of one attempt, or of the whole run), `token` (text: its name),
`items` and `session` (lists, as in the input of a run).

Result of an activity: `format` (int), `replies` (list of maps). A call without a reply was not attempted.

| field of a reply | type         | content                                                                           |
|------------------|--------------|-----------------------------------------------------------------------------------|
| `kind`           | text         | `finished` or `failed`                                                            |
| `fields`         | map          | of `NodeFinished` or `NodeFailed`; those with defaults are optional               |
|                  |              | `time` is [`after` or `at`, milliseconds]: at nodes whose shape has `decides_time` |
| `items`          | list of maps | new pieces: `place`, `field` (text), `length` (int), `data` (bytes), `drop` (int) |
| `messages`       | list         | events to publish: [topic, publisher, value]                                      |
| `ms`             | int          | how long the attempt took                                                         |

The `data` of a piece is a packed list of values, or a reference to it. `reply_checks.Request` checks all of this.

End of a run: `status` (text), `output` (value) or `error` (failure), `steps` (int), `usage` (map of ints), `reason`
(text).

Sessions and messages, which workers in other languages never see:

| payload              | fields                                                                         |
|----------------------|--------------------------------------------------------------------------------|
| input of a session   | `format`, `session`, `pieces`, `taken_ms`, `continue_events`                   |
| a request to take it | `run`; `instead_of`: another run that has it, and when that took it            |
| its answer           | `session`, `pieces`, `taken_ms`                                                |
| a session given back | `run`, `session`, `keep` (how many pieces stay), `pieces` (those after them)   |
| messages for it      | `format`, `outbox` (its id), `task_queue`, `input` and `batch`, packed         |
| input of an outbox   | `format`, `queue`, `run`, `created_ms`, `flow`, `messages`, `last_batches`     |
| a batch of messages  | `execution` of the run, `number` within it, `messages`                         |
| a message of a node  | its token, the time, and all that it publishes: topic, publisher, value        |
| one about the status | the step, the time, the topics, and the status                                 |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack

from beluga_graph.kernel.triggers import (
    CancelRequested,
    NodeFailed,
    NodeFinished,
    PlanAdopted,
    RunForked,
    RunResumed,
    RunStarted,
    Trigger,
)
from beluga_graph.temporal.workflow.pieces import NewPiece

if TYPE_CHECKING:
    from beluga_graph.kernel.snapshot import Snapshot

__all__ = [
    "ACTIVITY",
    "ADD_MESSAGES",
    "ADD_TO_OUTBOX",
    "ANSWER",
    "BATCH_BYTES",
    "CHANGE_GRAPH",
    "END_SESSION",
    "EVENTS",
    "FORMAT",
    "GIVE_CLAIMS",
    "GIVE_SESSION",
    "GRAPH_CHANGED",
    "MEMO_ADOPTED_DIGEST",
    "MEMO_CREATED_MS",
    "MEMO_FLOW",
    "MEMO_INPUT",
    "MEMO_PLAN",
    "MEMO_SESSION",
    "MEMO_STATUS",
    "NOT_PENDING",
    "OUTBOX_WORKFLOW",
    "PAYLOAD_BYTES",
    "PUBLISH",
    "RUN_FAILED",
    "SESSION_HELD",
    "SESSION_LOST",
    "SESSION_TOO_LARGE",
    "SESSION_WORKFLOW",
    "SIGNAL",
    "STATE",
    "TAKE_SESSION",
    "TOO_LARGE",
    "UNKNOWN_FORMAT",
    "WORKFLOW",
    "Reply",
    "check_format",
    "pack",
    "pack_call",
    "pack_calls",
    "plain_trigger",
    "trigger_from_plain",
    "unpack",
]

WORKFLOW = "beluga_graph.Run"
"""The type of the workflow that walks every run."""

ACTIVITY = "beluga_graph.attempt"
"""The type of the activity that makes every attempt."""

SESSION_WORKFLOW = "beluga_graph.Session"
"""The type of the workflow that keeps one session."""

END_SESSION = "beluga_graph.end_session"
"""The type of the activity that computes the session after a run."""

OUTBOX_WORKFLOW = "beluga_graph.Outbox"
"""The type of the workflow that keeps the messages of one run until a bus has them."""

ADD_MESSAGES = "add"
"""The signal that adds a batch of messages to an outbox."""

ADD_TO_OUTBOX = "beluga_graph.add_to_outbox"
"""The type of the activity with which a run adds messages to its outbox."""

PUBLISH = "beluga_graph.publish"
"""The type of the activity that passes messages to a bus."""

TAKE_SESSION = "take"
"""The update with which a run takes a session."""

GIVE_SESSION = "give"
"""The signal with which a run gives its session back."""

SESSION_HELD = "SessionHeld"
"""The type of the refusal if another run has the session. Details: the run, when it took it, how long ago that is."""

SESSION_TOO_LARGE = "SessionTooLarge"
"""The type of the refusal if a session does not fit into a payload."""

SESSION_LOST = "SessionLost"
"""The type of the failure of a run that began so late that its session may belong to another run."""

SIGNAL = "signal"
"""The one signal of the workflow: the name of a run's signal is its first argument."""

ANSWER = "answer"
"""The update of the workflow that accepts the answer to a question."""

CHANGE_GRAPH = "change_graph"
"""The update of the workflow that lets the run adopt a changed graph."""

STATE = "state"
"""The query for the snapshot of a run, and for the session that a workflow keeps."""

EVENTS = "events"
"""The query for the steps of a run."""

MEMO_FLOW, MEMO_PLAN, MEMO_INPUT = "flow", "plan", "input"
MEMO_STATUS, MEMO_CREATED_MS = "status", "created_ms"
MEMO_ADOPTED_DIGEST, MEMO_SESSION = "adopted_digest", "session"
"""The keys of the memo of a workflow, which the server shows with it; `input` is the digest of the input."""

FORMAT = 1

UNKNOWN_FORMAT, GRAPH_CHANGED, NOT_PENDING, TOO_LARGE = "UnknownFormat", "GraphChanged", "NotPending", "TooLarge"
"""The types of failures: an input of another release, a graph that a worker lacks, a question that is not pending, and
values beyond `PAYLOAD_BYTES`."""

RUN_FAILED = "RunFailed"
"""The type of the failure with which the workflow of a failed run closes. Its detail is the end of the run."""

PAYLOAD_BYTES = 1_900_000
"""The most bytes of one payload: the server refuses 2 MiB, and a data converter may add to them."""

BATCH_BYTES = 1_000_000
"""The bytes after which calls or messages go into the next payload."""

GIVE_CLAIMS = "give the engine claims=, a place for large values"
"""The way out for values that are too large, as errors name it."""

_TRIGGERS: Mapping[str, type[Any]] = {
    cls.__name__: cls
    for cls in (CancelRequested, NodeFailed, NodeFinished, PlanAdopted, RunForked, RunResumed, RunStarted)
}
_BIG_INT = 1  # the extension type of an int beyond 64 bits: two's complement, big-endian
_KINDS = {"finished": NodeFinished, "failed": NodeFailed}


def pack(plain: Any) -> bytes:
    """Return plain data as bytes. An int beyond 64 bits is an extension type, as in stored records."""
    packed: bytes = _packer().pack(plain)
    return packed


def unpack(packed: bytes) -> Any:
    """Return the plain data of `pack`, with tuples for lists. Raises `ValueError` for other bytes."""
    return msgpack.unpackb(
        packed, raw=False, use_list=False, strict_map_key=False, unicode_errors="surrogatepass", ext_hook=_read_big_int
    )


def pack_call(view: Snapshot, token: str, items: Any, session: Any) -> bytes:
    """Return the call of one attempt, with the part of the run that the attempt reads."""
    given = session if view.session is not None else ()
    return pack({"run": view.to_plain(), "token": token, "items": items, "session": given})


def check_format(given: Mapping[str, Any], what: str, way_out: str) -> None:
    """Raise `ValueError` if unpacked data has the format of another release. `what` names the data in the message."""
    if given["format"] != FORMAT:
        msg = f"{what} has format {given['format']!r}; this release reads {FORMAT}: {way_out}"
        raise ValueError(msg)


def pack_calls(fields: Mapping[str, Any], calls: Sequence[bytes]) -> bytes:
    """Return the input of an activity, whose calls are packed already: each is packed once, to know its size."""
    packer = _packer()
    parts = [packer.pack_map_header(len(fields) + 1)]
    for name, value in fields.items():
        parts += [packer.pack(name), packer.pack(value)]
    return b"".join([*parts, packer.pack("calls"), packer.pack_array_header(len(calls)), *calls])


def _packer() -> msgpack.Packer:
    return msgpack.Packer(use_bin_type=True, unicode_errors="surrogatepass", default=_write_big_int)


def _write_big_int(value: Any) -> msgpack.ExtType:
    if type(value) is not int:
        raise TypeError(f"{type(value).__name__} is not plain data")
    return msgpack.ExtType(_BIG_INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def _read_big_int(code: int, content: bytes) -> int:
    if code != _BIG_INT:
        raise ValueError(f"unknown extension type {code}")
    return int.from_bytes(content, "big", signed=True)


def plain_trigger(trigger: Trigger) -> tuple[str, dict[str, Any]]:
    """Return a trigger as the name of its class and its fields."""
    return type(trigger).__name__, _plain_fields(trigger)


def _plain_fields(trigger: Trigger) -> dict[str, Any]:
    """Return the fields of a trigger. Workers of earlier releases know no `time`, which few triggers have."""
    fields = trigger._asdict()
    if fields.get("time", ...) is None:
        del fields["time"]
    return fields


def trigger_from_plain(plain: tuple[str, Mapping[str, Any]], at: int) -> Trigger:
    """Rebuild a trigger, with another time. Raises `KeyError` or `TypeError` if `plain` is not one."""
    name, fields = plain
    trigger: Trigger = _TRIGGERS[name](**{**fields, "at": at})
    return trigger


class Reply(NamedTuple):
    """How one attempt ended, as an activity reports it."""

    trigger: NodeFinished | NodeFailed
    pieces: tuple[NewPiece, ...] = ()
    """New items of append fields."""
    messages: tuple[tuple[str, str, bytes], ...] = ()
    """Messages to publish: topic, publisher, value."""
    ms: int = 0
    """How long the attempt took."""

    def to_plain(self) -> dict[str, Any]:
        """Return the reply as plain data."""
        kind = "finished" if type(self.trigger) is NodeFinished else "failed"
        fields = _plain_fields(self.trigger)
        pieces = [piece._asdict() for piece in self.pieces]
        return {"kind": kind, "fields": fields, "items": pieces, "messages": self.messages, "ms": self.ms}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], at: int) -> Reply:
        """Rebuild a reply, which may come from a worker in another language, with the time `at`.

        Raises `KeyError` or `TypeError` if it is not one.
        """
        trigger = _KINDS[plain["kind"]](**{**plain["fields"], "at": at})
        pieces = tuple(NewPiece(**piece) for piece in plain.get("items", ()))
        messages = tuple(tuple(message) for message in plain.get("messages", ()))
        return cls(trigger, pieces, messages, plain.get("ms", 0))
