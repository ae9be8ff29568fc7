"""The wire format of OpenAI's Responses API. Its server-side memory is not used: every request is complete."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from beluga_graph.errors import ModelError
from beluga_graph.models.chat import to_data_url
from beluga_graph.models.messages import (
    Echo,
    Message,
    NativePart,
    Part,
    Reply,
    Request,
    StopReason,
    ToolCall,
    Usage,
)
from beluga_graph.models.normalize import body_with_settings, normalize_request
from beluga_graph.models.strict_schema import close_schema
from beluga_graph.models.unicode_text import Mender, mend
from beluga_graph.models.wire_common import (
    FailedAnswer,
    Truncated,
    read_count,
    restore_items,
    stop_reason,
    with_distinct_ids,
)

if TYPE_CHECKING:
    from openai.types.responses import Response, ResponseStreamEvent

__all__ = ["ResponsesAnswer", "to_responses"]


def to_responses(request: Request, model: str) -> dict[str, Any]:
    """Return the body of a streamed response. Raises `ModelError` if the request cannot be expressed.

    `store` is false unless the settings change it, so reasoning is sent back in its encrypted form. The setting `text`
    is merged with the format made from `output_schema`.
    """
    request = normalize_request(request)
    body: dict[str, Any] = {
        "model": model,
        "input": [item for message in request.messages for item in _items(message, model)],
        "stream": True,
        "store": False,
    }
    if request.system:
        body["instructions"] = request.system
    if request.tools:
        body["tools"] = [
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
                "strict": False,  # the API's default is true, and most schemas of functions are not strict
            }
            for tool in request.tools
        ]
    if request.output_schema is not None:
        strict = close_schema(request.output_schema)
        body["text"] = {
            "format": {
                "type": "json_schema",
                "name": "output",
                "schema": strict or request.output_schema,
                "strict": strict is not None,
            }
        }
    return body_with_settings(body, request.settings, merged="text")


def _items(message: Message, model: str) -> Iterator[dict[str, Any]]:
    if message.role == "user":
        yield {"role": "user", "content": _content(message)}
        return
    if message.role == "tool":
        yield {"type": "function_call_output", "call_id": message.call_id, "output": _content(message)}
        return
    calls = [
        {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}
        for call in message.tool_calls
    ]
    echo = restore_items(message, "responses", model, text_of=_text_of, call_type="function_call", calls=calls)
    if echo is not None:
        yield from echo
        return
    if message.text.strip():
        yield {"role": "assistant", "content": message.text}
    if not isinstance(message.content, str):
        # Other parts of an assistant's message are separate items in this API.
        yield from (_part(message, part) for part in message.content if not isinstance(part, str))
    yield from calls


def _content(message: Message) -> str | list[dict[str, Any]]:
    if isinstance(message.content, str):
        return message.content
    return [_part(message, part) for part in message.content] or ""


def _part(message: Message, part: str | Part) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "input_text", "text": part}
    if isinstance(part, NativePart):
        if part.api != "responses":
            raise ModelError(f"a part made for {part.api!r} cannot be sent by the Responses API")
        return part.content
    if message.role == "assistant":
        raise ModelError("the Responses API takes images from users and tools only, not from an assistant")
    return {"type": "input_image", "image_url": to_data_url(part), "detail": "auto"}


def _text_of(item: dict[str, Any]) -> str:
    if item.get("type") != "message":
        return ""
    return "".join(part.get("text", part.get("refusal", "")) for part in item.get("content", ()))


class ResponsesAnswer:
    """Gathers the events of one streamed response."""

    def __init__(self, model: str) -> None:
        self._asked = model
        self._text = Mender()
        self._refused = False
        self._items: dict[int, dict[str, Any]] = {}
        self._final: Response | None = None

    def take(self, event: ResponseStreamEvent) -> Iterator[str]:
        """Take the next event; yield the text in it. Raises `FailedAnswer` if the provider reports a failure."""
        if event.type == "response.output_text.delta":
            yield self._text.feed(event.delta)
        elif event.type == "response.refusal.delta":
            self._refused = True
            yield self._text.feed(event.delta)
        elif event.type == "response.output_item.done":
            self._items[event.output_index] = event.item.to_dict(mode="json", warnings=False)
        elif event.type in ("response.completed", "response.incomplete"):
            self._final = event.response
        elif event.type == "response.failed":
            error = event.response.error
            raise FailedAnswer(error.code if error else "", error.message if error else "the response failed")
        elif event.type == "error":
            raise FailedAnswer(event.code or "", event.message)

    def end(self) -> Iterator[str | Reply]:
        """Yield the rest of the text, and the reply. Raises `Truncated` if the stream ended early."""
        if self._final is None:
            raise Truncated("the stream ended without a terminal event")
        # Some servers send items only in the last event, or text only in its item.
        items = [item for _, item in sorted(self._items.items())] or [
            item.to_dict(mode="json", warnings=False) for item in self._final.output
        ]
        if not self._text.text:
            yield self._text.feed("".join(map(_text_of, items)))
        yield self._text.flush()
        calls = with_distinct_ids(
            ToolCall(
                str(item.get("call_id") or ""), str(item.get("name") or ""), mend(str(item.get("arguments") or ""))
            )
            for item in items
            if item.get("type") == "function_call"
        )
        message = Message("assistant", self._text.text, calls, echo=self._echo(items))
        yield Reply(
            message=message,
            usage=_usage(self._final.usage),
            stop_reason=self._reason(calls=bool(calls)),
            model=self._final.model or self._asked,
        )

    def _reason(self, *, calls: bool) -> StopReason:
        assert self._final is not None, "the stream has ended well"
        if self._final.status == "incomplete":
            details = self._final.incomplete_details
            return stop_reason((details and details.reason) or "")
        if self._refused:
            return "refusal"
        return "tool_calls" if calls else "end"

    def _echo(self, items: list[dict[str, Any]]) -> Echo | None:
        kept = [_without_call(item) for item in items if _can_be_sent_back(item)]
        if all(item.get("type") in ("message", "function_call") for item in kept):
            return None  # text and calls are the whole content
        return Echo("responses", self._asked, tuple(kept))


def _can_be_sent_back(item: dict[str, Any]) -> bool:
    # A provider finds reasoning by its id only if it stored the response, which is off.
    return item.get("type") != "reasoning" or bool(item.get("encrypted_content"))


def _without_call(item: dict[str, Any]) -> dict[str, Any]:
    """Return the item of a call without the fields that the message has."""
    held = ("call_id", "name", "arguments") if item.get("type") == "function_call" else ()
    return {key: part for key, part in item.items() if key not in held and part is not None}


def _usage(reported: Any) -> Usage:
    return Usage(
        input_tokens=read_count(reported, "input_tokens"),
        output_tokens=read_count(reported, "output_tokens"),
        cached_tokens=read_count(reported, "input_tokens_details", "cached_tokens"),
        reasoning_tokens=read_count(reported, "output_tokens_details", "reasoning_tokens"),
    )
