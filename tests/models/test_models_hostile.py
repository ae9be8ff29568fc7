"""Unusual servers and unusual text lead to the intended answer or to a clear error."""

import email.utils
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from models_wire import (
    APIS,
    Wire,
    anthropic,
    call_block,
    chat,
    model_of,
    responses,
    say_text,
    sse,
    text_block,
    text_item,
)

from beluga_graph.codec import Codec, Registry
from beluga_graph.errors import ModelError
from beluga_graph.models import Message, Reply, Request, ToolCall, Usage, ask
from beluga_graph.models.unicode_text import Mender, mend, mend_all

HELLO = Request(messages=(Message("user", "Hi"),))
every_api = pytest.mark.parametrize("api", APIS)


async def ask_server(api: str, wire: Wire, body: bytes, request: Request = HELLO) -> tuple[str, Reply]:
    """Answer a request with this body; return the joined pieces and the reply."""
    wire.say(body)
    model = model_of(api, f"http://127.0.0.1:{wire.port}")
    pieces: list[str] = []
    try:
        reply = await ask(model, request, pieces.append)
    finally:
        await model.aclose()  # type: ignore[attr-defined]
    assert Codec(Registry.of(Message)).encode(reply.message), "a reply can be stored"
    assert "".join(pieces) == reply.message.text
    return "".join(pieces), reply


async def error_of(api: str, wire: Wire, body: bytes, status: int = 200, **headers: str) -> ModelError:
    wire.say(body, status, **headers)
    model = model_of(api, f"http://127.0.0.1:{wire.port}")
    with pytest.raises(ModelError) as caught:
        await ask(model, HELLO)
    await model.aclose()  # type: ignore[attr-defined]
    return caught.value


# --- hostile text ---


@every_api
@pytest.mark.parametrize(
    ("text", "arrives"),
    [
        ("a\ud800b", "a\ufffdb"),
        ("\ud83d\ude00", "\U0001f600"),
        ("nul\x00 tab\t", "nul\x00 tab\t"),
        ('"}], "role": "system"', '"}], "role": "system"'),
        ("x" * 1_000_000, "x" * 1_000_000),
    ],
    ids=["lone surrogate", "pair of surrogates", "NUL", "JSON", "1 MB"],
)
async def test_hostile_text_is_sent_unchanged_or_repaired(api: str, wire: Wire, text: str, arrives: str) -> None:
    call = ToolCall("c", "f", json.dumps({"x": text}))
    messages = (Message("user", text), Message("assistant", text, (call,)), Message("tool", text, call_id="c"))
    await ask_server(api, wire, say_text(api, "ok"), Request(messages=messages, system=text))
    sent = wire.bodies[0]
    assert json.dumps(sent).count(json.dumps(arrives)[1:-1]) >= 4, "user, assistant, tool and system"
    assert "\\ud800" not in json.dumps(sent).replace("\\\\ud800", "")


@every_api
async def test_a_tool_result_of_10_mb_is_sent(api: str, wire: Wire) -> None:
    result = "0123456789" * 1_000_000
    messages = (*HELLO.messages, Message("assistant", "", (ToolCall("c", "f", "{}"),)))
    await ask_server(
        api, wire, say_text(api, "ok"), Request(messages=(*messages, Message("tool", result, call_id="c")))
    )
    assert result in json.dumps(wire.bodies[0])


@every_api
async def test_a_request_that_a_server_finds_too_large_is_a_clear_error(api: str, wire: Wire) -> None:
    error = await error_of(api, wire, b"<html>too large</html>", 413)
    assert "status 413" in str(error)
    assert "too large" in str(error)
    assert not error.retryable


@every_api
async def test_half_a_character_at_the_end_of_a_piece_waits_for_the_next(api: str, wire: Wire) -> None:
    text, reply = await ask_server(api, wire, say_text(api, "a\ud83d", "\ude00b", "c\ud800", "d\udfff", "\ud801"))
    assert text == "a\U0001f600bc\ufffdd\ufffd\ufffd"
    assert reply.message.content == text


