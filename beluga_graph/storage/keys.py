"""The keys of a store: one letter for the kind of record, then parts of fixed width.

Numbers are big-endian, so key order is time order. A `run`, a `session`, a `schedule`, a `signal` or a `token` in the
table is the 16-byte hash of its name: keys stay short, and no run id can reach into another run's records. An `owner`
is the random 16-byte id of an engine, except that the owner of a large value is a `run` or a `session`. A `digest` is
the SHA-256 of an encoded value. `seq`, `index`, `position` and `due` take 8 bytes; the `index` of a message in the
outbox and a `generation` take 4.

| key                          | constant        | record                                                      |
|------------------------------|-----------------|-------------------------------------------------------------|
| `H run`                      | `RUN`           | run record: id, flow, fingerprint, status, times, place          |
| `L run`                      | `LEASE`         | lease: owner, epoch                                         |
| `O owner`                    | `OWNER`         | owner: machine, lock file, expiry                           |
| `N run seq`                  | `SNAPSHOT`      | full snapshot after step `seq`                              |
| `S run seq`                  | `STEP`          | step: trigger, values, operations, events                   |
| `C run channel index`        | `ITEM`          | one item of an append field                                 |
| `V digest`                   | `VALUE`         | one large value                                             |
| `W digest owner`             | `MARK_BY_VALUE` | mark: the owner refers to the large value                   |
| `X run digest`               | `MARK_BY_RUN`   | the same mark of a run, found by the run                    |
| `P fingerprint`              | `SHAPE`         | shape of a plan; the fingerprint is text                    |
| `I run signal position`      | `SIGNAL`        | one received signal                                         |
| `Z session`                  | `SESSION`       | session: length, active agent, the run that uses it         |
| `Y session generation index` | `SESSION_ITEM`  | one message of a session                                    |
| `A run`                      | `OPEN`          | index: the run is open, and driven or left by its owner     |
| `G run`                      | `PARKED`        | index: the run is parked; when it is due                    |
| `T due run timer`            | `TIMER`         | index: a timer of an open run                               |
| `D run`                      | `WAKEUP`        | wakeup: the run was asked to end since it was last read     |
| `D run signal`               | `WAKEUP`        | wakeup: this signal was sent since it was last looked for   |
| `K run`                      | `CANCEL`        | index: a caller has asked to cancel the run                 |
| `B run token`                | `QUESTION`      | index: a question to a person: token, node, time, value     |
| `Q run seq index`            | `OUTBOX`        | a message that a committed step publishes                   |
| `E run`                      | `TOMBSTONE`     | the run is being deleted                                    |
| `J digest`                   | `GC_CANDIDATE`  | the large value may be about to be deleted                  |
| `U schedule`                 | `SCHEDULE`      | schedule: name, flow, rule, input, options                  |
| `F schedule`                 | `SCHEDULE_STATE` | next due time, last run and counts of a schedule           |
| `M due schedule`             | `SCHEDULE_DUE`  | index: when a schedule that is not paused is to be looked at |
| `R schedule due`             | `SCHEDULE_QUEUED` | index: a due time whose run waits for the previous one    |

A durable event bus keeps its records under small letters, in the same store or in one of its own:

| key                          | constant        | record                                                      |
|------------------------------|-----------------|-------------------------------------------------------------|
| `e position`                 | `EVENT`         | event: topic, id, publisher, correlation, causation, time, value |
| `d id`                       | `EVENT_ID`      | position of the event with this id, which is published once |
| `t correlation position`     | `CORRELATION`   | index: an event that belongs to a correlation id            |
| `c subscription`             | `CURSOR`        | cursor: name, position up to which events were handled      |
| `x subscription position`    | `DEAD_LETTER`   | dead letter: an event that its handler refused each time    |
| `o edge`                     | `EDGE`          | observed edge: publisher, topic, subscription               |

A store may hold large values of runs on a Temporal server. Marks and pruning do not apply to them:

| key                          | constant        | record                                                      |
|------------------------------|-----------------|-------------------------------------------------------------|
| `v digest`                   | `CLAIM`         | one large value                                             |
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

__all__ = [
    "KINDS",
    "Keys",
    "Prefix",
    "correlation_prefix",
    "cursor_key",
    "dead_letters_prefix",
    "due_of",
    "event_id_key",
    "event_key",
    "hash16",
    "marked_digest",
    "number_of",
    "run_key_of",
    "shape_key",
]


class Prefix:
    """The first byte of each kind of key."""

    RUN: Final = b"H"
    LEASE: Final = b"L"
    OWNER: Final = b"O"
    SNAPSHOT: Final = b"N"
    STEP: Final = b"S"
    ITEM: Final = b"C"
    VALUE: Final = b"V"
    MARK_BY_VALUE: Final = b"W"
    MARK_BY_RUN: Final = b"X"
    SHAPE: Final = b"P"
    SIGNAL: Final = b"I"
    SESSION: Final = b"Z"
    SESSION_ITEM: Final = b"Y"
    OPEN: Final = b"A"
    PARKED: Final = b"G"
    TIMER: Final = b"T"
    WAKEUP: Final = b"D"
    CANCEL: Final = b"K"
    QUESTION: Final = b"B"
    OUTBOX: Final = b"Q"
    TOMBSTONE: Final = b"E"
    GC_CANDIDATE: Final = b"J"
    SCHEDULE: Final = b"U"
    SCHEDULE_STATE: Final = b"F"
    SCHEDULE_DUE: Final = b"M"
    SCHEDULE_QUEUED: Final = b"R"
    EVENT: Final = b"e"
    EVENT_ID: Final = b"d"
    CORRELATION: Final = b"t"
    CURSOR: Final = b"c"
    DEAD_LETTER: Final = b"x"
    EDGE: Final = b"o"
    CLAIM: Final = b"v"


KINDS: Final = frozenset(prefix.decode() for name, prefix in vars(Prefix).items() if name.isupper())
"""The letters of all kinds of record."""


class Keys:
    """The keys of one run. `run_key` is the 16-byte hash of its id, which is in each of them."""

    __slots__ = ("cancel", "head", "lease", "open", "parked", "run_key", "wakeup")

    def __init__(self, run_id: str) -> None:
        self.run_key = hash16(run_id)
        self.head = Prefix.RUN + self.run_key
        self.lease = Prefix.LEASE + self.run_key
        self.open = Prefix.OPEN + self.run_key
        self.parked = Prefix.PARKED + self.run_key
        self.wakeup = Prefix.WAKEUP + self.run_key
        self.cancel = Prefix.CANCEL + self.run_key

    @property
    def first_snapshot(self) -> bytes:
        """Key of the snapshot that a run began with: written once, and deleted first when the run is deleted.

        The first snapshot of a run that was recorded from a later step has another key; see `read_first_seq`.
        """
        return self.snapshot(0)

    @property
    def tombstone(self) -> bytes:
        """Key of the record that says that the run is being deleted."""
        return Prefix.TOMBSTONE + self.run_key

    @property
    def steps(self) -> bytes:
        """Prefix of all steps."""
        return Prefix.STEP + self.run_key

    @property
    def snapshots(self) -> bytes:
        """Prefix of all full snapshots."""
        return Prefix.SNAPSHOT + self.run_key

    @property
    def signals(self) -> bytes:
        """Prefix of all received signals."""
        return Prefix.SIGNAL + self.run_key

    @property
    def questions(self) -> bytes:
        """Prefix of all questions."""
        return Prefix.QUESTION + self.run_key

    @property
    def messages(self) -> bytes:
        """Prefix of all messages in the outbox."""
        return Prefix.OUTBOX + self.run_key

    @property
    def value_marks(self) -> bytes:
        """Prefix of all marks on large values; `marked_digest` returns the digest of each."""
        return Prefix.MARK_BY_RUN + self.run_key

    def step(self, seq: int) -> bytes:
        """Return the key of a step."""
        return Prefix.STEP + self.run_key + seq.to_bytes(8, "big")

    def snapshot(self, seq: int) -> bytes:
        """Return the key of a full snapshot."""
        return Prefix.SNAPSHOT + self.run_key + seq.to_bytes(8, "big")

    def channel(self, place: str, field: str) -> bytes:
        """Return the prefix of all items of an append field's layer."""
        return Prefix.ITEM + self.run_key + hash16(f"{place}\n{field}")

    def timer(self, due: int, timer: str) -> bytes:
        """Return the key of a timer's index entry."""
        return Prefix.TIMER + due.to_bytes(8, "big") + self.run_key + hash16(timer)

    def signal(self, name: str, position: int) -> bytes:
        """Return the key of a received signal."""
        return Prefix.SIGNAL + self.run_key + hash16(name) + position.to_bytes(8, "big")

    def signal_wakeup(self, name: str) -> bytes:
        """Return the key of the wakeup that a signal of this name writes."""
        return self.wakeup + hash16(name)

    def question(self, token: str) -> bytes:
        """Return the key of a question that a token asks."""
        return Prefix.QUESTION + self.run_key + hash16(token)

    def message(self, seq: int, index: int) -> bytes:
        """Return the key of a message in the outbox. Keys of one run sort in the order of publication."""
        return Prefix.OUTBOX + self.run_key + seq.to_bytes(8, "big") + index.to_bytes(4, "big")

    def marks(self, digest: bytes) -> tuple[bytes, bytes]:
        """Return the two keys of this run's mark on a large value: by value, and by run."""
        return Prefix.MARK_BY_VALUE + digest + self.run_key, Prefix.MARK_BY_RUN + self.run_key + digest


