"""Every conversation is sent in a form that is valid for its API."""

import json
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from models_rules import CONVERTERS, PICTURE, check_anthropic, check_responses, conversations, texts

from beluga_graph.codec import Codec, Registry
from beluga_graph.errors import ModelError
from beluga_graph.models import (
    Echo,
    Image,
    Message,
    NativePart,
    Request,
    ToolCall,
    ToolSpec,
    check_conversation,
)
from beluga_graph.models.anthropic_wire import EMPTY, to_anthropic
from beluga_graph.models.chat import to_chat
from beluga_graph.models.normalize import BROKEN
from beluga_graph.models.responses import to_responses

every_api = pytest.mark.parametrize("api", CONVERTERS)


@every_api
@settings(max_examples=300, deadline=None)
@given(messages=conversations, system=texts)
def test_any_conversation_is_sent_in_valid_form(api: str, messages: tuple[Message, ...], system: str) -> None:
    convert, check, _ = CONVERTERS[api]
    check(convert(Request(messages=messages, system=system)))


@every_api
@settings(max_examples=100, deadline=None)
@given(messages=conversations)
def test_a_longer_conversation_is_sent_with_the_same_beginning(api: str, messages: tuple[Message, ...]) -> None:
    """So each exchange is sent once, and the provider's prompt cache is used."""
    convert, _, key = CONVERTERS[api]
    whole = convert(Request(messages=messages))[key]
    for stop in range(1, len(messages)):
        try:
            check_conversation(messages[:stop])
        except ModelError:
            continue  # between a call and its result no request is sent
        begin = convert(Request(messages=messages[:stop]))[key]
        settled = len(begin) - (api == "anthropic")  # the last message of a role may be continued
        assert whole[:settled] == begin[:settled]


@settings(max_examples=100, deadline=None)
@given(messages=conversations)
def test_a_conversation_is_stored_and_read_back_unchanged(messages: tuple[Message, ...]) -> None:
    codec = Codec(Registry.of(Message))
    assert codec.decode(codec.encode(messages)) == messages


# --- by example ---

LOOK = Message("assistant", "Let me look.", (ToolCall("a", "f", '{"x": 1}'), ToolCall("b", "g", "{broken")))
TURN = (
    Message("user", "Hi"),
    LOOK,
    Message("tool", "2", call_id="b", is_error=True),
    Message("tool", "1", call_id="a"),
    Message("user", "And?"),
)
TOOL = ToolSpec("f", "does f", {"type": "object", "properties": {"x": {"type": "integer"}}})


def test_a_turn_with_tools_is_converted_for_chat() -> None:
    body = to_chat(Request(messages=TURN, system="Be brief.", tools=(TOOL,), settings={"temperature": 0}), "gpt")
    assert body == {
        "model": "gpt",
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0,
        "tools": [
            {
                "type": "function",
                "function": {"name": "f", "description": "does f", "parameters": TOOL.parameters},
            }
        ],
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {
                "role": "assistant",
                "content": "Let me look.",
                "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
                    {
                        "id": "b",
                        "type": "function",
                        "function": {"name": "g", "arguments": '{"_broken_arguments": "{broken"}'},
                    },
                ],
            },
            {"role": "tool", "tool_call_id": "b", "content": "2"},
            {"role": "tool", "tool_call_id": "a", "content": "1"},
            {"role": "user", "content": "And?"},
        ],
    }


def test_a_turn_with_tools_is_converted_for_responses() -> None:
    body = to_responses(Request(messages=TURN, system="Be brief.", tools=(TOOL,)), "gpt")
    assert body["instructions"] == "Be brief."
    assert body["store"] is False
    assert body["tools"][0]["strict"] is False
    assert body["input"] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Let me look."},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": '{"x": 1}'},
        {"type": "function_call", "call_id": "b", "name": "g", "arguments": '{"_broken_arguments": "{broken"}'},
        {"type": "function_call_output", "call_id": "b", "output": "2"},
        {"type": "function_call_output", "call_id": "a", "output": "1"},
        {"role": "user", "content": "And?"},
    ]


def test_a_turn_with_tools_is_converted_for_anthropic() -> None:
    body = to_anthropic(Request(messages=TURN, system="Be brief.", tools=(TOOL,)), "claude", 100)
    assert body == {
        "model": "claude",
        "max_tokens": 100,
        "stream": True,
        "system": "Be brief.",
        "tools": [{"name": "f", "description": "does f", "input_schema": TOOL.parameters}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Let me look."},
                    {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
                    {"type": "tool_use", "id": "b", "name": "g", "input": {BROKEN: "{broken"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "a", "content": "1"},
                    {"type": "tool_result", "tool_use_id": "b", "content": "2", "is_error": True},
                    {"type": "text", "text": "And?"},
                ],
            },
        ],
    }


