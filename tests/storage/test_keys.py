"""Keys and the kinds of records: one table of letters, which all other tables cover."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import beluga_graph
from beluga_graph.codec.errors import DamagedRecord
from beluga_graph.storage import keys, records, verify
from beluga_graph.storage.keys import KINDS, Keys, Prefix, due_of, hash16, marked_digest, number_of, run_key_of
from beluga_graph.storage.records import PRESENT_KINDS, RunRecord, decode_record, encode_record

PREFIXES = {name: value for name, value in vars(Prefix).items() if name.isupper()}
KEYS = Keys("r")
PACKAGE = Path(beluga_graph.__file__).parent


def test_each_kind_has_a_letter_of_its_own_and_a_row_in_the_table() -> None:
    assert len(KINDS) == len(PREFIXES)
    rows = re.findall(r"^\| `(\w) .*?\| `(\w+)`", keys.__doc__ or "", re.MULTILINE)
    assert {(name, letter.encode()) for letter, name in rows} == set(PREFIXES.items())


def test_each_kind_has_a_form_or_none_to_have_and_a_name_in_reports() -> None:
    assert {prefix.decode() for prefix in (*records._FORMS, *PRESENT_KINDS, Prefix.WAKEUP)} == KINDS
    assert {prefix.decode() for prefix in verify._LABELS} == KINDS


def test_the_parts_of_a_key_are_read_back() -> None:
    run = hash16("r")
    for key in (KEYS.head, KEYS.step(7), KEYS.timer(5, "t"), KEYS.question("a#1"), KEYS.message(2, 1)):
        assert run_key_of(key) == run
    assert [number_of(key) for key in (KEYS.step(7), KEYS.snapshot(8), KEYS.signal("s", 9))] == [7, 8, 9]
    assert due_of(KEYS.timer(5, "t")) == 5
    assert [marked_digest(key) for key in KEYS.marks(bytes(32))[1:]] == [bytes(32)]


def test_keys_of_a_kind_sort_by_time() -> None:
    seqs = [1, 255, 256, 65_536, 2**40]
    for key in (
        KEYS.step,
        KEYS.snapshot,
        lambda number: KEYS.timer(number, "t"),
        lambda number: KEYS.message(number, 0),
    ):
        assert sorted(map(key, reversed(seqs))) == [*map(key, seqs)]


def test_a_record_is_valid_under_its_key_and_for_its_run_only() -> None:
    record = encode_record(KEYS.parked, 5)
    assert decode_record(KEYS.parked, record) == 5
    with pytest.raises(DamagedRecord):
        decode_record(Keys("other").parked, record)
    stolen = RunRecord(run_id="other", flow="f", plan="p", status="completed", created_ms=1, updated_ms=2)
    with pytest.raises(DamagedRecord, match="is that of another run, 'other'"):
        RunRecord.decode(KEYS.head, stolen.encode(KEYS.head))
    own = RunRecord(run_id="r", flow="f", plan="p", status="completed", created_ms=1, updated_ms=2)
    assert RunRecord.decode(KEYS.head, own.encode(KEYS.head)) == own


def test_no_other_module_spells_a_letter_of_a_key() -> None:
    spelled = [
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if path.name != Path(keys.__file__).name and re.search(r'\bb"[A-Za-z]"', path.read_text())
    ]
    assert spelled == []
    assert records.PRESENT == b"\x01"
