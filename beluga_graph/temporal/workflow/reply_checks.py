"""Replies as a workflow reads them: a worker in another language may send anything, and none of it may stop a run.

An error within a workflow is tried again without end, so each field is checked before the walker sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from beluga_graph.kernel.tokens import TIME_KINDS
from beluga_graph.kernel.triggers import NodeFinished
from beluga_graph.temporal.workflow.wire import Reply, check_format, unpack

__all__ = ["Request"]

_Check = Callable[[Any], bool]


class Request(NamedTuple):
    """The attempts that one activity was requested to make, which its replies must fit."""

    attempts: Mapping[str, int]
    """By token: the number of the attempt."""
    is_whole: bool
    """Whether it had the whole run, so that it may also reply for tokens that came later."""
    has_output: bool
    """Whether the nodes of these attempts have an output: a fan-out has none."""

    def read_replies(self, result: Any, at: int) -> list[Reply]:
        """Return the replies in the result of an activity, with the time `at`. Raises `ValueError` if it has none."""
        if type(result) is not bytes:
            msg = f"the activity returned {type(result).__name__}; return bytes, the packed map of the replies"
            raise ValueError(msg)
        try:
            given = unpack(result)
            check_format(given, "the result", "send that one")
            replies = [Reply.from_plain(plain, at) for plain in given["replies"]]
        except (AttributeError, KeyError, TypeError) as error:  # it lacks a field, has an unknown one, or is not a map
            msg = f"{type(error).__name__}: {error}"
            raise ValueError(msg) from error
        if not replies:
            raise ValueError("replies is empty; reply for the first call at least")
        for reply in replies:
            _check(reply)
            self._check_fit(reply)
        return replies

    def _check_fit(self, reply: Reply) -> None:
        trigger, attempt = reply.trigger, self.attempts.get(reply.trigger.token)
        if trigger.attempt != attempt and not (attempt is None and self.is_whole):
            msg = f"it is for attempt {trigger.attempt} of token {trigger.token!r}; the calls are for "
            msg += ", ".join(f"attempt {number} of {token!r}" for token, number in [*self.attempts.items()][:3])
            raise ValueError(msg)
        has_output = self.has_output and attempt is not None  # nodes that it went on with may be fan-outs
        if isinstance(trigger, NodeFinished) and has_output and not trigger.values:
            raise ValueError("values is empty; its first one is the output")


def _check(reply: Reply) -> None:
    trigger = reply.trigger
    for field, value in trigger._asdict().items():
        check, expected = _FIELDS[field]
        _require(field, value, check, expected)
    if isinstance(trigger, NodeFinished):
        count = len(trigger.values)
        _require_indexes("sets", (index for _, index in trigger.sets), count)
        _require_indexes("branches", (index for _, index in trigger.branches), count)
        _require_indexes("events", (event[4] for event in trigger.events if event[4] is not None), count)
    for piece in reply.pieces:
        _require("items", tuple(piece), _is_piece, "maps of place, field, length, data and drop")
    _require("messages", reply.messages, _rows(_is_text, _is_text, _is_bytes), "lists of topic, publisher and value")
    _require("ms", reply.ms, _is_count, "a whole number of milliseconds")


def _require(field: str, value: Any, check: _Check, expected: str) -> None:
    if not check(value):
        msg = f"{field} must be {expected}, not {value!r:.80}"
        raise ValueError(msg)


def _require_indexes(field: str, indexes: Iterable[int], count: int) -> None:
    for index in indexes:
        _require(field, index, range(count).__contains__, f"indexes of values, of which there are {count}")


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_bytes(value: Any) -> bool:
    return type(value) is bytes and bool(value)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_bool(value: Any) -> bool:
    return type(value) is bool


def _is_time_kind(value: Any) -> bool:
    return type(value) is str and value in TIME_KINDS


def _is_route(value: Any) -> bool:
    return value is None or type(value) in (str, int, bool)


def _is_value(value: Any) -> bool:
    return _is_bytes(value) or _is_failure(value)


def _is_failure(value: Any) -> bool:
    return type(value) is tuple and _is_row(value, _FAILURE)


def _is_row(value: Any, checks: tuple[_Check, ...]) -> bool:
    is_row = type(value) is tuple and len(value) == len(checks)
    return is_row and all(check(part) for check, part in zip(checks, value, strict=True))


def _rows(*checks: _Check) -> _Check:
    return lambda value: type(value) is tuple and all(_is_row(row, checks) for row in value)


def _optional(check: _Check) -> _Check:
    return lambda value: value is None or check(value)


def _is_piece(value: Any) -> bool:
    return _is_row(value, (_is_text, _is_text, _is_count, _is_bytes, _is_count))


_FAILURE: tuple[_Check, ...] = (_is_text, _is_text, _is_text, _is_count, _optional(_is_value))
_are_events = _rows(_is_text, _is_text, _is_text, _optional(lambda fields: type(fields) is dict), _optional(_is_count))

_FIELDS: Mapping[str, tuple[_Check, str]] = {
    "token": (_is_text, "text"),
    "attempt": (_is_count, "a whole number"),
    "at": (_is_count, "milliseconds since the epoch"),
    "values": (
        lambda values: type(values) is tuple and all(map(_is_value, values)),
        "a list of bytes, each an encoded value, the output first",
    ),
    "route": (_is_route, "nil, text, a whole number or a bool"),
    "branches": (_rows(_is_count, _is_count), "pairs of a target and an index of values"),
    "sets": (_rows(_is_text, _is_count), "pairs of a field and an index of values"),
    "appends": (_rows(_is_text, _is_count), "pairs of a field and a number of items"),
    "events": (_are_events, "lists of type, node, token, fields and an index of values"),
    "text": (_is_text, "text"),
    "usage": (_rows(_is_text, _is_count), "pairs of a name and a whole number"),
    "reason": (_is_text, "text"),
    "time": (
        _optional(lambda time: _is_row(time, (_is_time_kind, _is_count))),
        "nil or a kind of time and milliseconds",
    ),
    "type": (_is_text, "text"),
    "message": (_is_text, "text"),
    "retryable": (_is_bool, "a bool"),
    "retry_after_ms": (_optional(_is_count), "nil or a whole number of milliseconds"),
    "input": (_optional(_is_value), "nil or an encoded value"),
    "final": (_is_bool, "a bool"),
}
