"""Where everything lies in a store: keys of fixed width, and records with a version and a checksum.

A key begins with one letter for its kind; numbers are big-endian, so that key order is time order. Run ids
are hashed to 16 bytes: keys stay short, and no id can reach into another's records.

| key                       | record                                                         |
|---------------------------|----------------------------------------------------------------|
| `H run`                   | head: id, flow, fingerprint, status, times                     |
| `L run`                   | lease: owner, epoch                                            |
| `O owner`                 | owner: machine, lock file, expiry                              |
| `N run seq`               | full snapshot after step `seq`                                 |
| `S run seq`               | step: trigger, values, operations, events                      |
| `C run channel index`     | one item of an append field                                    |
| `V digest`                | one large value                                                |
| `W digest run`, `X run digest` | that the run refers to the value: its reference count     |
| `P fingerprint`           | shape of a plan                                                |
| `I run signal position`   | one received signal                                            |
| `Z session`               | session: length, active agent, the run that has it              |
| `Y session generation index` | one message of a session                                     |
| `A run`                   | index: the run is open, and driven or left by its owner        |
| `G run`                   | index: the run is parked; when it is due                       |
| `T due run timer`         | index: a timer of an open run                                  |
| `D run`                   | doorbell: the run was asked to end since it was looked at      |
| `D run signal`            | doorbell: this signal was sent to the run since it was looked for |
| `K run`                   | that somebody wants the run cancelled                          |
| `B run token`             | index: a question that a person is asked: token, node, time, value |
| `Q run seq index`         | outbox: a message that a committed step publishes              |
| `E run`                   | tombstone: the run is being deleted                            |
| `J digest`                | that a large value may be about to be deleted                  |

A durable event bus keeps its records under small letters, also in a store of its own:

| key                       | record                                                         |
|---------------------------|----------------------------------------------------------------|
| `e position`              | event: topic, id, publisher, correlation, causation, time, value |
| `d id`                    | position of the event of this id, so that it is published once |
| `t correlation position`  | index: an event that belongs to a correlation id               |
| `c subscription`          | cursor: name, position up to which events were handled         |
| `x subscription position` | dead letter: an event that its handler refused each time       |
| `o edge`                  | observed: publisher, topic, subscription                       |
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from beluga_graph.codec import DamagedRecord, seal, unseal
from beluga_graph.errors import BadRunId
from beluga_graph.kernel.names import is_blank, is_name
from beluga_graph.storage.forms import fits

__all__ = [
    "KINDS",
    "Keys",
    "RunRecord",
    "check_run_id",
    "read",
    "sealed",
    "short",
]

KINDS = {letter: ord(letter) for letter in "HLONSCVWXPIATGDKBQEJYZ" + "edtcxo"}
_MARK = b"\x01"


class Keys:
    """The keys of one run."""

    __slots__ = ("bell", "cancel", "head", "lease", "open", "parked", "run")

    def __init__(self, run_id: str) -> None:
        self.run = short(run_id)
        self.head = b"H" + self.run
        self.lease = b"L" + self.run
        self.open = b"A" + self.run
        self.parked = b"G" + self.run
        self.bell = b"D" + self.run
        self.cancel = b"K" + self.run

    @property
    def birth(self) -> bytes:
        """Key of the snapshot that the run began with: never written again, and gone as soon as the run is deleted."""
        return self.snapshot(0)

    @property
    def tombstone(self) -> bytes:
        """Key of what says that the run is being deleted."""
        return b"E" + self.run

    def step(self, seq: int) -> bytes:
        """Key of a step."""
        return b"S" + self.run + seq.to_bytes(8, "big")

    def snapshot(self, seq: int) -> bytes:
        """Key of a full snapshot."""
        return b"N" + self.run + seq.to_bytes(8, "big")

    def channel(self, place: str, field: str) -> bytes:
        """What the keys of an append field's layer begin with."""
        return b"C" + self.run + short(f"{place}\n{field}")

    def timer(self, due: int, timer: str) -> bytes:
        """Key of a timer's index entry."""
        return b"T" + due.to_bytes(8, "big") + self.run + short(timer)

    def signal(self, name: str, position: int) -> bytes:
        """Key of a received signal."""
        return b"I" + self.run + short(name) + position.to_bytes(8, "big")

    def ring(self, name: str) -> bytes:
        """Key of the doorbell that a signal of this name rings."""
        return self.bell + short(name)

    def question(self, token: str) -> bytes:
        """Key of a question that a token asks."""
        return b"B" + self.run + short(token)

    def message(self, seq: int, index: int) -> bytes:
        """Key of a message in the outbox; a run's messages lie in the order in which they are published."""
        return b"Q" + self.run + seq.to_bytes(8, "big") + index.to_bytes(4, "big")

    def blob_marks(self, digest: bytes) -> tuple[bytes, bytes]:
        """Keys that say this run refers to a large value: by value, and by run."""
        return b"W" + digest + self.run, b"X" + self.run + digest


def short(text: str) -> bytes:
    """Return the 16 bytes that stand for a text in keys."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def check_run_id(run_id: str) -> str:
    """Return the id if it can be one: 1 to 200 characters, printable, no path in it. Raises `BadRunId`."""
    if not is_name(run_id) or "/" in run_id or "\\" in run_id or is_blank(run_id.strip(". ")):
        rule = "a run id is 1 to 200 printable characters without / \\, not all of them blank, and not . or .."
        raise BadRunId("", f"{run_id!r:.80} is no run id: {rule}")
    return run_id


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What is known of a run without reading it. Written when something in it changes, not at every step."""

    run_id: str
    flow: str
    plan: str  # fingerprint
    status: str
    created_ms: int
    updated_ms: int

    def sealed(self, key: bytes) -> bytes:
        """Return the head as a record."""
        fields = (self.run_id, self.flow, self.plan, self.status, self.created_ms, self.updated_ms)
        return seal(KINDS["H"], fields, key)

    @classmethod
    def read(cls, key: bytes, blob: bytes) -> RunRecord:
        """Read a head. Raises `DamagedRecord`."""
        run_id, flow, plan, status, created, updated = read(key, blob)
        if short(run_id) != key[1:]:
            raise DamagedRecord(f"the head at key {key!r}", f"is that of another run, {run_id!r:.80}")
        return cls(run_id=run_id, flow=flow, plan=plan, status=status, created_ms=created, updated_ms=updated)


def sealed(key: bytes, payload: Any) -> bytes:
    """Return a payload as the record that lies under `key`; it is valid nowhere else."""
    return seal(key[0], payload, key)


def read(key: bytes, blob: bytes) -> Any:
    """Return the payload of the record under `key`, of the form that its kind has. Raises `DamagedRecord`."""
    payload = unseal(key[0], blob, key)
    if not fits(chr(key[0]), payload):
        what = f"the record of kind {key[0]} at key {key!r}"
        raise DamagedRecord(what, f"has a good checksum but not the form of its kind: {payload!r:.80}")
    return payload
