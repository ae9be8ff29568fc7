"""Stored events: turns the fields that a committed step keeps of its events into `Event` objects."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from beluga_graph.codec.values import Unregistered
from beluga_graph.events import Event, make_event
from beluga_graph.kernel.shape import TOOL, NodeShape
from beluga_graph.kernel.types import EventFields, Value

__all__ = ["decode_events", "question_subject"]


def decode_events(
    run_id: str,
    seq: int,
    events: Sequence[EventFields],
    values: Sequence[Value],
    decode: Callable[[Any], Any],
    nodes: Mapping[str, NodeShape],
) -> list[Event]:
    """Return the events of a committed step.

    `events` and `values` are those of its patch, `decode` reads a value, and `nodes` are the nodes of the graph at
    that step.
    """
    return [
        _make_stored_event(run_id, seq, index, fields, values, decode, nodes) for index, fields in enumerate(events)
    ]


def question_subject(value: Any, asks: str) -> Any:
    """Return the subject of a question: a step's value, or the `name` and parsed `arguments` of a tool call."""
    if asks != TOOL:
        return value
    if isinstance(value, Unregistered):  # read where the agent's classes are not registered
        name, text = value.fields["name"], value.fields["arguments"]
    else:
        name, text = value.name, value.arguments
    return {"name": name, "arguments": json.loads(text if text.strip() else "{}")}


def _make_stored_event(
    run_id: str,
    seq: int,
    index: int,
    fields: EventFields,
    values: Sequence[Value],
    decode: Callable[[Any], Any],
    nodes: Mapping[str, NodeShape],
) -> Event:
    kind, node, token, more, value = fields
    extra = dict(more or {})
    shape = nodes.get(node)
    output = decode(values[value]) if value is not None else None
    if kind == "error":
        extra["error"] = f"{extra.pop('failure')}: {extra.pop('message')}"
    elif kind == "retry":
        extra = {
            "attempt": extra["tried"],
            "error": extra["message"],
            "delay_s": extra["delay_ms"] / 1000,
        }
    elif kind == "waiting" and "due" in extra:
        extra = {"due_ms": extra["due"]}
    elif kind == "tool_call":
        extra["arguments"] = _with_lists(extra["arguments"])
    elif shape is not None and shape.asks and kind in ("waiting", "signal"):
        extra["question"] = token
        output = question_subject(output, shape.asks) if kind == "waiting" else output
    agent = extra.pop("agent", None) or (shape.agent if shape is not None else "")
    return make_event(
        type=kind,
        run_id=run_id,
        node=node,
        agent=agent,
        token=token,
        seq=seq,
        index=index,
        output=output,
        **extra,
    )


def _with_lists(value: Any) -> Any:
    """Return JSON with lists, as it was before it was stored: a step that is read back has tuples instead."""
    if isinstance(value, dict):
        return {key: _with_lists(part) for key, part in value.items()}
    return [_with_lists(part) for part in value] if isinstance(value, list | tuple) else value
