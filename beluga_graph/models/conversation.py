"""The rule of every provider for a conversation: each tool call has exactly one result, next."""

from __future__ import annotations

from collections.abc import Sequence

from beluga_graph.errors import ModelError
from beluga_graph.models.messages import Message

__all__ = ["check_conversation"]

_ROLES = ("user", "assistant", "tool")


def check_conversation(messages: Sequence[Message]) -> None:
    """Raise `ModelError`, with the position and the rule, unless every provider accepts these messages.

    The first message is a user's. The tool calls of an assistant's message have unique ids. Exactly one tool message
    answers each call, before any other message; a tool message answers nothing else. Apart from that, roles need not
    alternate: the adapters merge messages for APIs that require it.
    """
    if not messages:
        raise ModelError("the conversation is empty: it starts with a user's message")
    if messages[0].role != "user":
        raise _wrong(0, messages[0], "comes first: a conversation starts with a user's message")
    open_calls: set[str] = set()
    for index, message in enumerate(messages):
        _check_fields(index, message)
        if message.role == "tool":
            if message.call_id not in open_calls:
                raise _wrong(
                    index, message, f"answers {message.call_id!r}, which no open call of the turn has as its id"
                )
            open_calls.remove(message.call_id)
            continue
        if open_calls:
            raise _wrong(index, message, f"comes before the results of the calls {sorted(open_calls)}")
        for call in message.tool_calls:
            if not call.id or call.id in open_calls:
                raise _wrong(index, message, f"has a call with the id {call.id!r}: each call needs a unique id")
            open_calls.add(call.id)
    if open_calls:
        raise ModelError(f"the conversation ends before the results of the calls {sorted(open_calls)}")


def _check_fields(index: int, message: Message) -> None:
    if message.role not in _ROLES:
        raise _wrong(index, message, f"has a role that is none of {', '.join(_ROLES)}")
    if message.tool_calls and message.role != "assistant":
        raise _wrong(index, message, "has tool calls: only an assistant's message may")
    if message.call_id and message.role != "tool":
        raise _wrong(index, message, "has a call_id: only a tool's message may")


def _wrong(index: int, message: Message, rule: str) -> ModelError:
    return ModelError(f"message {index} of the conversation ({message.role}) {rule}")
