"""Forms: the shape of the payload of each kind of record, on which its readers rely.

A checksum finds accidents, but not forgery or the defects of other releases, so a sound checksum proves nothing about
the content of a record. `fits` checks the types of all fields, the operands of each operation, and the references
inside the record. References to other records are checked by the code that reads those.

Add a form here for each new field of a record, each new operation and each new event.

A form is a function that takes a part of a payload and the number of values that the record has, to which the indexes
in a step refer. It returns whether the part has the form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any, TypeAlias

from beluga_graph.codec.references import REFERENCE_BYTES, is_reference
from beluga_graph.events import Event
from beluga_graph.kernel import ops, tokens
from beluga_graph.kernel.shape import (
    AGENT,
    CHOICE,
    END,
    FAN_OUT,
    FRAME,
    FUNCTION,
    HANDOFF,
    JOIN,
    TIMER_NODE,
    TOOL,
    WAIT_NODE,
    FieldShape,
    NodeShape,
    RetryShape,
    Shape,
)
from beluga_graph.kernel.structural_names import branch_place
from beluga_graph.kernel.tokens import Place, Scope
from beluga_graph.storage.keys import Prefix

__all__ = ["fits"]

Form: TypeAlias = Callable[[Any, int], bool]

_COUNT_END = 1 << 63  # numbers are part of keys, as eight bytes
_GENERATION_END = 1 << 32
_FEW_END = 1 << 24  # for numbers that a loop counts up to


def fits(prefix: bytes, payload: Any) -> bool:
    """Return whether a payload has the form of the records whose keys begin with this prefix."""
    return _FORMS[prefix](payload, 0)


# Elements of forms.


def _is(*types: type[Any]) -> Form:
    """A scalar of exactly one of these types: `True` is not an int."""
    return lambda part, _: type(part) in types


def _text(part: Any, _: int) -> bool:
    return type(part) is str


def _among(*values: str) -> Form:
    return lambda part, _: type(part) is str and part in values


def _maybe(form: Form) -> Form:
    return lambda part, count: part is None or form(part, count)


def _row(*forms: Form, optional: int = 0) -> Form:
    """A tuple with one part for each form. The last `optional` parts may be missing."""
    least = len(forms) - optional

    def is_row(part: Any, count: int) -> bool:
        if type(part) is not tuple or not least <= len(part) <= len(forms):
            return False
        for form, inner in zip(forms, part, strict=False):  # noqa: SIM110 - steps are read by the thousand
            if not form(inner, count):
                return False
        return True

    return is_row


def _many(form: Form) -> Form:
    def is_many(part: Any, count: int) -> bool:
        if type(part) is not tuple:
            return False
        for inner in part:  # noqa: SIM110 - as above
            if not form(inner, count):
                return False
        return True

    return is_many


def _table(key: Form, value: Form) -> Form:
    def is_table(part: Any, count: int) -> bool:
        return type(part) is dict and all(key(name, count) and value(inner, count) for name, inner in part.items())

    return is_table


def _fields(needed: dict[str, Form], optional: dict[str, Form] | None = None) -> Form:
    """A dict with these fields and no others."""
    known = {**needed, **(optional or {})}

    def is_fields(part: Any, count: int) -> bool:
        return (
            type(part) is dict
            and needed.keys() <= part.keys() <= known.keys()
            and all(known[name](inner, count) for name, inner in part.items())
        )

    return is_fields


def _both(first: Form, then: Callable[[Any], bool]) -> Form:
    """A part that has a form and also satisfies a condition."""
    return lambda part, count: first(part, count) and then(part)


def _anything(_: Any, __: int) -> bool:
    return True


def _index(part: Any, count: int) -> bool:
    return type(part) is int and 0 <= part < count


def _count(part: Any, _: int) -> bool:
    return type(part) is int and 0 <= part < _COUNT_END


def _few(part: Any, _: int) -> bool:
    return type(part) is int and 0 <= part < _FEW_END


def _generation(part: Any, _: int) -> bool:
    return type(part) is int and 0 <= part < _GENERATION_END


def _encoded(part: Any, _: int) -> bool:
    """An encoded value, or a reference to one by its digest."""
    return type(part) is bytes and (not is_reference(part) or len(part) == REFERENCE_BYTES)


def _value(part: Any, count: int) -> bool:
    return _encoded(part, count) or _failure(part, count)


_bytes, _int, _flag, _number = _is(bytes), _is(int), _is(bool), _is(int, float)
_bound = _is(int, float, bool)  # earlier releases stored limits and counts as they were given: 1e6, or True
_route = _is(str, int, bool)
_failure = _row(_text, _text, _text, _int, _maybe(_value))
_session = _row(_text, _text, _count, _count, _generation, _text, _text)
_status = _among(tokens.RUNNING, tokens.WAITING, tokens.COMPLETED, tokens.FAILED, tokens.CANCELLED)
_state = _among(tokens.RUN, tokens.RETRY, tokens.AT_WAIT, tokens.AT_TIMER, tokens.FAILED_TOKEN)


# Steps.

_OPS: dict[str, Form] = {ops.COUNT_INTERRUPTION: _row(_text, _text, _few, optional=1)} | {
    name: _row(_text, *operands)
    for name, operands in {
        ops.PUT_TOKEN: (_text, _text, _text, _count, _index, _state, _few),
        ops.REMOVE_TOKEN: (_text,),
        ops.SET_STATE: (_text, _state, _few, _few),
        ops.RECEIVE_PAYLOAD: (_text, _index),
        ops.RECEIVE_ANSWER: (_text, _index),
        ops.OPEN_SCOPE: (_text, _text, _text, _count, _flag, _few, _index, _few, _many(_row(_few, _few, _index))),
        ops.BEGIN_BRANCH: (_text, _few),
        ops.END_BRANCH: (_text, _few, _index, _flag),
        ops.CLOSE_SCOPE: (_text,),
        ops.CLEAR_QUEUE: (_text,),
        ops.SET_FIELD: (_text, _text, _index),
        ops.APPEND_ITEMS: (_text, _text, _count),
        ops.ARM_TIMER: (_text, _count),
        ops.DISARM_TIMER: (_text,),
        ops.ADD_WAIT: (_text, _text),
        ops.REMOVE_WAIT: (_text, _text),
        ops.SET_CONSUMED: (_text, _count),
        ops.SET_STATUS: (_status,),
        ops.SET_OUTPUT: (_index,),
        ops.SET_ERROR: (_maybe(_index),),
        ops.SET_PLAN: (_text,),
        ops.RENAME_NODES: (_many(_row(_text, _text)), _many(_row(_text, _text)), _many(_row(_text, _text, _count))),
        ops.COUNT_STEP: (),
        ops.ADD_USAGE: (_text, _int),
        ops.SET_REASON: (_text,),
        ops.SET_LIMIT: (_text, _bound),
    }.items()
}

_BY_ANNOTATION: dict[str, Form] = {
    "str": _text,
    "int": _int,
    "float": _number,
    "bool": _flag,
    "Any": _anything,
    "str | None": _maybe(_text),
    "int | None": _maybe(_int),
    "float | None": _maybe(_number),
    "Value | None": _maybe(_value),
    "str | int | bool | None": _maybe(_route),
    "tuple[str, ...]": _many(_text),
}
# Further entries of an event, besides type, node, token and value: fields of `Event`, and the sources of some fields.
_CARRIED = {
    **{field.name: _BY_ANNOTATION[str(field.type)] for field in fields(Event)},
    "failure": _text,
    "message": _text,
    "tried": _count,
    "delay_ms": _number,
    "due": _count,
}
_GIVEN = ("type", "run_id", "node", "token", "seq", "index", "output")
_MADE_FROM = {"error": ("failure", "message"), "retry": ("tried", "delay_ms", "message"), "tool_call": ("arguments",)}
_ONLY_THERE = {"failure": "error", "message": "error retry", "tried": "retry", "delay_ms": "retry", "due": "waiting"}


def _event(part: Any, count: int) -> bool:
    if not _EVENT(part, count):
        return False
    kind, more = part[0], part[3] or {}
    return all(name in more for name in _MADE_FROM.get(kind, ())) and all(
        name not in _GIVEN and kind in _ONLY_THERE.get(name, kind).split() for name in more
    )


def _op(part: Any, count: int) -> bool:
    form = _OPS.get(part[0]) if type(part) is tuple and part and type(part[0]) is str else None
    return form is not None and form(part, count)


def _step(part: Any, _: int) -> bool:
    if type(part) is not tuple or len(part) != 7 or not _many(_value)(part[4], 0):
        return False
    return _STEP(part, len(part[4]))


_EVENT = _row(_text, _text, _text, _maybe(_fields({}, _CARRIED)), _maybe(_index))
_STEP = _row(_int, _text, _text, _int, _anything, _many(_op), _many(_event))


# Snapshots.

_TOKEN = _row(_text, _text, _text, _value, _state, _few, _few, _few, _maybe(_value), optional=4)
_PARTS: dict[str, Form] = {
    # Of a scope.
    "failures": _table(_few, _value),
    "frame": _flag,
    "node": _text,
    "place": _text,
    "queue": _table(_few, _row(_few, _value)),
    "results": _table(_few, _value),
    "attempt": _few,
    "value": _value,
    "width": _few,
    # Of a place.
    "branch": _few,
    "fields": _table(_text, _value),
    "item": _maybe(_value),
    "lengths": _table(_text, _count),
    "opened": _maybe(_text),
    "scope": _maybe(_text),
    "token": _maybe(_text),
    "visits": _table(_text, _count),
}
_SNAPSHOT = _fields(
    {
        "active": _int,
        "context": _maybe(_value),
        "error": _maybe(_value),
        "inbox": _table(_text, _count),
        "input": _value,
        "limits": _table(_text, _bound),
        "output": _maybe(_value),
        "places": _table(_text, _row(*(_PARTS[name] for name in Place.__slots__), optional=1)),  # older: no item
        "plan": _text,
        "reason": _text,
        "rules": _count,
        "run_id": _text,
        "scopes": _table(_text, _row(*(_PARTS[name] for name in Scope.__slots__))),
        "seq": _count,
        "session": _maybe(_session),
        "started_ms": _int,
        "status": _status,
        "steps": _count,
        "timers": _table(_text, _count),
        "tokens": _many(_TOKEN),
        "usage": _table(_text, _int),
        "waits": _table(_text, _many(_text)),
    }
)


def _holds_together(plain: dict[str, Any]) -> bool:
    """Return whether a snapshot contains all that it refers to. Names nest, so no place is inside itself."""
    places_of = {token[0]: token[2] for token in plain["tokens"]}
    scopes = {name: dict(zip(Scope.__slots__, parts, strict=True)) for name, parts in plain["scopes"].items()}
    places = {name: dict(zip(Place.__slots__, parts, strict=False)) for name, parts in plain["places"].items()}
    return (
        places.get("", {"scope": ""})["scope"] is None
        and all(place in places and name.startswith(place) for name, place in places_of.items())
        and all(scope["place"] in places and name.startswith(scope["place"]) for name, scope in scopes.items())
        and all(_has_last_branches(scope["queue"], scope["width"]) for scope in scopes.values())
        and all(
            (place["token"] is None or place["token"] in places_of)
            and (place["opened"] is None or place["opened"] in scopes)
            and (not name or (place["scope"] in scopes and name == branch_place(place["scope"], place["branch"])))
            for name, place in places.items()
        )
        and all(token in places_of for waiting in plain["waits"].values() for token in waiting)
    )


def _has_last_branches(queue: dict[int, Any], width: int) -> bool:
    return all(map(int.__eq__, queue, range(width - len(queue), width)))


# Shapes.


def _record_of(cls: type[Any], special: dict[str, Form], *, always: str = "") -> Form:
    """The stored form of a dataclass of the shape: fields with their default value may be missing, except `always`."""
    forms = {field.name: special.get(field.name) or _BY_ANNOTATION[str(field.type)] for field in fields(cls)}
    needed = {field.name for field in fields(cls) if field.default is MISSING or field.name == always}
    return _fields(
        {name: form for name, form in forms.items() if name in needed},
        {name: form for name, form in forms.items() if name not in needed},
    )


_CHANNELS = _many(_record_of(FieldShape, {}))
_NODE = _record_of(
    NodeShape,
    {
        "kind": _among(FUNCTION, AGENT, TOOL, HANDOFF, FAN_OUT, JOIN, WAIT_NODE, TIMER_NODE, FRAME, CHOICE),
        "asks": _among("", "step", "tool"),
        "routes": _many(_row(_maybe(_is(str, int, bool, float)), _text, _among("conditional", "handoff"))),
        "retry": _maybe(_record_of(RetryShape, {"attempts": _bound})),
        "state": _CHANNELS,
        **dict.fromkeys(("max_concurrency", "wait"), _maybe(_bound)),
    },
)
_SHAPE = _record_of(Shape, {"nodes": _many(_NODE), "limits": _table(_text, _bound), "state": _CHANNELS}, always="state")


def _is_connected(plain: dict[str, Any]) -> bool:
    """Return whether a shape contains all nodes that it refers to."""
    nodes = {node["name"]: node for node in plain["nodes"]}
    ends = {*nodes, END}
    return plain["entry"] in ends and all(
        all(node.get(name) is None or node[name] in ends for name in ("target", "error", "join", "entry"))
        and all(name in ends for name in node.get("branches", ()))
        and all(route[1] in ends for route in node.get("routes", ()))
        and (not node.get("frame") or node["frame"] in nodes)
        and (node["kind"] != FRAME or node.get("entry") is not None)
        and (node["kind"] != FAN_OUT or node.get("join") in nodes)
        for node in nodes.values()
    )


_MESSAGE = _row(_text, _text, _text, _text, _text, _int, _encoded)
_FORMS: dict[bytes, Form] = {
    Prefix.RUN: _row(_text, _text, _text, _status, _int, _int, _text, optional=1),  # only of a run that has moved
    Prefix.LEASE: _row(_bytes, _count),
    Prefix.OWNER: _row(_text, _text, _int),
    Prefix.SNAPSHOT: _both(_SNAPSHOT, _holds_together),
    Prefix.STEP: _step,
    Prefix.ITEM: _encoded,
    Prefix.VALUE: _bytes,
    Prefix.SHAPE: _both(_SHAPE, _is_connected),
    Prefix.SIGNAL: _row(_text, _value, _int),
    Prefix.SESSION: _session,
    Prefix.SESSION_ITEM: _encoded,
    Prefix.PARKED: _count,
    Prefix.QUESTION: _row(_text, _text, _int, _value),
    Prefix.OUTBOX: _MESSAGE,
    Prefix.TOMBSTONE: _row(_text, _bytes),
    Prefix.GC_CANDIDATE: _bytes,
    Prefix.EVENT: _MESSAGE,
    Prefix.EVENT_ID: _count,
    Prefix.CURSOR: _row(_text, _count),
    Prefix.DEAD_LETTER: _row(_text, _count, _text, _int, _int),
    Prefix.EDGE: _row(_text, _text, _text),
    Prefix.CLAIM: _bytes,
}
