"""The wire format of OpenAI's chat completions, which most compatible servers use."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from beluga_graph.errors import ModelError
from beluga_graph.models.messages import Image, Message, NativePart, Part, Reply, Request, StopReason, ToolCall, Usage
from beluga_graph.models.normalize import body_with_settings, normalize_request
from beluga_graph.models.strict_schema import close_schema
from beluga_graph.models.unicode_text import Mender, mend
from beluga_graph.models.wire_common import Truncated, read_count, stop_reason, with_distinct_ids

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionChunk
    from openai.types.chat.chat_completion_chunk import ChoiceDeltaToolCall

__all__ = ["ChatAnswer", "to_chat", "to_data_url"]


def to_chat(request: Request, model: str) -> dict[str, Any]:
    """Return the body of a streamed chat completion. Raises `ModelError` if the request cannot be expressed.

    The setting `response_format` overrides the one made from `output_schema`, for servers with their own form. An empty
    assistant's message is left out. An image in a tool's result is refused, because this API does not support it.
    """
    request = normalize_request(request)
    messages: list[dict[str, Any]] = []
    if request.system:
        messages.append({"role": "system", "content": request.system})
    messages.extend(_message(message) for message in request.messages if not _is_empty(message))
    body: dict[str, Any] = {
        "model": model,
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.tools:
        body["tools"] = [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
            }
            for tool in request.tools
        ]
    if request.output_schema is not None:
        strict = close_schema(request.output_schema)
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {
                "name": "output",
                "schema": strict or request.output_schema,
                "strict": strict is not None,
            },
        }
    return body_with_settings(body, request.settings)


def to_data_url(image: Image) -> str:
    """Return the URL of an image, or a `data:` URL with its bytes."""
    return image.url or f"data:{image.media_type};base64,{base64.b64encode(image.data).decode()}"


def _is_empty(message: Message) -> bool:
    parts = (message.content,) if isinstance(message.content, str) else message.content
    spoken = any(not isinstance(part, str) or part.strip() for part in parts)
    return message.role == "assistant" and not message.tool_calls and not spoken


def _message(message: Message) -> dict[str, Any]:
    if message.role == "user":
        return {"role": "user", "content": _content(message)}
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": message.call_id, "content": _content(message)}
    said: dict[str, Any] = {"role": "assistant", "content": _content(message) or None}
    if message.tool_calls:
        said["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    return said


def _content(message: Message) -> str | list[dict[str, Any]]:
    if isinstance(message.content, str):
        return message.content
    return [_part(message, part) for part in message.content] or ""


def _part(message: Message, part: str | Part) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if isinstance(part, NativePart):
        if part.api != "chat":
            raise ModelError(f"a part made for {part.api!r} cannot be sent by chat completions")
        return part.content
    if message.role != "user":
        raise ModelError(f"chat completions take images from users only, not in a message of role {message.role!r}")
    return {"type": "image_url", "image_url": {"url": to_data_url(part)}}


class ChatAnswer:
    """Gathers the chunks of one streamed completion."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._text = Mender()
        self._calls: dict[int, _Call] = {}
        self._usage = Usage()
        self._finish: str | None = None
        self._refused = False

    def take(self, chunk: ChatCompletionChunk) -> Iterator[str]:
        """Take the next chunk; yield the text in it. Only the first choice counts."""
        self._model = chunk.model or self._model
        if chunk.usage:
            self._usage = _usage(chunk.usage)
        for choice in chunk.choices:
            if choice.index:
                continue
            delta = choice.delta
            self._refused = self._refused or bool(delta.refusal)
            yield self._text.feed((delta.content or "") + (delta.refusal or ""))
            for part in delta.tool_calls or ():
                self._take_call(part)
            self._finish = choice.finish_reason or self._finish

    def end(self) -> Iterator[str | Reply]:
        """Yield the rest of the text, and the reply. Raises `Truncated` if the stream ended early."""
        if self._finish is None:
            raise Truncated("the stream ended without a finish_reason")
        yield self._text.flush()
        reason: StopReason = "refusal" if self._refused else stop_reason(self._finish)
        gathered = (call for _, call in sorted(self._calls.items()))
        calls = with_distinct_ids(ToolCall(call.id, call.name, mend(call.arguments)) for call in gathered)
        if calls and reason == "end":  # some servers send "stop" with tool calls
            reason = "tool_calls"
        elif not calls and reason == "tool_calls":
            reason = "end"
        message = Message("assistant", self._text.text, calls)
        yield Reply(message=message, usage=self._usage, stop_reason=reason, model=self._model)

    def _take_call(self, part: ChoiceDeltaToolCall) -> None:
        call = self._calls.setdefault(part.index, _Call())
        # Some servers repeat id and name in each delta, so they are assigned, never appended.
        call.id = part.id or call.id
        if part.function:
            call.name = part.function.name or call.name
            call.pieces.append(part.function.arguments or "")


class _Call:
    __slots__ = ("id", "name", "pieces")

    def __init__(self) -> None:
        self.id = self.name = ""
        self.pieces: list[str] = []

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)


def _usage(reported: Any) -> Usage:
    return Usage(
        input_tokens=read_count(reported, "prompt_tokens"),
        output_tokens=read_count(reported, "completion_tokens"),
        cached_tokens=read_count(reported, "prompt_tokens_details", "cached_tokens"),
        reasoning_tokens=read_count(reported, "completion_tokens_details", "reasoning_tokens"),
    )