# Keys that belong to no run.


def shape_key(fingerprint: str) -> bytes:
    """Return the key of a plan's shape."""
    return Prefix.SHAPE + fingerprint.encode()


def event_key(position: int) -> bytes:
    """Return the key of an event of the bus."""
    return Prefix.EVENT + position.to_bytes(8, "big")


def event_id_key(event_id: str) -> bytes:
    """Return the key of the position of the event with this id."""
    return Prefix.EVENT_ID + hash16(event_id)


def correlation_prefix(correlation_id: str) -> bytes:
    """Return the prefix of the index entries of a correlation id; the position of an event follows."""
    return Prefix.CORRELATION + hash16(correlation_id)


def cursor_key(subscription: str) -> bytes:
    """Return the key of a named subscription's cursor."""
    return Prefix.CURSOR + hash16(subscription)


def dead_letters_prefix(subscription: str) -> bytes:
    """Return the prefix of the dead letters of a named subscription; the position of an event follows."""
    return Prefix.DEAD_LETTER + hash16(subscription)


# Parts of keys.


def run_key_of(key: bytes) -> bytes:
    """Return the `run_key` of the run that a record belongs to. Not for marks by value and records of no run."""
    return key[9:25] if key[:1] == Prefix.TIMER else key[1:17]


def number_of(key: bytes) -> int:
    """Return the number that a key ends with: the `seq`, `index` or `position` in its last 8 bytes."""
    return int.from_bytes(key[-8:], "big")


def due_of(key: bytes) -> int:
    """Return the time in milliseconds at which a timer or a schedule is due."""
    return int.from_bytes(key[1:9], "big")


def marked_digest(key: bytes) -> bytes:
    """Return the digest of the large value that a mark by run refers to."""
    return key[17:]


def hash16(text: str) -> bytes:
    """Return the 16-byte hash that represents a text in keys."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
