"""Stored data as text and as JSON: JSON loses nothing it can express, and nothing reaches the terminal unescaped."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from beluga_graph.cli.summaries import summarize, summarize_pair
from beluga_graph.cli.terminal_text import as_json, brief, one_line, to_printable
from beluga_graph.codec import Codec, Registry, Unregistered


class Color(Enum):
    red = "r"


@dataclass
class Spot:
    x: float
    color: Color


@given(st.text())
def test_plain_text_prints_and_printable_text_is_plain(text: str) -> None:
    assert to_printable(text).isprintable()
    if text.isprintable():
        assert to_printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\x1b[0m", r"a\x1b[0m"), ("\x9b", r"\x9b"), ("\u2028", r"\u2028"), ("\u202e", r"\u202e"), ("\ud800", r"\ud800")],
)
def test_characters_that_do_not_print_are_escaped(text: str, shown: str) -> None:
    assert to_printable(text) == shown


def test_several_lines_become_one() -> None:
    assert one_line("one\n  two\t\x07") == r"one two \x07"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": (1, 2.5, None, True)}, {"a": [1, 2.5, None, True]}),
        ({1: "x", (1, 2): "y"}, {"1": "x", "[1, 2]": "y"}),
        (float("inf"), "inf"),
        (b"\x00\xff", {"$type": "bytes", "hex": "00ff"}),
        ({3, 1, 2}, [1, 2, 3]),
        ({"b", 1, None}, ["b", 1, None]),
        (Spot(1.0, Color.red), {"x": 1.0, "color": "r"}),
        (Unregistered("m:C", {"n": 1}), {"$type": "m:C", "n": 1}),
        (Decimal("1.50"), "1.50"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02 00:00:00+00:00"),
        (10**400, 10**400),
    ],
)
def test_a_value_as_json(value: object, said: object) -> None:
    assert json.loads(as_json(value)) == said


def test_a_number_too_long_for_decimals_is_written_in_hexadecimal() -> None:
    assert json.loads(as_json([2**14_000, -(2**14_000), 2**13_999])) == [
        {"$type": "int", "hex": "1" + "0" * 3_500},
        {"$type": "int", "hex": "-1" + "0" * 3_500},
        2**13_999,
    ]
    assert summarize([2**14_000]) == "[a number of 14,001 bits]"


class Whale(BaseModel):
    """A class that is known here."""

    name: str
    sizes: list[int]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"),
        ("two\nlines", r"two\nlines"),
        (Whale(name="a", sizes=[1] * 30), 'Whale(name="a", sizes=[1, 1, 1, … 30 in all])'),
        (Unregistered("m:Outer.Inner", {"x": {"y": [[[1, 2]]]}}), 'Inner(x={"y": [[… 1 in all]]})'),
        ({1: b"abc", "k": set()}, '{1: 3 bytes, "k": []}'),
        ("\x1b[31m\u202e", r"\x1b[31m\u202e"),
        ("x" * 10**6, "x" * 79 + "…"),
        (["x" * 10**6] * 10**5, '["' + "x" * 77 + "…"),
    ],
)
def test_the_summary_of_a_value_is_its_outline(value: object, shown: str) -> None:
    assert summarize(value) == shown


def test_two_long_texts_are_shown_where_they_begin_to_differ() -> None:
    one, other = summarize_pair("a" * 500 + "b" * 100, "a" * 500 + "c" * 100)
    assert one == "…" + "a" * 20 + "b" * 38 + "…"
    assert other == "…" + "a" * 20 + "c" * 38 + "…"
    assert summarize_pair("short", "other") == ("short", "other")
    assert summarize_pair("a" * 100, "a" * 90) == ("…" + "a" * 30, "…" + "a" * 20)


def test_a_deep_value_is_cut_without_an_error() -> None:
    value: list[object] = []
    for _ in range(900):
        value = [value]
    assert "\\u2026" in as_json(value)


def test_an_instance_of_an_unknown_class_is_shown_by_its_name() -> None:
    stored = Codec(Registry.of(Spot)).encode(Spot(1.0, Color.red))
    found = json.loads(as_json(Codec().decode(stored, lenient=True)))
    assert found["$type"].endswith(":Spot")
    assert found["x"] == 1.0


def test_brief_cuts_long_values() -> None:
    assert brief("x" * 500, 10) == "x" * 9 + "…"
    assert brief({"a": "\x1b"}) == '{"a": "\\u001b"}'
    assert len(brief("\x1b" * 500, 10)) == 10
