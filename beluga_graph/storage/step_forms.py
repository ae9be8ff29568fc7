"""The form of a step: its trigger, its values, the operations of its patch, and its events."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from beluga_graph.events import Event
from beluga_graph.kernel import ops
from beluga_graph.storage.forms import (
    BY_ANNOTATION,
    Form,
    anything,
    bound,
    count,
    few,
    fields_of,
    flag,
    index,
    integer,
    many,
    maybe,
    number,
    row,
    status,
    text,
    time_kind,
    token_state,
    value,
)

__all__ = ["is_step"]

_OPS: dict[str, Form] = {ops.COUNT_INTERRUPTION: row(text, text, few, optional=1)} | {
    name: row(text, *operands)
    for name, operands in {
        ops.PUT_TOKEN: (text, text, text, count, index, token_state, few),
        ops.REMOVE_TOKEN: (text,),
        ops.SET_STATE: (text, token_state, few, few),
        ops.RECEIVE_PAYLOAD: (text, index),
        ops.RECEIVE_ANSWER: (text, index),
        ops.SET_TIME: (text, time_kind, count),
        ops.OPEN_SCOPE: (text, text, text, count, flag, few, index, few, many(row(few, few, index))),
        ops.BEGIN_BRANCH: (text, few),
        ops.END_BRANCH: (text, few, index, flag),
        ops.CLOSE_SCOPE: (text,),
        ops.CLEAR_QUEUE: (text,),
        ops.SET_FIELD: (text, text, index),
        ops.APPEND_ITEMS: (text, text, count),
        ops.ARM_TIMER: (text, count),
        ops.DISARM_TIMER: (text,),
        ops.ADD_WAIT: (text, text),
        ops.REMOVE_WAIT: (text, text),
        ops.ADD_LISTENER: (text, text),
        ops.REMOVE_LISTENER: (text, text),
        ops.SET_CONSUMED: (text, count),
        ops.SET_STATUS: (status,),
        ops.SET_OUTPUT: (index,),
        ops.SET_ERROR: (maybe(index),),
        ops.SET_PLAN: (text,),
        ops.RENAME_NODES: (many(row(text, text)), many(row(text, text)), many(row(text, text, count))),
        ops.COUNT_STEP: (),
        ops.ADD_USAGE: (text, integer),
        ops.SET_REASON: (text,),
        ops.SET_LIMIT: (text, bound),
    }.items()
}

# Further entries of an event, besides type, node, token and value: fields of `Event`, and the sources of some fields.
_CARRIED = {
    **{field.name: BY_ANNOTATION[str(field.type)] for field in fields(Event)},
    "failure": text,
    "message": text,
    "tried": count,
    "delay_ms": number,
    "due": count,
}
_GIVEN = ("type", "run_id", "node", "token", "seq", "index", "output")
_MADE_FROM = {"error": ("failure", "message"), "retry": ("tried", "delay_ms", "message"), "tool_call": ("arguments",)}
_ONLY_THERE = {"failure": "error", "message": "error retry", "tried": "retry", "delay_ms": "retry", "due": "waiting"}


def _event(part: Any, values: int) -> bool:
    if not _EVENT(part, values):
        return False
    kind, more = part[0], part[3] or {}
    return all(name in more for name in _MADE_FROM.get(kind, ())) and all(
        name not in _GIVEN and kind in _ONLY_THERE.get(name, kind).split() for name in more
    )


def _op(part: Any, values: int) -> bool:
    form = _OPS.get(part[0]) if type(part) is tuple and part and type(part[0]) is str else None
    return form is not None and form(part, values)


def is_step(part: Any, _: int) -> bool:
    """Return whether a payload is that of a step, and its indexes refer to its values."""
    if type(part) is not tuple or len(part) != 7 or not many(value)(part[4], 0):
        return False
    return _STEP(part, len(part[4]))


_EVENT = row(text, text, text, maybe(fields_of({}, _CARRIED)), maybe(index))
_STEP = row(integer, text, text, integer, anything, many(_op), many(_event))