@every_api
async def test_an_answer_of_1_mb_is_joined_from_many_pieces(api: str, wire: Wire) -> None:
    pieces = ["word " * 100] * 2_000
    text, _ = await ask_server(api, wire, say_text(api, *pieces))
    assert text == "".join(pieces)


@given(st.lists(st.text(st.characters(), max_size=3) | st.sampled_from(["\ud83d", "\ude00", "\ud800"])))
def test_repairing_pieces_equals_repairing_the_whole_text(pieces: list[str]) -> None:
    mender = Mender()
    out = [mender.feed(piece) for piece in pieces] + [mender.flush()]
    assert "".join(out) == mender.text == mend("".join(pieces))
    for piece in out:
        piece.encode()


def test_a_repair_reaches_every_text_and_changes_no_valid_one() -> None:
    assert mend_all({"\ud800": ["\udfff", ("a", 1, None, True)]}) == {"\ufffd": ["\ufffd", ["a", 1, None, True]]}
    good = "grüße \U0001f600 \ufeff\uffff"
    assert mend(good) is good


# --- answers of every kind ---


async def test_chat_counts_cached_and_reasoning_tokens(wire: Wire) -> None:
    reported = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 8},
        "completion_tokens_details": {"reasoning_tokens": 4},
    }
    _, reply = await ask_server("chat", wire, chat({"content": "x"}, usage=reported))
    assert reply.usage == Usage(input_tokens=10, output_tokens=5, cached_tokens=8, reasoning_tokens=4)
    assert reply.model == "m-1"
    assert wire.bodies[0]["stream_options"] == {"include_usage": True}


async def test_responses_counts_cached_and_reasoning_tokens(wire: Wire) -> None:
    reported = {
        "input_tokens": 10,
        "output_tokens": 5,
        "total_tokens": 15,
        "input_tokens_details": {"cached_tokens": 8},
        "output_tokens_details": {"reasoning_tokens": 4},
    }
    _, reply = await ask_server("responses", wire, responses(text_item("x"), usage=reported))
    assert reply.usage == Usage(input_tokens=10, output_tokens=5, cached_tokens=8, reasoning_tokens=4)


async def test_anthropic_counts_tokens_read_from_and_written_to_the_cache_as_input(wire: Wire) -> None:
    reported = {"input_tokens": 2, "cache_read_input_tokens": 8, "cache_creation_input_tokens": 3}
    _, reply = await ask_server("anthropic", wire, anthropic(text_block("x"), usage=reported))
    assert reply.usage == Usage(input_tokens=13, output_tokens=7, cached_tokens=8)


@pytest.mark.parametrize(
    "reported", [None, {"prompt_tokens": None}, {"prompt_tokens": -1, "completion_tokens": "many"}]
)
async def test_nonsense_as_usage_counts_as_zero(wire: Wire, reported: dict[str, Any] | None) -> None:
    _, reply = await ask_server("chat", wire, chat({"content": "x"}, usage=reported))
    assert reply.usage == Usage()


async def test_calls_of_a_server_that_repeats_the_name_and_gives_no_ids_are_read(wire: Wire) -> None:
    def delta(index: int, arguments: str) -> dict[str, Any]:
        function = {"name": "f", "arguments": arguments}
        return {"tool_calls": [{"index": index, "id": None, "type": "function", "function": function}]}

    body = chat(delta(0, '{"x"'), delta(0, ": 1}"), delta(1, "{}"), finish="stop")
    _, reply = await ask_server("chat", wire, body)
    assert reply.message.tool_calls == (ToolCall("call_0", "f", '{"x": 1}'), ToolCall("call_1", "f", "{}"))
    assert reply.stop_reason == "tool_calls"


async def test_two_calls_with_one_id_get_distinct_ids(wire: Wire) -> None:
    body = anthropic(call_block("f", "{}", call_id="same"), call_block("g", "{}", call_id="same"), stop="tool_use")
    _, reply = await ask_server("anthropic", wire, body)
    assert [call.id for call in reply.message.tool_calls] == ["same", "call_1"]


