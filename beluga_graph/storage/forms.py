"""Forms: the shape of the payload of each kind of record, on which its readers rely.

A checksum finds accidents, but not forgery or the defects of other releases, so a sound checksum proves nothing about
the content of a record. `records.fits` checks the types of all fields, the operands of each operation, and the
references inside the record. It lists the kinds; this module has the elements of their forms, and `step_forms`,
`snapshot_forms` and `shape_forms` have those that need more than a line.

Add a form for each new kind or field of a record, each new operation and each new event.

A form is a function that takes a part of a payload and the number of values that the record has, to which the indexes
in a step refer. It returns whether the part has the form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from beluga_graph.codec.references import REFERENCE_BYTES, is_reference
from beluga_graph.kernel import tokens

__all__ = [
    "BY_ANNOTATION",
    "Form",
    "among",
    "anything",
    "binary",
    "both",
    "bound",
    "count",
    "encoded",
    "failure",
    "few",
    "fields_of",
    "flag",
    "generation",
    "index",
    "integer",
    "many",
    "maybe",
    "number",
    "route",
    "row",
    "scalar",
    "session",
    "status",
    "table",
    "text",
    "time_kind",
    "token_state",
    "value",
]

Form: TypeAlias = Callable[[Any, int], bool]

_COUNT_END = 1 << 63  # numbers are part of keys, as eight bytes
_GENERATION_END = 1 << 32
_FEW_END = 1 << 24  # for numbers that a loop counts up to


def scalar(*types: type[Any]) -> Form:
    """A scalar of exactly one of these types: `True` is not an int."""
    return lambda part, _: type(part) in types


def text(part: Any, _: int) -> bool:
    """A text."""
    return type(part) is str


def among(*values: str) -> Form:
    """One of these texts."""
    return lambda part, _: type(part) is str and part in values


def maybe(form: Form) -> Form:
    """`None`, or a part of a form."""
    return lambda part, values: part is None or form(part, values)


def row(*forms: Form, optional: int = 0) -> Form:
    """A tuple with one part for each form. The last `optional` parts may be missing."""
    least = len(forms) - optional

    def is_row(part: Any, values: int) -> bool:
        if type(part) is not tuple or not least <= len(part) <= len(forms):
            return False
        for form, inner in zip(forms, part, strict=False):  # noqa: SIM110 - steps are read by the thousand
            if not form(inner, values):
                return False
        return True

    return is_row


def many(form: Form) -> Form:
    """A tuple of any length whose parts have one form."""

    def is_many(part: Any, values: int) -> bool:
        if type(part) is not tuple:
            return False
        for inner in part:  # noqa: SIM110 - as above
            if not form(inner, values):
                return False
        return True

    return is_many


def table(key: Form, value: Form) -> Form:
    """A dict whose keys have one form and whose values have another."""

    def is_table(part: Any, values: int) -> bool:
        return type(part) is dict and all(key(name, values) and value(inner, values) for name, inner in part.items())

    return is_table


def fields_of(needed: dict[str, Form], optional: dict[str, Form] | None = None) -> Form:
    """A dict with these fields and no others."""
    known = {**needed, **(optional or {})}

    def is_fields(part: Any, values: int) -> bool:
        return (
            type(part) is dict
            and needed.keys() <= part.keys() <= known.keys()
            and all(known[name](inner, values) for name, inner in part.items())
        )

    return is_fields


def both(first: Form, then: Callable[[Any], bool]) -> Form:
    """A part that has a form and also satisfies a condition."""
    return lambda part, values: first(part, values) and then(part)


def anything(_: Any, __: int) -> bool:
    """Any part."""
    return True


def index(part: Any, values: int) -> bool:
    """An index of a value of the record."""
    return type(part) is int and 0 <= part < values


def count(part: Any, _: int) -> bool:
    """A number that can be part of a key."""
    return type(part) is int and 0 <= part < _COUNT_END


def few(part: Any, _: int) -> bool:
    """A number that a loop may count up to."""
    return type(part) is int and 0 <= part < _FEW_END


def generation(part: Any, _: int) -> bool:
    """The number of a session's generation."""
    return type(part) is int and 0 <= part < _GENERATION_END


def encoded(part: Any, _: int) -> bool:
    """An encoded value, or a reference to one by its digest."""
    return type(part) is bytes and (not is_reference(part) or len(part) == REFERENCE_BYTES)


def value(part: Any, values: int) -> bool:
    """An encoded value, or a failure in its place."""
    return encoded(part, values) or failure(part, values)


binary, integer, flag, number = scalar(bytes), scalar(int), scalar(bool), scalar(int, float)
bound = scalar(int, float, bool)  # earlier releases stored limits and counts as they were given: 1e6, or True
route = scalar(str, int, bool)
failure = row(text, text, text, integer, maybe(value))
session = row(text, text, count, count, generation, text, text)
status = among(tokens.RUNNING, tokens.WAITING, tokens.COMPLETED, tokens.FAILED, tokens.CANCELLED)
time_kind = among(*tokens.TIME_KINDS)
token_state = among(tokens.RUN, tokens.RETRY, tokens.AT_WAIT, tokens.AT_TIMER, tokens.FAILED_TOKEN)

BY_ANNOTATION: dict[str, Form] = {
    "str": text,
    "int": integer,
    "float": number,
    "bool": flag,
    "Any": anything,
    "str | None": maybe(text),
    "int | None": maybe(integer),
    "float | None": maybe(number),
    "Value | None": maybe(value),
    "str | int | bool | None": maybe(route),
    "tuple[str, ...]": many(text),
}