def test_the_tools_of_an_earlier_agent_are_declared_but_cannot_be_called() -> None:
    body = to_anthropic(Request(messages=TURN), "claude", 100)
    assert [tool["name"] for tool in body["tools"]] == ["f", "g"]
    assert body["tool_choice"] == {"type": "none"}


def test_an_empty_message_of_a_user_is_sent_as_a_placeholder() -> None:
    body = to_anthropic(Request(messages=(Message("user", " \n"),)), "claude", 100)
    assert body["messages"] == [{"role": "user", "content": [{"type": "text", "text": EMPTY}]}]


def test_an_image_is_sent_by_url_or_as_bytes() -> None:
    request = Request(messages=(Message("user", ("What?", PICTURE, Image(url="https://e.org/a.png"))),))
    urls = ["data:image/png;base64,iVBORw==", "https://e.org/a.png"]
    chat = to_chat(request, "m")["messages"][0]["content"]
    assert [part["image_url"]["url"] for part in chat[1:]] == urls
    items = to_responses(request, "m")["input"][0]["content"]
    assert [part["image_url"] for part in items[1:]] == urls
    blocks = to_anthropic(request, "m", 1)["messages"][0]["content"]
    assert [block["source"] for block in blocks[1:]] == [
        {"type": "base64", "media_type": "image/png", "data": "iVBORw=="},
        {"type": "url", "url": "https://e.org/a.png"},
    ]


def test_an_image_in_a_result_is_sent_where_the_api_accepts_it() -> None:
    messages = (TURN[0], Message("assistant", "", LOOK.tool_calls[:1]), Message("tool", (PICTURE,), call_id="a"))
    request = Request(messages=messages)
    check_responses(to_responses(request, "m"))
    check_anthropic(to_anthropic(request, "m", 1))
    with pytest.raises(ModelError, match="take images from users only, not in a message of role 'tool'"):
        to_chat(request, "m")


@every_api
def test_a_part_in_the_form_of_one_api_is_sent_to_that_api_only(api: str) -> None:
    for home in ("chat", "responses", "anthropic"):
        request = Request(messages=(Message("user", ("See:", NativePart(home, {"type": "file", "x": 1}))),))
        if home == api:
            assert {"type": "file", "x": 1} in CONVERTERS[api][0](request)[CONVERTERS[api][2]][0]["content"]
        else:
            with pytest.raises(ModelError, match=f"a part made for '{home}' cannot be sent"):
                CONVERTERS[api][0](request)


@every_api
def test_a_wrong_tool_name_or_setting_is_refused_before_it_is_sent(api: str) -> None:
    convert = CONVERTERS[api][0]
    hello = (Message("user", "Hi"),)
    with pytest.raises(ModelError, match="a tool is called 'my tool', which providers refuse") as caught:
        convert(Request(messages=hello, tools=(ToolSpec("my tool", "", {}),)))
    assert not caught.value.retryable
    with pytest.raises(ModelError, match="two tools are called 'f': rename one"):
        convert(Request(messages=hello, tools=(TOOL, TOOL)))
    with pytest.raises(ModelError, match="the setting 'model' cannot be set"):
        convert(Request(messages=hello, settings={"model": "other"}))


def test_an_answer_is_sent_back_in_its_original_form_only_to_its_own_model() -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    echo = Echo(
        "anthropic", "claude", (thought, {"type": "text", "text": "Let me look."}, *({"type": "tool_use"},) * 2)
    )
    message = Message("assistant", LOOK.content, LOOK.tool_calls, echo=echo)
    request = Request(messages=(TURN[0], message, *TURN[2:]))
    plain = to_anthropic(Request(messages=TURN), "claude", 1)["messages"][1]["content"]
    assert to_anthropic(request, "claude", 1)["messages"][1]["content"] == [thought, *plain]
    assert to_anthropic(request, "sonnet", 1)["messages"][1]["content"] == plain
    assert to_responses(request, "claude") == to_responses(Request(messages=TURN), "claude")
    changed = Message("assistant", "Changed.", LOOK.tool_calls, echo=echo)
    request = Request(messages=(TURN[0], changed, *TURN[2:]))
    assert thought not in to_anthropic(request, "claude", 1)["messages"][1]["content"]


# --- structured output ---

ANSWER = {
    "type": "object",
    "$defs": {"Kind": {"enum": ["a", "b"], "type": "string"}},
    "properties": {
        "n": {"type": "integer", "minimum": 1, "default": 3},
        "kind": {"$ref": "#/$defs/Kind"},
        "notes": {"type": "array", "items": {"anyOf": [{"type": "string", "maxLength": 5}, {"type": "null"}]}},
    },
    "required": ["kind"],
}