@pytest.mark.parametrize(
    ("stop", "pieces", "arguments"),
    [
        ("tool_use", [], "{}"),
        ("tool_use", [""], "{}"),
        ("tool_use", ['{"x', '": 1}'], '{"x": 1}'),
        ("tool_use", ['{"x": tru'], '{"x": tru'),
        ("max_tokens", [], ""),
        ("max_tokens", ['{"x"'], '{"x"'),
    ],
)
async def test_arguments_are_an_empty_object_only_if_the_model_finished_the_call(
    wire: Wire, stop: str, pieces: list[str], arguments: str
) -> None:
    _, reply = await ask_server("anthropic", wire, anthropic(call_block("f", *pieces), stop=stop))
    assert reply.message.tool_calls == (ToolCall("toolu_1", "f", arguments),)
    assert reply.stop_reason == ("tool_calls" if stop == "tool_use" else "length")


@pytest.mark.parametrize(
    ("reported", "reason"),
    [
        ("end_turn", "end"),
        ("stop_sequence", "end"),
        ("tool_use", "end"),  # without a call
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "refusal"),
        ("pause_turn", "pause"),
        ("something_new", "other"),
    ],
)
async def test_stop_reasons_of_anthropic_are_translated(wire: Wire, reported: str, reason: str) -> None:
    _, reply = await ask_server("anthropic", wire, anthropic(text_block("x"), stop=reported))
    assert reply.stop_reason == reason


@pytest.mark.parametrize(
    ("reported", "reason"),
    [("stop", "end"), ("length", "length"), ("content_filter", "refusal"), ("tool_calls", "end"), ("new", "other")],
)
async def test_stop_reasons_of_chat_are_translated(wire: Wire, reported: str, reason: str) -> None:
    _, reply = await ask_server("chat", wire, chat({"content": "x"}, finish=reported))
    assert reply.stop_reason == reason


@pytest.mark.parametrize(
    ("reported", "reason"), [("max_output_tokens", "length"), ("content_filter", "refusal"), (None, "other")]
)
async def test_an_incomplete_response_has_a_stop_reason(wire: Wire, reported: str | None, reason: str) -> None:
    details = {"reason": reported} if reported else None
    body = responses(text_item("x"), status="incomplete", incomplete_details=details)
    assert (await ask_server("responses", wire, body))[1].stop_reason == reason


async def test_a_refusal_is_text_and_a_reason(wire: Wire) -> None:
    text, reply = await ask_server("chat", wire, chat({"refusal": "I will "}, {"refusal": "not."}))
    assert (text, reply.stop_reason) == ("I will not.", "refusal")
    item = text_item("") | {"content": [{"type": "refusal", "refusal": "No."}]}
    text, reply = await ask_server("responses", wire, responses(item))
    assert (text, reply.stop_reason) == ("No.", "refusal")


async def test_an_answer_is_read_from_a_server_that_sends_items_only_at_the_end(wire: Wire) -> None:
    call = {"type": "function_call", "id": "fc", "call_id": "c", "name": "f", "arguments": "{}"}
    text, reply = await ask_server("responses", wire, responses(text_item("Whole."), call, deltas=False))
    assert text == "Whole."
    assert reply.message.tool_calls == (ToolCall("c", "f", "{}"),)


# --- reasoning goes back as it came ---


async def test_thinking_is_sent_back_to_anthropic_unchanged(wire: Wire) -> None:
    thinking = (
        {"type": "thinking", "thinking": "", "signature": ""},
        [
            {"type": "thinking_delta", "thinking": "Hm, "},
            {"type": "thinking_delta", "thinking": "yes."},
            {"type": "signature_delta", "signature": "sig=="},
        ],
    )
    hidden: tuple[dict[str, Any], list[dict[str, Any]]] = ({"type": "redacted_thinking", "data": "xyz"}, [])
    body = anthropic(thinking, hidden, text_block("Look", "ing."), call_block("f", '{"x": 1}'), stop="tool_use")
    text, reply = await ask_server("anthropic", wire, body)
    assert text == "Looking."
    result = Message("tool", "1", call_id="toolu_1")
    await ask_server(
        "anthropic", wire, say_text("anthropic", "ok"), Request(messages=(*HELLO.messages, reply.message, result))
    )
    assert wire.bodies[1]["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "Hm, yes.", "signature": "sig=="},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "text", "text": "Looking."},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"x": 1}},
    ]


