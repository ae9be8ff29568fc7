"""Helpers of the agent tests: the shape of a valid conversation, and readers of requests and events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from beluga_graph import Event
from beluga_graph.models.messages import Message, Request
from beluga_graph.testing import ScriptedModel

__all__ = ["assert_valid", "kinds", "last_text", "offered_tools", "request_texts", "results", "texts_by_agent"]


def assert_valid(messages: Sequence[Message]) -> None:
    """Check a rule of every provider: a user begins, and the calls of a turn are followed by one result each."""
    assert messages, "the conversation is empty"
    assert messages[0].role == "user", messages[0]
    position = 0
    while position < len(messages):
        message = messages[position]
        position += 1
        assert message.role in ("user", "assistant"), f"{position - 1}: an orphan {message}"
        assert message.role == "assistant" or not message.tool_calls
        wanted = [call.id for call in message.tool_calls]
        assert len(set(wanted)) == len(wanted), f"one id twice: {wanted}"
        assert all(wanted), "a call without an id"
        answers = messages[position : position + len(wanted)]
        assert [answer.role for answer in answers] == ["tool"] * len(wanted)
        assert sorted(answer.call_id for answer in answers) == sorted(wanted)
        position += len(wanted)


def request_texts(request: Request) -> list[str]:
    """Return the texts of a request's messages."""
    return [message.text for message in request.messages]


def last_text(request: Request) -> str:
    return request.messages[-1].text


def results(request: Request) -> list[tuple[str, str, bool]]:
    """Return the tool results of a request: tool, text, whether it is an error."""
    return [(m.name, m.text, m.is_error) for m in request.messages if m.role == "tool"]


def offered_tools(model: ScriptedModel, number: int = 0) -> list[str]:
    """Return the names of the tools that a model was offered."""
    return [tool.name for tool in model.requests[number].tools]


def kinds(events: Iterable[Event]) -> list[str]:
    return [event.type for event in events]


def texts_by_agent(events: Iterable[Event]) -> dict[str, str]:
    """Return the joined text pieces of each agent."""
    found: dict[str, str] = {}
    for event in events:
        if event.type == "text":
            found[event.agent] = found.get(event.agent, "") + event.text
    return found
