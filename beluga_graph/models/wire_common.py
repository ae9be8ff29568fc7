"""Functions that the readers of all wire formats share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from beluga_graph.models.messages import Api, Message, StopReason, ToolCall

__all__ = ["FailedAnswer", "Truncated", "read_count", "restore_items", "stop_reason", "with_distinct_ids"]

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
    """The stream ended before the answer was complete."""


class FailedAnswer(Exception):
    """The provider reported a failure in its stream. `code` is its name of the reason."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code, self.message = code, message


def stop_reason(reported: str) -> StopReason:
    """Return the common word for a provider's reason."""
    return _STOP_REASONS.get(reported, "other")


def read_count(reported: Any, *path: str) -> int:
    """Return a number of tokens, 0 if the server does not report a valid one."""
    for name in path:
        reported = getattr(reported, name, None)
    return reported if type(reported) is int and reported >= 0 else 0


def with_distinct_ids(calls: Iterable[ToolCall]) -> tuple[ToolCall, ...]:
    """Return the calls of a turn with unique ids; missing and repeated ids are replaced."""
    given: set[str] = set()
    fixed: list[ToolCall] = []
    for number, call in enumerate(calls):
        own = call.id if call.id and call.id not in given else f"call_{number}"
        while own in given:
            own += "_"
        given.add(own)
        fixed.append(replace(call, id=own))
    return tuple(fixed)


def restore_items(
    message: Message,
    api: Api,
    model: str,
    *,
    text_of: Callable[[dict[str, Any]], str],
    call_type: str,
    calls: list[dict[str, Any]],
) -> list[dict[str, Any]] | None:
    """Return the items of the original answer with the calls inserted.

    Returns `None` if there are none, if another API or model made them, or if a filter has changed the message. Then
    the message is built from its text and calls.
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