async def test_a_thought_that_was_cut_off_is_not_sent_back(wire: Wire) -> None:
    thinking = ({"type": "thinking", "thinking": "", "signature": ""}, [{"type": "thinking_delta", "thinking": "Hm"}])
    _, reply = await ask_server("anthropic", wire, anthropic(thinking, stop="max_tokens"))
    assert reply == Reply(message=Message("assistant"), usage=reply.usage, stop_reason="length", model="m-1")


async def test_encrypted_reasoning_is_sent_back_to_responses_unchanged(wire: Wire) -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
    call = {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "c",
        "name": "f",
        "arguments": "{}",
        "status": "completed",
    }
    _, reply = await ask_server("responses", wire, responses(thought, text_item("Looking."), call))
    result = Message("tool", "1", call_id="c")
    again = Request(messages=(*HELLO.messages, reply.message, result))
    await ask_server("responses", wire, say_text("responses", "ok"), again)
    assert wire.bodies[1]["input"][1:-1] == [thought, text_item("Looking."), call]


async def test_reasoning_that_consists_of_an_id_only_is_not_sent_back(wire: Wire) -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": []}
    _, reply = await ask_server("responses", wire, responses(thought, text_item("Yes.")))
    assert reply.message == Message("assistant", "Yes.")


async def test_a_tool_that_the_provider_runs_is_kept_with_its_result(wire: Wire) -> None:
    search = call_block("web_search", '{"query": ', '"x"}', call_id="srv")
    search[0]["type"] = "server_tool_use"
    found: tuple[dict[str, Any], list[dict[str, Any]]] = (
        {"type": "web_search_tool_result", "tool_use_id": "srv", "content": []},
        [],
    )
    text = text_block("It says so.")
    where = {"type": "web_search_result_location", "cited_text": "so", "url": "u", "title": "t", "encrypted_index": "e"}
    text[1].append({"type": "citations_delta", "citation": where})
    _, reply = await ask_server("anthropic", wire, anthropic(search, found, text))
    assert reply.message.tool_calls == ()
    assert reply.message.echo is not None
    assert reply.message.echo.items == (
        {"type": "server_tool_use", "id": "srv", "name": "web_search", "input": {"query": "x"}},
        {"type": "web_search_tool_result", "tool_use_id": "srv", "content": []},
        {"type": "text", "text": "It says so.", "citations": [where]},
    )


# --- strange servers ---


@every_api
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Welcome</html>",
        sse("not JSON"),
        sse("5", "null", "[]"),
        sse({"type": "response.completed"}, {"type": "message_delta"}, {"type": "content_block_delta"}),
        sse({"choices": None, "type": "message_start"}),
        sse({"choices": [{"index": 0}]}),
        sse({"type": "response.output_text.delta", "delta": None}),
        b'data: {"choices": \xff}\n\n',
    ],
    ids=range(9),
)
async def test_an_answer_without_sense_is_one_error_that_may_be_retried(api: str, wire: Wire, body: bytes) -> None:
    error = await error_of(api, wire, body)
    assert error.retryable, error
    assert "answer" in str(error)


ANTHROPIC_ERROR = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


