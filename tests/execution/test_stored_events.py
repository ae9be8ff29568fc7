"""Stored events: the fields that a step keeps of its events become `Event` objects."""

from __future__ import annotations

from typing import Any

import pytest

from beluga_graph.codec.values import Unregistered
from beluga_graph.events import Event
from beluga_graph.execution.stored_events import decode_events, question_subject
from beluga_graph.kernel.shape import TOOL, WAIT_NODE, NodeShape

NODES = {
    "plain": NodeShape(name="plain", local="plain", kind="function", agent="writer"),
    "ask": NodeShape(name="ask", local="ask", kind=WAIT_NODE, asks="step"),
}


def decode(kind: str, node: str = "plain", more: dict[str, Any] | None = None, value: Any = None) -> Event:
    """Return the event of a step with one value, which is decoded to itself."""
    fields = (kind, node, f"{node}#1", more, None if value is None else 0)
    (event,) = decode_events("r", 7, [fields], [value], lambda stored: stored, NODES)
    return event


def test_an_event_has_its_place_in_the_run_and_the_agent_of_its_node() -> None:
    events = [("run_started", "", "", None, 0), ("node_finished", "plain", "plain#1", {"text": "hi"}, 1)]
    first, second = decode_events("r", 7, events, ["in", "out"], lambda stored: stored, NODES)
    assert (first.seq, first.index, first.output, first.agent) == (7, 0, "in", "")
    assert second == Event(
        type="node_finished",
        run_id="r",
        node="plain",
        agent="writer",
        token="plain#1",
        seq=7,
        index=1,
        text="hi",
        output="out",
    )


@pytest.mark.parametrize(
    ("kind", "more", "shown"),
    [
        ("error", {"failure": "ValueError", "message": "no"}, {"error": "ValueError: no"}),
        (
            "retry",
            {"tried": 2, "message": "Timeout: slow", "delay_ms": 1500},
            {"attempt": 2, "error": "Timeout: slow", "delay_s": 1.5},
        ),
        ("waiting", {"due": 9000}, {"due_ms": 9000}),
        ("tool_call", {"name": "f", "arguments": {"a": (1, (2,))}}, {"name": "f", "arguments": {"a": [1, [2]]}}),
        ("handoff", {"agent": "editor", "source": "writer", "target": "editor"}, {"agent": "editor"}),
    ],
)
def test_stored_fields_become_those_of_the_event(kind: str, more: dict[str, Any], shown: dict[str, Any]) -> None:
    event = decode(kind, more=more)
    assert {name: getattr(event, name) for name in shown} == shown


def test_a_question_and_its_answer_name_the_question() -> None:
    asked = decode("waiting", "ask", {"name": "approval"}, {"amount": 3})
    answered = decode("signal", "ask", {"name": "approval"}, {"decision": "approve"})
    assert (asked.question, asked.output) == ("ask#1", {"amount": 3})
    assert (answered.question, answered.output) == ("ask#1", {"decision": "approve"})
    assert decode("node_finished", "ask").question == ""


@pytest.mark.parametrize(("text", "arguments"), [('{"to": "Ada"}', {"to": "Ada"}), ("  ", {})])
def test_the_subject_of_a_question_about_a_tool_is_its_call_also_without_its_class(text: str, arguments: Any) -> None:
    call = Unregistered("app:ToolCall", {"name": "send", "arguments": text})
    assert question_subject(call, TOOL) == {"name": "send", "arguments": arguments}
