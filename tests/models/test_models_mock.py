"""Each adapter against a server that is accurate on the wire: its answers and its failures."""

import asyncio
import contextlib
import gc
import json
import pickle
from collections.abc import AsyncIterator, Iterator

import pytest
from llmock.scenarios import Fail, StreamFault, ToolFault
from llmock.scenarios import Reply as Said
from llmock.scenarios import ToolCall as Called
from llmock.testing import LLMockServer
from models_wire import APIS, model_of

from beluga_graph.errors import ModelError
from beluga_graph.models import Message, Model, Reply, Request, ToolSpec, Usage, ask

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = ToolSpec("get_weather", "Weather of a city", CITY)
HELLO = Request(messages=(Message("user", "What is the weather like in Paris today?"),), system="Be brief.")
WITH_TOOL = Request(messages=HELLO.messages, tools=(WEATHER,))


@pytest.fixture(params=APIS)
async def model(request: pytest.FixtureRequest, mock: LLMockServer) -> AsyncIterator[Model]:
    model = model_at(mock, request.param, timeout=60)
    yield model
    await model.aclose()  # type: ignore[attr-defined]


def model_at(mock: LLMockServer, api: str, *, timeout: float) -> Model:
    return model_of(api, mock.base_url("anthropic" if api == "anthropic" else "openai"), timeout=timeout)


@pytest.fixture(autouse=True)
def garbage_of_this_thread() -> Iterator[None]:
    """Collect garbage in this thread only.

    An SDK leaves the generators of a broken answer to the collector. The thread of the mock server must not finalize
    them while the loop of this thread runs them.
    """
    gc.disable()
    yield
    gc.collect()
    gc.enable()


async def ask_with_pieces(model: Model, request: Request) -> tuple[list[str], Reply]:
    pieces: list[str] = []
    return pieces, await ask(model, request, pieces.append)


async def reply_or_retry(model: Model, request: Request) -> Reply | None:
    """Return the reply, or None for an error that may be retried."""
    try:
        return await ask(model, request)
    except ModelError as error:
        if not error.retryable:
            raise
        return None


async def test_text_arrives_in_pieces_and_then_whole(model: Model, mock: LLMockServer) -> None:
    mock.state.scenarios.add(Said(text="It is sunny in Paris."))
    pieces, reply = await ask_with_pieces(model, HELLO)
    assert len(pieces) > 2
    assert reply.message == Message("assistant", "It is sunny in Paris.")
    assert "".join(pieces) == reply.message.content
    assert (reply.stop_reason, reply.model) == ("end", "m")


async def test_every_adapter_reports_usage(model: Model, mock: LLMockServer) -> None:
    mock.state.scenarios.add(Said(text="It is sunny in Paris."))
    _, reply = await ask_with_pieces(model, HELLO)
    assert reply.usage.input_tokens > 0
    assert reply.usage.output_tokens > 0
    assert reply.usage + Usage(input_tokens=1) == Usage(
        input_tokens=reply.usage.input_tokens + 1, output_tokens=reply.usage.output_tokens
    )


async def test_a_tool_call_is_read(model: Model, mock: LLMockServer) -> None:
    mock.state.scenarios.add(Said(tool_calls=(Called("get_weather", {"city": "Paris"}),)))
    pieces, reply = await ask_with_pieces(model, WITH_TOOL)
    assert pieces == []
    [call] = reply.message.tool_calls
    assert call.name == "get_weather"
    assert json.loads(call.arguments) == {"city": "Paris"}
    assert reply.stop_reason == "tool_calls"


async def test_text_and_several_tool_calls_are_read_in_order_and_sent_back(model: Model, mock: LLMockServer) -> None:
    cities = ["Paris", "Rome", "Oslo"]
    calls = tuple(Called("get_weather", {"city": city}) for city in cities)
    mock.state.scenarios.add(Said(text="Let me look.", tool_calls=calls), Said(text="Sunny, all."))
    _, reply = await ask_with_pieces(model, WITH_TOOL)
    assert reply.message.text == "Let me look."
    assert [json.loads(call.arguments)["city"] for call in reply.message.tool_calls] == cities
    assert len({call.id for call in reply.message.tool_calls}) == 3
    results = (Message("tool", "sunny", call_id=call.id, name=call.name) for call in reply.message.tool_calls)
    after = Request(messages=(*WITH_TOOL.messages, reply.message, *results), tools=(WEATHER,))
    _, last = await ask_with_pieces(model, after)
    assert last.message.text == "Sunny, all."


async def test_broken_arguments_stay_as_they_were_sent(model: Model, mock: LLMockServer) -> None:
    mock.state.scenarios.add(ToolFault("malformed_arguments"))
    _, reply = await ask_with_pieces(model, WITH_TOOL)
    [call] = reply.message.tool_calls
    assert call.arguments == '{"city": "'
    result = Message("tool", "these are no arguments", call_id=call.id, is_error=True)
    mock.state.scenarios.add(Said(text="Sorry."))
    after = Request(messages=(*WITH_TOOL.messages, reply.message, result), tools=(WEATHER,))
    assert (await ask_with_pieces(model, after))[1].message.text == "Sorry."


async def test_a_cut_off_answer_has_the_stop_reason_length(model: Model, mock: LLMockServer) -> None:
    mock.state.scenarios.add(Said(text="It is sun", finish_reason="length"))
    assert (await ask_with_pieces(model, HELLO))[1].stop_reason == "length"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
