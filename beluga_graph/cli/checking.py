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
from beluga_graph.disk import KINDS, Head, read
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
    "B": "questions",
    "Q": "messages to publish",
    "e": "bus events",
    "d": "bus event ids",
    "c": "bus cursors",
    "x": "dead letters",
    "o": "observed edges",
}
_MARKS = "WXATKt"  # index entries: the key says all, the value is one byte
_MARK = b"\x01"


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
            damage.append(Damage(head.run_id, str(error)))
    return Checked(dict(sorted(counts.items())), len(heads), tuple(damage))


def _read(store: Store, letter: str, key: bytes, blob: bytes) -> Iterator[Head]:
    """Read one record; yield it if it is a head. Raises `DamagedRecord` for one that is not what it should be."""
    if letter in _MARKS:
        if blob != _MARK:
            raise DamagedRecord("the index entry", "is not the one byte that it should be")
        if letter == "W" and store.get(b"V" + key[1:33]) is None:
            raise DamagedRecord("the large value", f"{key[1:33].hex()} is missing")
        return
    if letter not in KINDS:
        raise DamagedRecord("the record", "is of no kind that is known")
    content = read(key, blob)
    if letter == "V" and sha256(content).digest() != key[1:]:
        raise DamagedRecord("the large value", "is not what its key says")
    if letter == "H":
        yield Head.read(key, blob)
