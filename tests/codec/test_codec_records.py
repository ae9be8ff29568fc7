"""A record is restored unchanged or reported as damaged."""

import zlib
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from beluga_graph.codec import DamagedRecord, NotData, TooDeep, seal, unseal

payloads = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**90), 2**90)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec=None), max_size=10)
    | st.binary(max_size=10),
    lambda inner: st.lists(inner, max_size=4).map(tuple) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=15,
)
kinds = st.integers(0, 255)
contexts = st.binary(max_size=12)


@settings(max_examples=200, deadline=None)
@given(kinds, payloads, contexts)
def test_a_record_comes_back(kind: int, payload: Any, context: bytes) -> None:
    assert unseal(kind, seal(kind, payload, context), context) == payload


def test_lists_come_back_as_tuples() -> None:
    assert unseal(1, seal(1, [1, [2, (3,)]])) == (1, (2, (3,)))


@settings(max_examples=200, deadline=None)
@given(kinds, payloads, contexts, st.data())
def test_any_changed_byte_is_found(kind: int, payload: Any, context: bytes, data: st.DataObject) -> None:
    blob = bytearray(seal(kind, payload, context))
    place = data.draw(st.integers(0, len(blob) - 1))
    blob[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(DamagedRecord):
        unseal(kind, bytes(blob), context)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=40))
@example(b"\x01")
def test_random_bytes_are_damaged(blob: bytes) -> None:
    with pytest.raises(DamagedRecord):
        unseal(1, blob)


@settings(max_examples=150, deadline=None)
@given(payloads, st.data())
def test_a_record_that_was_cut_or_lengthened_is_damaged(payload: Any, data: st.DataObject) -> None:
    blob = seal(7, payload)
    with pytest.raises(DamagedRecord):
        unseal(7, blob[: data.draw(st.integers(0, len(blob) - 1))])
    with pytest.raises(DamagedRecord):
        unseal(7, blob + b"\x00")


def test_a_record_under_another_key_is_damaged() -> None:
    with pytest.raises(DamagedRecord) as caught:
        unseal(3, seal(3, "x", b"run-1/00"), b"run-2/00")
    assert str(caught.value) == (
        "the record of kind 3 at key b'run-2/00' fails its checksum: "
        "it was changed, cut off, or sealed for another key; no part of it was used"
    )


def framed(kind: int, content: bytes, version: int = 1) -> bytes:
    head = bytes([version, kind])
    return head + zlib.crc32(content, zlib.crc32(head)).to_bytes(4, "big") + content


@pytest.mark.parametrize(
    ("blob", "detail"),
    [
        (b"\x01\x05", "is only 2 bytes long: it was cut off"),
        (
            framed(5, b"\xc0", version=2),
            "was written by a newer release (format 2, this one reads 1): upgrade",
        ),
        (framed(5, b"\xc0", version=0), "has format 0, which no release has written"),
        (framed(6, b"\xc0"), "is of kind 6"),
        (framed(5, b"\xc0\xc0"), "has a good checksum but no readable content "),
        (framed(5, b"\xd4\x07\x00"), "has a good checksum but no readable content "),
        (framed(5, b"\x91" * 5000 + b"\x90"), "has a good checksum but no readable content "),
    ],
)
def test_the_message_names_the_problem(blob: bytes, detail: str) -> None:
    with pytest.raises(DamagedRecord) as caught:
        unseal(5, blob)
    assert str(caught.value).startswith(f"the record of kind 5 {detail}")
    assert caught.value.what == "the record of kind 5"


def test_the_frame_has_the_documented_layout() -> None:
    assert seal(5, None) == framed(5, b"\xc0")


def test_only_plain_data_is_sealed() -> None:
    with pytest.raises(NotData) as caught:
        seal(1, (1, {2}))
    assert str(caught.value) == "the value is not data: set {2}: records hold plain data only: encode it first"
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(TooDeep):
        seal(1, circle)
    assert unseal(1, seal(1, (1, 2))) == (1, 2)
