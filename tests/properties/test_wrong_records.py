"""A wrong record with a valid checksum is reported as damaged by every call that reads it; no other error is raised."""

import asyncio
from functools import cache
from typing import Any

import pytest
from effort import examples
from hypothesis import given, note
from hypothesis import strategies as st
from recorded_store import CALLS, opened, recorded

from beluga_graph import BelugaError
from beluga_graph.codec import DamagedRecord, unseal
from beluga_graph.kernel import snapshot
from beluga_graph.storage import step_forms
from beluga_graph.storage.keys import KINDS
from beluga_graph.storage.records import decode_record, encode_record, fits
from beluga_graph.storage.verify import verify_store

SEALED = "HLONSCVPIZYGBQEJUFedcxo"  # the other kinds hold a mark


@cache
def records() -> dict[bytes, bytes]:
    """Return valid records of all kinds."""
    return asyncio.run(recorded())


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(),
    st.floats(),
    st.text(max_size=4),
    st.binary(max_size=4),
    st.sampled_from(
        ["run", "wait", "completed", "token", "drop", "first", "", "asks", 1 << 63, -(1 << 70), b"\xc1" + bytes(600)]
    ),
)
PLAIN = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def changed(draw: st.DrawFn, payload: Any) -> Any:
    """Return a payload with one part replaced, dropped, doubled or swapped."""
    if isinstance(payload, (list, tuple)) and payload and draw(st.integers(0, 5)):
        parts, at = list(payload), draw(st.integers(0, len(payload) - 1))
        what = draw(st.sampled_from(["within", "within", "within", "drop", "double", "swap"]))
        if what == "within":
            parts[at] = draw(changed(parts[at]))
        elif what == "drop":
            del parts[at]
        elif what == "double":
            parts.insert(at, parts[at])
        else:
            parts.reverse()
        return parts
    if isinstance(payload, dict) and payload and draw(st.integers(0, 5)):
        fields, name = dict(payload), draw(st.sampled_from(list(payload)))
        what = draw(st.sampled_from(["within", "within", "within", "drop", "rename"]))
        if what == "within":
            fields[name] = draw(changed(fields[name]))
        else:
            value = fields.pop(name)
            if what == "rename":
                fields[draw(SCALARS.filter(lambda name: name.__hash__ is not None))] = value
        return fields
    return draw(PLAIN)


def test_every_kind_of_record_is_there_and_fits_its_form() -> None:
    kinds = {chr(key[0]) for key in records()}
    assert kinds >= set(SEALED) - set("O")
    for key, blob in records().items():
        if chr(key[0]) in SEALED:
            assert fits(key[:1], unseal(key[0], blob, key))
    assert set(SEALED) <= set(KINDS)
    assert step_forms._OPS.keys() == snapshot._APPLY.keys()


WRONG: tuple[Any, ...] = (None, -1, 1.5, "text", (), (1,), ("a", "b", "c", "d", "e", "f", "g"), {}, {"a": 1})


@pytest.mark.parametrize("letter", SEALED)
def test_a_payload_of_another_form_is_not_accepted_as_a_record(letter: str) -> None:
    key = next((key for key in records() if key[:1] == letter.encode()), b"O" + bytes(16))
    for payload in WRONG:
        with pytest.raises(DamagedRecord, match="has a good checksum but not the form of its kind"):
            decode_record(key, encode_record(key, payload))


@pytest.mark.parametrize("letter", SEALED.replace("O", ""))
def test_no_call_raises_another_error_for_a_wrong_record(letter: str) -> None:
    key = next(key for key in records() if key[:1] == letter.encode())
    asyncio.run(all_calls({**records(), key: encode_record(key, ("a", 1, None))}))


@examples(30)
@given(st.data())
def test_a_wrong_record_is_reported_as_damaged_and_breaks_nothing_else(data: st.DataObject) -> None:
    letter = data.draw(st.sampled_from(SEALED.replace("O", "")))
    key = data.draw(st.sampled_from([key for key in records() if key[:1] == letter.encode()]))
    payload = data.draw(PLAIN | changed(unseal(key[0], records()[key], key)))
    note(f"{key!r}: {payload!r}")
    asyncio.run(all_calls({**records(), key: encode_record(key, payload)}))


async def all_calls(damaged: dict[bytes, bytes]) -> None:
    """Make every call: each returns or raises a documented error, and so does each background task of the loop."""
    unforeseen: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unforeseen.append(context))
    async with asyncio.timeout(60), opened(damaged) as at:
        for number, call in enumerate(CALLS):
            try:
                await call(at)
            except BelugaError:
                continue
            except Exception as error:
                error.add_note(f"call {number}")
                raise
        verify_store(at.engine.store)
    assert not unforeseen