def test_an_output_schema_requires_every_field_and_forbids_others() -> None:
    request = Request(messages=TURN[:1], output_schema=ANSWER)
    strict = {
        "type": "object",
        "$defs": ANSWER["$defs"],
        "properties": {
            "n": {"type": "integer", "description": "minimum: 1"},
            "kind": {"$ref": "#/$defs/Kind"},
            "notes": {
                "type": "array",
                "items": {"anyOf": [{"type": "string", "description": "maxLength: 5"}, {"type": "null"}]},
            },
        },
        "required": ["n", "kind", "notes"],
        "additionalProperties": False,
    }
    chat = to_chat(request, "m")["response_format"]["json_schema"]
    assert chat == {"name": "output", "schema": strict, "strict": True}
    assert to_responses(request, "m")["text"]["format"] == {"type": "json_schema", **chat}
    assert to_anthropic(request, "m", 1)["output_config"]["format"] == {"type": "json_schema", "schema": strict}
    for convert, check, _ in CONVERTERS.values():
        check(convert(request))


def test_a_schema_with_free_keys_is_requested_without_strictness() -> None:
    free = {"type": "object", "properties": {"counts": {"type": "object", "additionalProperties": {"type": "integer"}}}}
    request = Request(messages=TURN[:1], output_schema=free, system="Be brief.")
    assert to_chat(request, "m")["response_format"]["json_schema"] == {
        "name": "output",
        "schema": free,
        "strict": False,
    }
    body = to_anthropic(request, "m", 1)
    assert "output_config" not in body
    assert body["system"].startswith("Be brief.\n\nAnswer with JSON only")
    assert json.dumps(free) in body["system"]


def test_settings_beside_the_format_are_kept() -> None:
    settings = {"text": {"verbosity": "low"}, "output_config": {"effort": "low"}}
    request = Request(messages=TURN[:1], output_schema=ANSWER, settings=settings)
    assert to_responses(request, "m")["text"].keys() == {"format", "verbosity"}
    assert to_anthropic(request, "m", 1)["output_config"].keys() == {"format", "effort"}


# --- the rule itself ---


def broken_conversations() -> Iterator[tuple[str, tuple[Message, ...], str]]:
    user, call, result = TURN[0], Message("assistant", "", LOOK.tool_calls[:1]), TURN[3]
    twice = Message("assistant", "", (LOOK.tool_calls[0],) * 2)
    yield "empty", (), "the conversation is empty"
    yield "starts with an answer", (Message("assistant", "Hi"),), r"message 0 .*\(assistant\) comes first"
    yield "no result", (user, call), r"ends before the results of the calls \['a'\]"
    yield (
        "late result",
        (user, call, user, result),
        r"message 2 .*\(user\) comes before the results of the calls \['a'\]",
    )
    yield "answer before result", (user, call, Message("assistant", "x"), result), "comes before the results"
    yield "two results", (user, call, result, result), "answers 'a', which no open call"
    yield "result of nothing", (user, result), "answers 'a', which no open call"
    yield "one id twice", (user, twice, result), "has a call with the id 'a': each call needs a unique id"
    yield "no id", (user, Message("assistant", "", (ToolCall("", "f", ""),))), "has a call with the id ''"
    yield "user calls", (Message("user", "", LOOK.tool_calls),), "has tool calls: only an assistant"
    yield "user answers", (Message("user", "x", call_id="a"),), "has a call_id: only a tool"
    yield "role", (user, Message("system", "x")), "has a role that is none of user, assistant, tool"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("messages", "message_of_error"), [pytest.param(m, t, id=i) for i, m, t in broken_conversations()]
)
def test_a_conversation_that_no_provider_accepts_is_refused(
    messages: tuple[Message, ...], message_of_error: str
) -> None:
    with pytest.raises(ModelError, match=message_of_error) as caught:
        check_conversation(messages)
    assert not caught.value.retryable
    for convert, _, _ in CONVERTERS.values():
        with pytest.raises(ModelError, match=message_of_error):
            convert(Request(messages=messages))


@settings(max_examples=100, deadline=None)
@given(messages=conversations)
def test_a_conversation_without_one_of_its_calls_or_results_is_refused(messages: tuple[Message, ...]) -> None:
    check_conversation(messages)
    for index, message in enumerate(messages):
        if message.role == "tool" or message.tool_calls:
            with pytest.raises(ModelError):
                check_conversation(messages[:index] + messages[index + 1 :])


def test_an_image_has_one_source() -> None:
    for wrong in ({}, {"url": "u", "data": b"x", "media_type": "image/png"}, {"data": b"x"}):
        with pytest.raises(ValueError, match="an Image"):
            Image(**wrong)  # type: ignore[arg-type]