async def test_a_refused_request_is_not_retryable(model: Model, mock: LLMockServer, status: int) -> None:
    mock.state.scenarios.add(Fail(status, message="it is wrong"))
    with pytest.raises(ModelError, match=f"model 'm': status {status}: it is wrong") as caught:
        await ask(model, HELLO)
    assert (caught.value.retryable, caught.value.retry_after) == (False, None)
    assert len(mock.state.journal.records(wait=60)) == 1


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
async def test_an_overloaded_server_is_a_retryable_error_and_the_adapter_does_not_retry(
    model: Model, mock: LLMockServer, status: int
) -> None:
    mock.state.scenarios.add(Fail(status, retry_after=7.5), Said(text="Sunny."))
    with pytest.raises(ModelError, match=f"status {status}") as caught:
        await ask(model, HELLO)
    assert (caught.value.retryable, caught.value.retry_after) == (True, 7.5)
    assert type(caught.value.__cause__).__module__.startswith(("openai", "anthropic"))
    assert len(mock.state.journal.records(wait=60)) == 1
    assert (await ask(model, HELLO)).message.text == "Sunny."


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("disconnect", "peer closed connection"),
        ("truncate", "truncated answer: the stream ended without"),
        ("malformed", "malformed answer: JSONDecodeError"),
    ],
)
async def test_a_stream_that_breaks_is_one_error_that_may_be_retried(
    model: Model, mock: LLMockServer, kind: str, message: str
) -> None:
    said = "one two three four five"
    mock.state.scenarios.add(Said(text=said, times=2))
    mock.state.scenarios.add(StreamFault(kind, after_chunks=6))  # type: ignore[arg-type]
    pieces: list[str] = []
    with pytest.raises(ModelError, match=message) as caught:
        await ask(model, HELLO, pieces.append)
    assert caught.value.retryable
    assert said.startswith("".join(pieces))
    assert pieces
    assert (await ask(model, HELLO)).message.text == said


@pytest.mark.parametrize("api", APIS)
async def test_a_stream_that_falls_silent_is_an_error_after_the_timeout(api: str, mock: LLMockServer) -> None:
    model = model_at(mock, api, timeout=1)
    mock.state.scenarios.add(Said(text="one two three four five"))
    mock.state.scenarios.add(StreamFault("stall", after_chunks=6, stall_seconds=10))
    with pytest.raises(ModelError, match=r"no answer in time|the answer stalled") as caught:
        await ask(model, HELLO)
    assert caught.value.retryable
    await model.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["disconnect", "truncate", "malformed"])
async def test_a_stream_that_breaks_anywhere_gives_the_whole_answer_or_a_retryable_error(
    model: Model, mock: LLMockServer, kind: str
) -> None:
    called = Called("get_weather", {"city": "Paris"})
    for place in range(25):
        mock.state.scenarios.clear()
        mock.state.scenarios.add(Said(text="one two", tool_calls=(called,)))
        mock.state.scenarios.add(StreamFault(kind, after_chunks=place))  # type: ignore[arg-type]
        reply = await reply_or_retry(model, WITH_TOOL)
        if reply is not None:  # the break came after the answer, or in a part without content (a ping)
            assert reply.message.text == "one two"
            assert [json.loads(call.arguments) for call in reply.message.tool_calls] == [{"city": "Paris"}]


async def test_a_refused_connection_is_a_retryable_error() -> None:
    for api in APIS:
        model = model_of(api, "http://127.0.0.1:1/v1")
        with pytest.raises(ModelError, match="connection failed") as caught:
            await ask(model, HELLO)
        assert caught.value.retryable


async def test_a_model_answers_again_after_its_stream_was_closed_early(model: Model, mock: LLMockServer) -> None:
    mock.state.scenarios.add(Said(text="one two three four", times=3))
    for _ in range(2):
        async with contextlib.aclosing(model.stream(HELLO)) as stream:  # type: ignore[type-var]
            async for piece in stream:
                assert piece
                break
    assert (await ask(model, HELLO)).message.text == "one two three four"
    async with asyncio.timeout(30):
        while len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110 - the loop closes generators of the SDK in tasks
            await asyncio.sleep(0)


async def test_a_model_answers_again_after_its_stream_was_cancelled(model: Model, mock: LLMockServer) -> None:
    mock.state.scenarios.add(Said(text="one two three four five", times=2))
    mock.state.scenarios.add(StreamFault("stall", after_chunks=6, stall_seconds=1))
    started = asyncio.Event()
    task = asyncio.create_task(ask(model, HELLO, lambda _: started.set()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await ask(model, HELLO)).message.text == "one two three four five"


async def test_one_model_answers_many_requests_at_once(model: Model, mock: LLMockServer) -> None:
    mock.state.scenarios.add(Said(text="yes", times=None))
    replies = await asyncio.gather(*(ask(model, HELLO) for _ in range(10)))
    assert {reply.message.text for reply in replies} == {"yes"}


async def test_the_error_survives_pickling(model: Model, mock: LLMockServer) -> None:
    mock.state.scenarios.add(Fail(429, retry_after=2))
    with pytest.raises(ModelError) as caught:
        await ask(model, HELLO)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.retryable, copy.retry_after) == (str(caught.value), True, 2.0)
