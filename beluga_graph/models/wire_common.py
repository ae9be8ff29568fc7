"""What the readers of all wire formats share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from beluga_graph.models.messages import Api, Message, StopReason, ToolCall

__all__ = ["FailedAnswer", "Truncated", "count", "distinct_ids", "echoed", "stop_reason"]

_STOP_REASONS: dict[str, StopReason] = {
    "stop": "end",
    "end_turn": "end",
    "stop_sequence": "end",
    "completed": "end",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "tool_use": "tool_calls",
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_context_window_exceeded": "length",
    "content_filter": "refusal",
    "refusal": "refusal",
    "pause_turn": "pause",
}


class Truncated(Exception):
    """The stream ended, but the answer did not."""


class FailedAnswer(Exception):
    """The provider says in its stream that it failed. `code` is what it calls the reason."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code, self.message = code, message


def stop_reason(told: str) -> StopReason:
    """Return the one word for a provider's reason."""
    return _STOP_REASONS.get(told, "other")


def count(told: Any, *path: str) -> int:
    """Return a number of tokens, 0 if the server does not tell it or tells nonsense."""
    for name in path:
        told = getattr(told, name, None)
    return told if type(told) is int and told >= 0 else 0


def distinct_ids(calls: Iterable[ToolCall]) -> tuple[ToolCall, ...]:
    """Return a turn's calls, those with an id of their own where a server gave none or one twice."""
    given: set[str] = set()
    fixed: list[ToolCall] = []
    for number, call in enumerate(calls):
        own = call.id if call.id and call.id not in given else f"call_{number}"
        while own in given:
            own += "_"
        given.add(own)
        fixed.append(replace(call, id=own))
    return tuple(fixed)


def echoed(
    message: Message,
    api: Api,
    model: str,
    *,
    text_of: Callable[[dict[str, Any]], str],
    call_type: str,
    calls: list[dict[str, Any]],
) -> list[dict[str, Any]] | None:
    """Return the answer's own items with the calls put back into them.

    None if there are none, if another API or model made them, or if the message no longer says the same (a filter
    has changed it): then it is built from its text and calls alone.
    """
    echo = message.echo
    if echo is None or (echo.api, echo.model) != (api, model):
        return None
    if "".join(map(text_of, echo.items)) != message.text:
        return None
    if sum(item.get("type") == call_type for item in echo.items) != len(calls):
        return None
    waiting = iter(calls)
    return [{**item, **next(waiting)} if item.get("type") == call_type else item for item in echo.items]
