"""Decoding any bytes returns a value or raises one of the codec's own errors, and runs no code."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgpack
import pytest
from codec_samples import CODEC, Color, Doc, Point, values
from hypothesis import example, given, settings
from hypothesis import strategies as st

from beluga_graph.codec import Codec, DamagedValue, NotData, Registry, SnapshotError, TooDeep, Unregistered

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "beluga_graph" / "codec"


def harmless(blob: bytes, *, lenient: bool = False) -> None:
    with suppress(SnapshotError):
        CODEC.decode(blob, lenient=lenient)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=80), st.booleans())
@example(b"\xdd\xff\xff\xff\xff", False)
@example(b"\xdf\xff\xff\xff\xff", False)
@example(b"\xc6\xff\xff\xff\xff", True)
@example(b"\xc9\xff\xff\xff\xff\x01", True)
@example(b"\xd7\xff" + b"\xff" * 8, False)
@example(b"\x92\xd4\x01\x0b\xa1a", True)
def test_random_bytes_do_no_harm(blob: bytes, lenient: bool) -> None:
    harmless(blob, lenient=lenient)


@st.composite
def marked(draw: st.DrawFn) -> bytes:
    """Return a list of random data behind a valid mark: it gets further than random bytes."""
    anything = st.recursive(
        st.one_of(st.none(), st.integers(-(2**63), 2**63), st.text(max_size=5), st.binary(max_size=5), st.floats()),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    )
    mark = msgpack.ExtType(1, bytes([draw(st.integers(0, 15))]))
    names = st.sampled_from(CODEC.registry.names())
    return bytes(msgpack.packb([mark, *draw(st.lists(anything | names, max_size=4))], unicode_errors="surrogatepass"))


@settings(max_examples=500, deadline=None)
@given(marked(), st.booleans())
def test_wrong_parts_behind_a_mark_do_no_harm(blob: bytes, lenient: bool) -> None:
    harmless(blob, lenient=lenient)


@settings(max_examples=300, deadline=None)
@given(values, st.data())
def test_a_changed_byte_does_no_harm(value: Any, data: st.DataObject) -> None:
    blob = bytearray(CODEC.encode(value))
    for _ in range(data.draw(st.integers(1, 3))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    harmless(bytes(blob))
    harmless(bytes(blob[: data.draw(st.integers(0, len(blob)))]))


@pytest.mark.parametrize(
    ("blob", "detail"),
    [
        (b"", "ValueError: Unpack failed: incomplete input"),
        (b"\xc1", "FormatError"),
        (b"\x01\x02", "ExtraData: unpack(b) received extra data."),
        (b"\xd4\x01\x02", "a mark is not at the beginning of a list"),
        (b"\x92\x01\xd4\x01\x02", "a mark is not at the beginning of a list"),
        (b"\x81\xa1a\xd4\x01\x02", "a mark is not at the beginning of a list"),
        (b"\x91\xd4\x01\x63", "ValueError: unknown mark 99"),
        (b"\x91\xd4\x02\x02", "ValueError: unknown extension type 2 of 1 bytes"),
        (b"\x91\xc7\x02\x01\x02\x02", "ValueError: unknown extension type 1 of 2 bytes"),
        (b"\x81\x90\x01", "TypeError: unhashable type: 'list'"),
    ],
)
def test_the_message_names_the_problem(blob: bytes, detail: str) -> None:
    with pytest.raises(DamagedValue) as caught:
        CODEC.decode(blob)
    assert str(caught.value) == f"not an encoded value: {detail}: restore it from a backup; no part of it was used"


def test_many_nested_marks_and_extensions_end_in_an_error() -> None:
    with pytest.raises(TooDeep):
        CODEC.decode(b"\x92\xd4\x01\x02" * 5000 + b"\x01")
    bomb = b""
    for _ in range(200):
        bomb = bytes(msgpack.packb(msgpack.ExtType(1, bomb)))
    with pytest.raises(DamagedValue):
        CODEC.decode(bomb)


# Parts with one hash.

PRIME = sys.hash_info.modulus


def alike(count: int) -> dict[str, list[Any]]:
    """Return elements of one hash, for every class whose hashes are easy to choose."""
    numbers = [PRIME * (8 + index) for index in range(count)]
    return {
        "int": numbers,
        "Decimal": [Decimal(number) for number in numbers],
        "UUID": [UUID(int=number) for number in numbers],
        "tuple": [(number, "x") for number in numbers],
        "frozenset": [frozenset({number}) for number in numbers],
        "dataclass": [Point(number) for number in numbers],
    }


CROWD = 257  # one more than is accepted


@pytest.mark.parametrize("kind", alike(0))
@pytest.mark.parametrize("into", ["set", "frozenset", "keys", "deep"])
def test_many_parts_of_one_hash_are_refused_before_they_are_compared(kind: str, into: str) -> None:
    parts = alike(CROWD)[kind]
    assert len(set(map(hash, parts))) == 1
    wrapped: Callable[[Any], Any] = {
        "set": lambda parts: parts,
        "frozenset": lambda parts: parts,
        "keys": lambda parts: parts,
        "deep": lambda parts: {"a": [(1, parts)]},
    }[into]
    kept: Any = dict.fromkeys(parts, 1) if into == "keys" else frozenset(parts) if into == "frozenset" else set(parts)
    with pytest.raises(NotData, match="more than 256 of its parts have one hash"):
        CODEC.encode(wrapped(kept))
    blob = colliding_blob(parts, as_keys=into == "keys")
    for lenient in (False, True):
        with pytest.raises(DamagedValue, match="more than 256 of its parts have one hash"):
            CODEC.decode(blob, lenient=lenient)
    fewer: Any = dict.fromkeys(parts[1:], 1) if into == "keys" else set(parts[1:])
    assert CODEC.decode(CODEC.encode(wrapped(fewer))) == wrapped(fewer)


def colliding_blob(parts: list[Any], *, as_keys: bool) -> bytes:
    """Return the bytes of a set of the parts, or of a dict with them as keys, which the encoder would refuse."""
    pieces = [CODEC.encode(part) for part in parts]
    if as_keys:
        return b"\xde" + len(pieces).to_bytes(2, "big") + b"".join(piece + b"\x01" for piece in pieces)
    return b"\xdc" + (len(pieces) + 1).to_bytes(2, "big") + b"\xd4\x01\x03" + b"".join(pieces)


def test_similar_values_of_different_hashes_are_accepted() -> None:
    many = [float(1 << exponent) for exponent in range(1000)] + [*range(1000), *(str(n) for n in range(1000))]
    for value in (set(many), dict.fromkeys(many, (1,)), [dict.fromkeys(range(500), (1, 2))] * 3):
        assert CODEC.decode(CODEC.encode(value)) == value


def test_a_large_set_of_an_unknown_class_is_read_with_few_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0
    equals = Unregistered.__eq__

    def counting(one: Unregistered, other: object) -> bool:
        nonlocal compared
        compared += 1
        return bool(equals(one, other))

    monkeypatch.setattr(Unregistered, "__eq__", counting)
    blob = CODEC.encode({Point(index, ("x", Point(index % 3))) for index in range(2000)})
    found = Codec(Registry()).decode(blob, lenient=True)
    assert len(found) == 2000
    assert compared < 2000


def test_unregistered_values_that_are_equal_have_one_hash() -> None:
    pairs: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"x": 1, "y": [2]}, {"y": [2], "x": 1.0}),
        ({"x": Decimal(1)}, {"x": True}),
        ({"x": frozenset({1})}, {"x": {1}}),
        ({"x": (1, [2])}, {"x": (1.0, [2])}),
        ({"x": Unregistered("m:B", {"n": 1})}, {"x": Unregistered("m:B", {"n": 1.0})}),
    ]
    for one, other in pairs:
        assert Unregistered("m:A", one) == Unregistered("m:A", other)
        assert hash(Unregistered("m:A", one)) == hash(Unregistered("m:A", other))
    assert isinstance(hash(Unregistered("m:A", {"x": Decimal("sNaN")})), int)


def test_a_time_zone_cannot_be_a_path() -> None:
    blob = CODEC.encode(datetime(2024, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")))
    for name in (b"../../../tmp/a", b"/etc/localtime", b"Europe/.Berlin", b"Europe\\Berlin", b"os.path"):
        with pytest.raises(DamagedValue, match=r"is not the name of a time zone|time zone"):
            CODEC.decode(blob.replace(b"\xadEurope/Berlin", bytes([0xA0 | len(name)]) + name))


def test_a_class_named_in_the_bytes_is_never_imported() -> None:
    blob = CODEC.encode(Point(1)).replace(b"codec_samples:Point", b"antigravity:geohash")
    with pytest.raises(SnapshotError, match="the bytes hold a 'antigravity:geohash', which is not registered"):
        CODEC.decode(blob)
    CODEC.decode(blob, lenient=True)
    assert "antigravity" not in sys.modules


def test_the_source_has_no_way_to_run_stored_bytes() -> None:
    for path in PACKAGE.glob("*.py"):
        found = re.findall(r"\b(pickle|marshal|eval|exec|importlib|__import__|shelve|dill)\b", path.read_text())
        assert not found, f"{path} mentions {found}"


def run(program: str, seed: str = "0") -> str:
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'codec'}", "PYTHONHASHSEED": seed}
    return subprocess.run(
        [sys.executable, "-c", program], env=env, cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout


def test_importing_the_codec_does_not_import_pydantic() -> None:
    run("import beluga_graph.codec, sys; assert 'pydantic' not in sys.modules")
    run(
        "import sys, dataclasses; from beluga_graph.codec import Codec, Registry\n"
        "A = dataclasses.make_dataclass('A', ['x'])\n"
        "c = Codec(Registry.of(A)); assert c.decode(c.encode(A(1))) == A(1)\n"
        "assert 'pydantic' not in sys.modules"
    )


DETERMINED = """
from decimal import Decimal
from codec_samples import CODEC, Color, Doc, Point
value = {
    "words": {"alpha", "beta", "gamma", "delta", "\\ud800"},
    "mixed": {1, "1", (1, "a"), None, b"x", Decimal("1.5"), Color.RED, Point("p", frozenset({"q", 2, "r"}))},
    "docs": [Doc(title="t", anything=frozenset({frozenset({"a", 1, "b"}), "c"}))],
}
print(CODEC.encode(value).hex())
"""


def test_the_bytes_do_not_depend_on_the_process() -> None:
    here = CODEC.encode(
        {
            "words": {"alpha", "beta", "gamma", "delta", "\ud800"},
            "mixed": {
                1,
                "1",
                (1, "a"),
                None,
                b"x",
                Decimal("1.5"),
                Color.RED,
                Point("p", frozenset({"q", 2, "r"})),
            },
            "docs": [Doc(title="t", anything=frozenset({frozenset({"a", 1, "b"}), "c"}))],
        }
    )
    assert {run(DETERMINED, seed).strip() for seed in ("0", "1", "4242")} == {here.hex()}


def test_the_codec_without_classes_reads_plain_values() -> None:
    assert Codec(Registry()).decode(Codec().encode({"a": (1, {2})})) == {"a": (1, {2})}