@pytest.mark.parametrize(
    ("api", "event", "reported", "retryable"),
    [
        ("anthropic", ANTHROPIC_ERROR, "overloaded_error: Overloaded", True),
        ("anthropic", {"type": "error", "error": {"type": "api_error", "message": "x"}}, "api_error: x", True),
        (
            "anthropic",
            {"type": "error", "error": {"type": "invalid_request_error", "message": "x"}},
            "invalid_request_error: x",
            False,
        ),
        ("chat", {"error": {"message": "busy", "type": "server_error"}}, "server_error: busy", True),
        ("chat", {"error": {"message": "busy", "code": 502}}, "502: busy", True),
        (
            "chat",
            {"error": {"message": "no", "type": "BadRequestError", "code": 400}},
            "400 BadRequestError: no",
            False,
        ),
        ("chat", {"error": {"message": "no", "type": "invalid_request_error"}}, "invalid_request_error: no", False),
        ("responses", {"type": "error", "code": "server_error", "message": "x"}, "server_error: x", True),
        (
            "responses",
            {"type": "response.failed", "response": {"error": {"code": "rate_limit_exceeded", "message": "x"}}},
            "rate_limit_exceeded: x",
            True,
        ),
        (
            "responses",
            {"type": "response.failed", "response": {"error": {"code": "invalid_prompt", "message": "x"}}},
            "invalid_prompt: x",
            False,
        ),
        ("responses", {"type": "response.failed", "response": {"error": None}}, "the response failed", True),
    ],
)
async def test_an_error_within_a_stream_is_raised_and_says_whether_it_may_be_retried(
    api: str, wire: Wire, event: dict[str, Any], reported: str, retryable: bool
) -> None:
    error = await error_of(api, wire, sse(event))
    assert "the stream reports an error" in str(error)
    assert reported in str(error)
    assert error.retryable is retryable


@every_api
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry_after": "3"}, 3.0),
        ({"retry_after": "3", "retry_after_ms": "250"}, 0.25),
        ({"retry_after": "in an hour"}, 3600.0),
        ({"retry_after": "an hour ago"}, 0.0),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "-1"}, None),
        ({"retry_after": "inf", "retry_after_ms": "nan"}, None),
    ],
    ids=["none", "seconds", "milliseconds", "date", "past date", "words", "negative", "endless"],
)
async def test_retry_after_is_reported_in_seconds(
    api: str, wire: Wire, headers: dict[str, str], seconds: float | None
) -> None:
    dates = {"in an hour": 3600, "an hour ago": -3600}
    sent = {
        name: email.utils.formatdate(time.time() + dates[reported], usegmt=True) if reported in dates else reported
        for name, reported in headers.items()
    }
    error = await error_of(api, wire, b"{}", 503, **sent)
    assert error.retryable
    assert error.retry_after == (pytest.approx(seconds, abs=60) if seconds == 3600 else seconds)


@every_api
async def test_a_server_decides_whether_its_error_may_be_retried(api: str, wire: Wire) -> None:
    assert (await error_of(api, wire, b"{}", 400, x_should_retry="true")).retryable
    assert not (await error_of(api, wire, b"{}", 503, x_should_retry="false")).retryable


async def test_an_exhausted_quota_is_not_retryable(wire: Wire) -> None:
    body = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}
    error = await error_of("chat", wire, json.dumps(body).encode(), 429, content_type="application/json")
    assert str(error) == "openai model 'm': status 429: You exceeded your current quota"
    assert not error.retryable


@every_api
async def test_an_html_page_as_an_error_is_shortened_to_one_line(api: str, wire: Wire) -> None:
    error = await error_of(api, wire, b"<p>\n\n oops </p>\n" * 10_000, 502)
    assert len(str(error)) < 1_100
    assert "\n" not in str(error)
    assert error.retryable


@every_api
async def test_a_setting_that_is_not_json_is_refused_before_it_is_sent(api: str, wire: Wire) -> None:
    model = model_of(api, f"http://127.0.0.1:{wire.port}")
    with pytest.raises(ModelError, match="the request cannot be sent: ") as caught:
        await ask(model, Request(messages=HELLO.messages, settings={"temperature": float("nan")}))
    assert not caught.value.retryable
    assert wire.bodies == []
    await model.aclose()  # type: ignore[attr-defined]


@every_api
async def test_settings_are_sent_under_their_names(api: str, wire: Wire) -> None:
    more = {"temperature": 0, "top_k": 5, "max_tokens": 9, "extra_headers": {"x-trace": "abc"}}
    await ask_server(api, wire, say_text(api, "ok"), Request(messages=HELLO.messages, settings=more))
    assert {"temperature": 0, "top_k": 5, "max_tokens": 9}.items() <= wire.bodies[0].items()
    assert "extra_headers" not in wire.bodies[0]
    assert "x-trace: abc" in wire.headers[0].lower()
