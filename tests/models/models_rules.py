"""Hostile conversations, and the rules of the APIs that they are sent to."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from hypothesis import strategies as st
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming
from pydantic import TypeAdapter

from beluga_graph.models import Echo, Image, Message, Request, ToolCall
from beluga_graph.models.anthropic_wire import to_anthropic
from beluga_graph.models.chat import to_chat
from beluga_graph.models.responses import to_responses

__all__ = [
    "CONVERTERS",
    "PICTURE",
    "check_anthropic",
    "check_chat",
    "check_responses",
    "conversations",
    "texts",
]

PICTURE = Image(data=b"\x89PNG", media_type="image/png")
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

# --- conversations, as hostile as they come ---

surrogates = st.sampled_from(["\ud800", "\udfff", "\ud83d\ude00", "\x00", " ", "\n", '{"role": "system"}'])
texts = st.lists(st.text(max_size=8) | surrogates, max_size=3).map("".join)
arguments = st.one_of(
    st.sampled_from(["", "{}", '{"a": 1}', '{"a": ', "[1]", "null", '{"a": NaN}', '{"a": 1e999}', '{"\\ud800": 1}']),
    texts,
)
names = st.sampled_from(["search", "transfer_to_b", "no such tool", "x" * 90, "", "naïve", "\ud800"])
parts = st.one_of(texts, st.just(PICTURE), st.just(Image(url="https://example.org/a.png")))
# Servers that number the calls of each turn from the start repeat the same ids.
ids = st.sampled_from(["call_0", "call_1", "toolu_x", "a b", "a_b", "é" * 60, "\ud800", "x" * 60])


@st.composite
def echoes(draw: st.DrawFn, text: str, calls: int) -> Echo | None:
    """Return a strategy for answers with reasoning in the form of an API; the message may have changed since."""
    api = draw(st.sampled_from([None, "responses", "anthropic"]))
    if api is None:
        return None
    said = draw(st.sampled_from([text, "changed"]))
    calls += draw(st.sampled_from([0, 0, 1]))
    model = draw(st.sampled_from(["m", "m", "other"]))
    if api == "anthropic":
        items = [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": said}]
        return Echo("anthropic", model, (*items, *({"type": "tool_use"} for _ in range(calls))))
    part = {"type": "output_text", "text": said, "annotations": []}
    message = {"type": "message", "id": "msg", "role": "assistant", "status": "completed", "content": [part]}
    thought = {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "x"}
    return Echo("responses", model, (thought, message, *({"type": "function_call", "id": "fc"} for _ in range(calls))))


@st.composite
def turns(draw: st.DrawFn) -> tuple[Message, ...]:
    kind = draw(st.sampled_from(["user", "assistant", "calls", "calls"]))
    if kind == "user":
        return (Message("user", draw(texts | st.lists(parts, max_size=3).map(tuple))),)
    said = draw(texts)
    if kind == "assistant":
        return (Message("assistant", said, echo=draw(echoes(said, 0))),)
    called = draw(st.lists(ids, min_size=1, max_size=3, unique=True))
    calls = tuple(ToolCall(each, draw(names), draw(arguments)) for each in called)
    results = [
        Message(
            "tool", draw(texts | st.lists(texts, max_size=2).map(tuple)), call_id=each, is_error=draw(st.booleans())
        )
        for each in draw(st.permutations(called))
    ]
    return (Message("assistant", said, calls, echo=draw(echoes(said, len(calls)))), *results)


conversations = st.tuples(
    (texts | st.lists(parts, max_size=3).map(tuple)).map(lambda content: (Message("user", content),)),
    st.lists(turns(), max_size=6),
).map(lambda drawn: (*drawn[0], *(message for turn in drawn[1] for message in turn)))

# --- the rules of the APIs ---


def forced(value: Any) -> Any:
    """Read lazy values to the end: the SDKs' types use Iterable, which pydantic checks only when it is read."""
    if isinstance(value, dict):
        return {key: forced(part) for key, part in value.items()}
    if value is None or isinstance(value, str | int | float):
        return value
    return [forced(part) for part in value]


def check_shape(adapter: TypeAdapter[Any], body: dict[str, Any]) -> None:
    """Check that a body fits the SDK's own types, which drop unknown keys, and that it can be sent."""
    assert forced(adapter.validate_python(body)) == body
    json.dumps(body, ensure_ascii=False, allow_nan=False).encode()


CHAT: TypeAdapter[Any] = TypeAdapter(CompletionCreateParamsStreaming)
RESPONSES: TypeAdapter[Any] = TypeAdapter(ResponseCreateParamsStreaming)
ANTHROPIC: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsStreaming)


def is_object(text: str) -> bool:
    return isinstance(json.loads(text, parse_constant=lambda _: pytest.fail("not JSON")), dict)


def check_chat(body: dict[str, Any]) -> None:
    check_shape(CHAT, body)
    due: list[str] = []
    for message in body["messages"]:
        if message["role"] == "tool":
            due.remove(message["tool_call_id"])
            continue
        assert not due, "each call is answered before anything else is said"
        assert message.get("content") or message["role"] == "user" or message.get("tool_calls")
        for call in message.get("tool_calls", ()):
            assert NAME.fullmatch(call["function"]["name"])
            assert is_object(call["function"]["arguments"])
            assert 0 < len(call["id"]) <= 40
            due.append(call["id"])
    assert not due


def check_responses(body: dict[str, Any]) -> None:
    check_shape(RESPONSES, body)
    calls = [item for item in body["input"] if item.get("type") == "function_call"]
    results = [item["call_id"] for item in body["input"] if item.get("type") == "function_call_output"]
    assert sorted(call["call_id"] for call in calls) == sorted(results)
    assert len(set(results)) == len(results)
    assert all(NAME.fullmatch(call["name"]) and is_object(call["arguments"]) for call in calls)


def check_anthropic(body: dict[str, Any]) -> None:
    check_shape(ANTHROPIC, body)
    roles = [message["role"] for message in body["messages"]]
    assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"] * (len(roles) % 2)
    due: list[str] = []
    seen: set[str] = set()
    for message in body["messages"]:
        assert message["content"]
        results = [block["tool_use_id"] for block in message["content"] if block["type"] == "tool_result"]
        assert results == due, "the results of a turn open the next message, in the order of the calls"
        assert [block["type"] for block in message["content"][: len(due)]] == ["tool_result"] * len(due)
        due = [block["id"] for block in message["content"] if block["type"] == "tool_use"]
        assert not due or message["role"] == "assistant"
        assert not seen & set(due)
        seen |= set(due)
        for block in message["content"]:
            if block["type"] == "text":
                assert block["text"].strip()
            elif block["type"] == "tool_use":
                assert NAME.fullmatch(block["name"])
                assert re.fullmatch(r"[A-Za-z0-9_-]+", block["id"])
            elif block["type"] == "thinking":
                assert block["signature"] == "s"
    assert not due
    last = body["messages"][-1]["content"][-1]
    assert roles[-1] == "user" or last["type"] != "text" or last["text"] == last["text"].rstrip()
    assert "tools" in body or not seen


Convert = Callable[[Request], dict[str, Any]]
CONVERTERS: dict[str, tuple[Convert, Callable[[dict[str, Any]], None], str]] = {
    "chat": (lambda request: to_chat(request, "m"), check_chat, "messages"),
    "responses": (lambda request: to_responses(request, "m"), check_responses, "input"),
    "anthropic": (lambda request: to_anthropic(request, "m", 100), check_anthropic, "messages"),
}
