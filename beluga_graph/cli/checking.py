"""Checking: every record of a store is read, and every run rebuilt from its steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from beluga_graph import BelugaError
from beluga_graph.cli.looking import existing
from beluga_graph.codec import DamagedRecord
from beluga_graph.disk import KINDS, Head, Keys, read
from beluga_graph.history import read_steps, rebuild
from stores import LMDBStore
from stores.base import Store

__all__ = ["Checked", "Damage", "check", "check_path"]

_NAMES = {
    "H": "heads",
    "L": "leases",
    "O": "owners",
    "N": "snapshots",
    "S": "steps",
    "C": "items",
    "V": "large values",
    "P": "shapes",
    "I": "signals",
    "Y": "messages",
    "Z": "sessions",
    "B": "questions",
    "G": "parked runs",
    "D": "doorbells",
    "Q": "messages to publish",
    "E": "tombstones",
    "J": "doomed values",
    "e": "bus events",
    "d": "bus event ids",
    "c": "bus cursors",
    "x": "dead letters",
    "o": "observed edges",
}
_MARKS = "WXATKt"  # index entries: the key says all, the value is one byte
_MARK = b"\x01"
_RING_BYTES = 8
_RUN_IN_INDEX = {"A": slice(1, 17), "G": slice(1, 17), "B": slice(1, 17), "T": slice(9, 25)}


@dataclass(frozen=True, slots=True)
class Damage:
    """One record that is not what was written, or a run that cannot be rebuilt."""

    where: str
    """The key in hexadecimal, or the run's id."""
    detail: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check has read and found."""

    records: dict[str, int]
    """How many, by kind."""
    runs: int
    damage: tuple[Damage, ...]


def check_path(path: Path) -> Checked:
    """Check the store at a path. Raises `Unfit` if there is none, `StoreDamaged` if its file cannot be walked."""
    store = LMDBStore(existing(path))
    try:
        return check(store)
    finally:
        store.close()


def check(store: Store) -> Checked:
    """Read every record, and rebuild every run. A run that goes on meanwhile is checked as of some moment."""
    counts: Counter[str] = Counter()
    damage: list[Damage] = []
    heads: list[Head] = []
    for key, blob in store.scan(b""):
        letter = chr(key[0])
        counts[_NAMES.get(letter, "index entries" if letter in _MARKS else "unknown")] += 1
        try:
            heads.extend(_read(store, letter, key, blob))
        except BelugaError as error:
            damage.append(Damage(key.hex(), str(error)))
    for head in heads:
        try:
            rebuild(store, head.run_id)
            for _ in read_steps(store, head.run_id):  # those before the last full snapshot, too
                pass
        except BelugaError as error:
            if store.get(Keys(head.run_id).head) is not None:  # else it was pruned meanwhile
                damage.append(Damage(head.run_id, str(error)))
    return Checked(dict(sorted(counts.items())), len(heads), tuple(damage))


def _read(store: Store, letter: str, key: bytes, blob: bytes) -> Iterator[Head]:
    """Read one record; yield it if it is a head. Raises `DamagedRecord` for one that is not what it should be."""
    if letter in _RUN_IN_INDEX:
        _check_index(store, key, b"H" + key[_RUN_IN_INDEX[letter]])
    if letter in _MARKS:
        if blob != _MARK:
            raise DamagedRecord("the index entry", "is not the one byte that it should be")
        if letter == "W" and store.get(b"V" + key[1:33]) is None and store.get(key) is not None:
            raise DamagedRecord("the large value", f"{key[1:33].hex()} is missing")
        return
    if letter == "D":
        if len(blob) != _RING_BYTES:
            raise DamagedRecord("the doorbell", f"has {len(blob)} bytes, not {_RING_BYTES}")
        return
    if letter not in KINDS:
        raise DamagedRecord("the record", "is of no kind that is known")
    content = read(key, blob)
    if letter == "V" and sha256(content).digest() != key[1:]:
        raise DamagedRecord("the large value", "is not what its key says")
    if letter == "H":
        yield Head.read(key, blob)


def _check_index(store: Store, key: bytes, head: bytes) -> None:
    """Refuse an index entry of a run that is not there. A run and its entries come and go in one commit each."""
    if store.get(head) is None and store.get(key) is not None and store.get(head) is None:
        raise DamagedRecord("the index entry", f"points to a run that is not there: {head[1:].hex()}")
