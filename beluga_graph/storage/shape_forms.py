"""The form of the stored shape of a plan, and the references inside of it."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

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
from beluga_graph.storage.forms import (
    BY_ANNOTATION,
    Form,
    among,
    both,
    bound,
    fields_of,
    many,
    maybe,
    row,
    scalar,
    table,
    text,
)

__all__ = ["is_shape"]


def _record_of(cls: type[Any], special: dict[str, Form], *, always: str = "") -> Form:
    """The stored form of a dataclass of the shape: fields with their default value may be missing, except `always`."""
    forms = {field.name: special.get(field.name) or BY_ANNOTATION[str(field.type)] for field in fields(cls)}
    needed = {field.name for field in fields(cls) if field.default is MISSING or field.name == always}
    return fields_of(
        {name: form for name, form in forms.items() if name in needed},
        {name: form for name, form in forms.items() if name not in needed},
    )


_CHANNELS = many(_record_of(FieldShape, {}))
_INTERRUPTS = many(row(text, text, many(text)))
_NODE = _record_of(
    NodeShape,
    {
        "kind": among(FUNCTION, AGENT, TOOL, HANDOFF, FAN_OUT, JOIN, WAIT_NODE, TIMER_NODE, FRAME, CHOICE),
        "asks": among("", "step", "tool"),
        **dict.fromkeys(("interrupts", "inner_interrupts"), _INTERRUPTS),
        "routes": many(row(maybe(scalar(str, int, bool, float)), text, among("conditional", "handoff"))),
        "retry": maybe(_record_of(RetryShape, {"attempts": bound})),
        "state": _CHANNELS,
        **dict.fromkeys(("max_concurrency", "wait"), maybe(bound)),
    },
)
_SHAPE = _record_of(
    Shape,
    {"nodes": many(_NODE), "limits": table(text, bound), "state": _CHANNELS, "interrupts": _INTERRUPTS},
    always="state",
)
_BRANCHING = ("routes", "interrupts", "inner_interrupts")  # fields of edges: the target is the second part


def _is_connected(plain: dict[str, Any]) -> bool:
    """Return whether a shape contains all nodes that it refers to."""
    nodes = {node["name"]: node for node in plain["nodes"]}
    ends = {*nodes, END}
    if not all(edge[1] in ends for edge in plain.get("interrupts", ())):
        return False
    return plain["entry"] in ends and all(
        all(node.get(name) is None or node[name] in ends for name in ("target", "error", "join", "entry"))
        and all(name in ends for name in node.get("branches", ()))
        and all(edge[1] in ends for name in _BRANCHING for edge in node.get(name, ()))
        and (not node.get("frame") or node["frame"] in nodes)
        and (node["kind"] != FRAME or node.get("entry") is not None)
        and (node["kind"] != FAN_OUT or node.get("join") in nodes)
        for node in nodes.values()
    )


is_shape = both(_SHAPE, _is_connected)
