"""The wire format of Anthropic's messages API."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from beluga_graph.errors import ModelError
from beluga_graph.models.messages import Echo, Message, NativePart, Part, Reply, Request, StopReason, ToolCall, Usage
from beluga_graph.models.normalize import arguments_of, body_with_settings, normalize_request
from beluga_graph.models.strict_schema import close_schema
from beluga_graph.models.unicode_text import Mender, mend, mend_all
from beluga_graph.models.wire_common import Truncated, read_count, restore_items, stop_reason, with_distinct_ids

if TYPE_CHECKING:
    from anthropic.types import RawMessageStreamEvent
    from anthropic.types.raw_content_block_delta import RawContentBlockDelta

__all__ = ["EMPTY", "AnthropicAnswer", "to_anthropic"]

EMPTY = "(empty)"
"""The text of an empty user message: the API refuses empty messages, and a turn cannot be left out."""


def to_anthropic(request: Request, model: str, max_tokens: int) -> dict[str, Any]:
    """Return the body of a streamed message. Raises `ModelError` if the request cannot be expressed.

    Roles alternate: several messages of one side become one, and the results of a turn's calls are the first parts of
    the next user message, in the order of the calls. Blank text is left out. If no tool is offered, tools that occur
    earlier in the conversation are declared but cannot be called, because the API requires a declaration. The setting
    `output_config` is merged with the format made from `output_schema`. A schema that cannot be strict (see
    `close_schema`) is described in the system prompt instead.
    """
    request = normalize_request(request)
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": max_tokens,
        "messages": _alternating(request.messages, model),
        "stream": True,
    }
    system = [request.system] if request.system.strip() else []
    if request.output_schema is not None:
        strict = close_schema(request.output_schema)
        if strict is not None:
            body["output_config"] = {"format": {"type": "json_schema", "schema": strict}}
        else:
            system.append(f"Answer with JSON only, valid for this JSON schema:\n{json.dumps(request.output_schema)}")
    if system:
        body["system"] = "\n\n".join(system)
    if request.tools:
        body["tools"] = [
            {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}
            for tool in request.tools
        ]
    elif past := dict.fromkeys(call.name for message in request.messages for call in message.tool_calls):
        body["tools"] = [{"name": name, "input_schema": {"type": "object"}} for name in past]
        body["tool_choice"] = {"type": "none"}
    return body_with_settings(body, request.settings, merged="output_config")


def _alternating(messages: tuple[Message, ...], model: str) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    results: dict[str, dict[str, Any] | None] = {}  # of the open calls, in their order
    for message in messages:
        if message.role == "tool":
            results[message.call_id] = _result(message)
            if all(results.values()):
                _say(turns, "user", [result for result in results.values() if result])
                results = {}
        elif message.role == "user":
            _say(turns, "user", _blocks(message) or [{"type": "text", "text": EMPTY}])
        else:
            results = dict.fromkeys((call.id for call in message.tool_calls), None)
            _say(turns, "assistant", _answer(message, model))
    last = turns[-1]
    if last["role"] == "assistant" and last["content"][-1]["type"] == "text":
        # The API refuses trailing white space in the last message.
        last["content"][-1] = {**last["content"][-1], "text": last["content"][-1]["text"].rstrip()}
    return turns


def _say(turns: list[dict[str, Any]], role: str, blocks: list[dict[str, Any]]) -> None:
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"].extend(blocks)
    elif blocks:
        turns.append({"role": role, "content": blocks})


def _result(message: Message) -> dict[str, Any]:
    content = message.content if isinstance(message.content, str) else _blocks(message)
    block: dict[str, Any] = {"type": "tool_result", "tool_use_id": message.call_id}
    if content:
        block["content"] = content
    if message.is_error:
        block["is_error"] = True
    return block


def _answer(message: Message, model: str) -> list[dict[str, Any]]:
    calls = [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": mend_all(arguments_of(call))}
        for call in message.tool_calls
    ]
    echo = restore_items(message, "anthropic", model, text_of=_text_of, call_type="tool_use", calls=calls)
    if echo is None:
        return _blocks(message) + calls
    return [block for block in echo if block.get("type") != "text" or _text_of(block).strip()]


def _blocks(message: Message) -> list[dict[str, Any]]:
    parts = (message.content,) if isinstance(message.content, str) else message.content
    return [_part(message, part) for part in parts if not isinstance(part, str) or part.strip()]


def _part(message: Message, part: str | Part) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if isinstance(part, NativePart):
        if part.api != "anthropic":
            raise ModelError(f"a part made for {part.api!r} cannot be sent to Anthropic")
        return part.content
    if message.role == "assistant":
        raise ModelError("Anthropic takes images from users and tools only, not from an assistant")
    if part.url:
        return {"type": "image", "source": {"type": "url", "url": part.url}}
    encoded = base64.b64encode(part.data).decode()
    return {"type": "image", "source": {"type": "base64", "media_type": part.media_type, "data": encoded}}


def _text_of(block: dict[str, Any]) -> str:
    return str(block.get("text", "")) if block.get("type") == "text" else ""


class AnthropicAnswer:
    """Gathers the raw events of one streamed message.

    The helper of the SDK parses arguments leniently and turns broken ones into `{}`, so the pieces are gathered here.
    """

    def __init__(self, model: str) -> None:
        self._asked = self._model = model
        self._text = Mender()
        self._blocks: dict[int, _Block] = {}
        self._stop: str | None = None
        self._reported: dict[str, int] = {}

    def take(self, event: RawMessageStreamEvent) -> Iterator[str]:
        """Take the next event; yield the text in it."""
        if event.type == "message_start":
            self._model = event.message.model or self._model
            self._take_usage(event.message.usage)
        elif event.type == "content_block_start":
            block = _Block(event.content_block.to_dict(mode="json", warnings=False))
            self._blocks[event.index] = block
            yield self._text.feed(_text_of(block.start))
        elif event.type == "content_block_delta":
            if event.delta.type == "text_delta":
                yield self._text.feed(event.delta.text)
            self._blocks[event.index].take(event.delta)
        elif event.type == "message_delta":
            self._stop = event.delta.stop_reason or self._stop
            self._take_usage(event.usage)

    def end(self) -> Iterator[str | Reply]:
        """Yield the rest of the text, and the reply. Raises `Truncated` if the stream ended early."""
        if self._stop is None:
            raise Truncated("the stream ended without a stop_reason")
        yield self._text.flush()
        blocks = [block for _, block in sorted(self._blocks.items())]
        reason = stop_reason(self._stop)
        calls = with_distinct_ids(
            block.call(whole=reason == "tool_calls") for block in blocks if block.type == "tool_use"
        )
        if calls and reason == "end":
            reason = "tool_calls"
        elif not calls and reason == "tool_calls":
            reason = "end"
        message = Message("assistant", self._text.text, calls, echo=self._echo(blocks, reason))
        yield Reply(message=message, usage=self._usage(), stop_reason=reason, model=self._model)

    def _echo(self, blocks: list[_Block], reason: StopReason) -> Echo | None:
        # An answer that was cut off may end with reasoning whose signature is missing.
        if reason == "length" or all(block.type in ("text", "tool_use") for block in blocks):
            return None
        return Echo("anthropic", self._asked, tuple(block.item() for block in blocks))

    def _take_usage(self, reported: Any) -> None:
        for name in ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"):
            if getattr(reported, name, None) is not None:  # each number is the sum so far
                self._reported[name] = read_count(reported, name)
        self._reported["thinking"] = read_count(
            reported, "output_tokens_details", "thinking_tokens"
        ) or self._reported.get("thinking", 0)

    def _usage(self) -> Usage:
        reported = self._reported
        cached = reported.get("cache_read_input_tokens", 0)
        return Usage(
            input_tokens=reported.get("input_tokens", 0) + cached + reported.get("cache_creation_input_tokens", 0),
            output_tokens=reported.get("output_tokens", 0),
            cached_tokens=cached,
            reasoning_tokens=reported.get("thinking", 0),
        )


class _Block:
    """One content block: its start, and the pieces that followed."""

    __slots__ = ("citations", "pieces", "start", "type")

    def __init__(self, start: dict[str, Any]) -> None:
        self.start = start
        self.type = str(start.get("type", ""))
        self.pieces: dict[str, list[str]] = {}
        self.citations: list[Any] = []

    def take(self, delta: RawContentBlockDelta) -> None:
        if delta.type == "text_delta":
            self._add("text", delta.text)
        elif delta.type == "input_json_delta":
            self._add("input", delta.partial_json)
        elif delta.type == "thinking_delta":
            self._add("thinking", delta.thinking)
        elif delta.type == "signature_delta":
            self._add("signature", delta.signature)
        elif delta.type == "citations_delta":
            self.citations.append(delta.citation.to_dict(mode="json", warnings=False))

    def call(self, *, whole: bool) -> ToolCall:
        """Return the tool call. If the answer is `whole`, missing arguments mean `{}`."""
        arguments = mend("".join(self.pieces.get("input", ())))
        given = self.start.get("input")
        if not arguments and (given or whole):  # some servers send the whole input at the start of the block
            arguments = json.dumps(given or {})
        return ToolCall(str(self.start.get("id") or ""), str(self.start.get("name") or ""), arguments)

    def item(self) -> dict[str, Any]:
        """Return the block in the form that is sent back. A call omits the fields that the message has."""
        item = {key: part for key, part in self.start.items() if part is not None}
        if self.type == "tool_use":
            return {key: part for key, part in item.items() if key not in ("id", "name", "input")}
        item |= {key: self._whole(key) for key in self.pieces if key != "input"}
        if "input" in self.pieces:  # a tool that the provider runs itself
            item["input"] = arguments_of(ToolCall("", "", "".join(self.pieces["input"])))
        if self.citations:
            item["citations"] = self.citations
        return item

    def _whole(self, key: str) -> str:
        return str(self.start.get(key) or "") + "".join(self.pieces.get(key, ()))

    def _add(self, key: str, piece: str) -> None:
        self.pieces.setdefault(key, []).append(piece)
