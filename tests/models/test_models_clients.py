"""Keys stay secret, connections end with their loop, and an unused SDK is never imported."""

import asyncio
import contextlib
import gc
import subprocess
import sys
import traceback
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from models_wire import APIS, Wire, model_of, say_text, wire_server

import beluga_graph.models
from beluga_graph.errors import ModelError
from beluga_graph.models import AnthropicModel, Message, Model, OpenAIModel, Reply, Request, ask, resolve
from beluga_graph.models.exchange import converse

HELLO = Request(messages=(Message("user", "Hi"),))
KEY = "sk-secret-0123456789"
every_api = pytest.mark.parametrize("api", APIS)


async def error_of(model: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await ask(model, HELLO)
    await model.aclose()
    return caught.value


def traceback_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


# --- keys ---


@every_api
async def test_a_key_that_a_server_repeats_is_hidden_in_the_error(api: str, wire: Wire) -> None:
    body = f'{{"error": {{"message": "Incorrect API key: {KEY}", "type": "invalid_request_error"}}}}'
    wire.say(body.encode(), 401, content_type="application/json")
    error = await error_of(model_of(api, f"http://127.0.0.1:{wire.port}", key=KEY))
    assert "Incorrect API key: ***" in str(error)
    assert KEY not in traceback_of(error)
    assert KEY in wire.headers[0], "it was sent"


REFUSED = "Rate limit exceeded for x, the token none-of-it and lm-studio: see key=lm-studios."


@every_api
@pytest.mark.parametrize("key", ["x", "e", "none", "ollama", "sk-test", "exceeded-", "none-of-i", "lm-studi"])
async def test_a_word_that_is_not_the_key_stays_in_an_error(api: str, key: str, wire: Wire) -> None:
    body = f'{{"error": {{"message": "{REFUSED}", "type": "rate_limit_error"}}}}'
    wire.say(body.encode(), 429, content_type="application/json")
    error = await error_of(model_of(api, f"http://127.0.0.1:{wire.port}", key=key))
    assert str(error).endswith(f"status 429: {REFUSED}")
    assert error.__cause__ is not None


@every_api
@pytest.mark.parametrize(
    ("key", "message", "shown"),
    [
        ("token-abc123", "the key 'token-abc123' is wrong", "the key '***' is wrong"),
        ("token-abc123", "https://x/?key=token-abc123&a=1", "https://x/?key=***&a=1"),
        ("token-abc123", "a Bearer token-abc123", "a Bearer ***"),
        (KEY, f"glued{KEY}together", "glued***together"),
        (KEY, f"%20{KEY}, again {KEY}.", "%20***, again ***."),
        ("a.key+with(signs)", "it is a.key+with(signs)", "it is ***"),
    ],
)
async def test_a_key_is_blanked_out_wherever_it_occurs_in_an_error(
    api: str, key: str, message: str, shown: str, wire: Wire
) -> None:
    wire.say(f'{{"error": {{"message": "{message}"}}}}'.encode(), 401, content_type="application/json")
    error = await error_of(model_of(api, f"http://127.0.0.1:{wire.port}", key=key))
    assert str(error).endswith(f"status 401: {shown}")
    assert key not in traceback_of(error)


@every_api
async def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(api: str) -> None:
    for odd in (f"{KEY}\n", f"{KEY} ", f"{KEY}ü"):
        error = await error_of(model_of(api, "http://127.0.0.1:1", key=odd))
        assert "contains white space or characters that a key cannot have" in str(error)
        assert KEY not in traceback_of(error)
        assert not error.retryable


@every_api
async def test_the_error_for_a_missing_key_says_where_to_put_it(api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/nonexistent")
    model = AnthropicModel("m") if api == "anthropic" else OpenAIModel("m", api=api)  # type: ignore[arg-type]
    error = await error_of(model)
    assert "api_key" in str(error)
    assert not error.retryable


@every_api
async def test_the_repr_of_a_model_hides_its_key(api: str) -> None:
    model = model_of(api, "http://127.0.0.1:1", key=KEY)
    assert KEY not in repr(model)


async def test_the_key_and_the_address_come_from_the_environment(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{wire.port}/v1")
    wire.say(say_text("chat", "ok"))
    model = resolve("openai:gpt:special")
    assert (await ask(model, HELLO)).message.text == "ok"
    assert wire.bodies[0]["model"] == "gpt:special"
    assert KEY in wire.headers[0]
    await model.aclose()  # type: ignore[attr-defined]


# --- clients and loops ---


async def wait_until_closed(wire: Wire) -> None:
    """Wait until the server has noticed that its clients have closed their connections."""
    async with asyncio.timeout(60):
        while wire.open_connections:  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0)


def ask_in_new_loop(model: Model, *, close: bool) -> tuple[Reply, int, int]:
    """Ask twice in a new loop; return a reply, and how many connections were made and are still open."""

    async def main() -> tuple[Reply, int, Wire]:
        async with wire_server() as wire:
            model._base_url = f"http://127.0.0.1:{wire.port}"  # type: ignore[attr-defined]
            wire.say(say_text(api_of(model), "ok"))
            wire.say(say_text(api_of(model), "ok"))
            await ask(model, HELLO)
            reply = await ask(model, HELLO)
            if close:
                await model.aclose()  # type: ignore[attr-defined]
                await wait_until_closed(wire)
            return reply, wire.connections, wire.open_connections

    return asyncio.run(main())


def api_of(model: Any) -> str:
    return "anthropic" if isinstance(model, AnthropicModel) else model.api


@every_api
@pytest.mark.parametrize("close", [True, False], ids=["closed", "forgotten"])
def test_a_model_serves_one_event_loop_after_the_other(api: str, close: bool) -> None:
    model = model_of(api, "")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an unclosed connection is a ResourceWarning
        for _ in range(3):
            reply, made, left = ask_in_new_loop(model, close=close)
            assert reply.message.text == "ok"
            assert made == 1, "one connection serves both requests"
            assert left == (0 if close else 1)
            gc.collect()


@every_api
def test_a_client_that_is_never_closed_is_closed_with_its_loop(api: str) -> None:
    model: Any = model_of(api, "")
    ask_in_new_loop(model, close=False)
    [(client, _)] = model._clients._kept.values()
    assert client.is_closed()


@every_api
async def test_a_model_that_is_dropped_while_its_loop_runs_closes_its_connection(api: str, wire: Wire) -> None:
    wire.say(say_text(api, "ok"))
    await ask(model_of(api, f"http://127.0.0.1:{wire.port}"), HELLO)
    assert wire.open_connections == 1
    async with asyncio.timeout(60):
        while wire.open_connections:  # the thread that made the client may still hold the model: collect again then
            gc.collect()  # an unclosed connection would be a ResourceWarning, and so an error
            await asyncio.sleep(0.001)


@every_api
async def test_closing_twice_or_before_use_does_no_harm(api: str, wire: Wire) -> None:
    model: Any = model_of(api, f"http://127.0.0.1:{wire.port}")
    await model.aclose()
    wire.say(say_text(api, "ok"))
    await ask(model, HELLO)
    await model.aclose()
    await model.aclose()
    wire.say(say_text(api, "again"))
    assert (await ask(model, HELLO)).message.text == "again"
    await model.aclose()


async def test_a_client_that_the_caller_passes_is_used_without_its_retries_and_not_closed(wire: Wire) -> None:
    url = f"http://127.0.0.1:{wire.port}"
    clients: list[tuple[str, Any, Any]] = []
    ours = openai.AsyncOpenAI(api_key=KEY, base_url=url, max_retries=5)
    clients += [
        ("chat", ours, OpenAIModel("m", client=ours)),
        ("responses", ours, OpenAIModel("m", client=ours, api="responses")),
    ]
    theirs = anthropic.AsyncAnthropic(api_key=KEY, base_url=url, max_retries=5)
    clients.append(("anthropic", theirs, AnthropicModel("m", client=theirs)))
    for api, client, model in clients:
        wire.say(b"{}", 500)
        wire.say(say_text(api, "ok"))
        with pytest.raises(ModelError, match="status 500"):
            await ask(model, HELLO)
        assert (await ask(model, HELLO)).message.text == "ok"
        await model.aclose()
        assert not client.is_closed()
    await ours.close()
    await theirs.close()


async def test_a_model_that_its_provider_retires_warns_and_answers(wire: Wire) -> None:
    name = next(iter(anthropic.resources.messages.messages.DEPRECATED_MODELS))
    wire.say(say_text("anthropic", "ok"))
    model = AnthropicModel(name, base_url=f"http://127.0.0.1:{wire.port}", api_key=KEY)
    with pytest.warns(DeprecationWarning, match="end-of-life"):
        assert (await ask(model, HELLO)).message.text == "ok"
    await model.aclose()


class Tape:
    """A stream that records whether it was closed, and yields a number."""

    closed = False

    async def __aiter__(self) -> AsyncIterator[int]:
        yield 1
        yield 2

    async def close(self) -> None:
        self.closed = True


class Listener:
    """Reads a tape, and raises at a given place."""

    def __init__(self, stumble: int = 0) -> None:
        self.stumble = stumble

    def take(self, event: int, /) -> Iterator[str]:
        if event == self.stumble:
            raise ValueError(event)
        yield str(event)

    def end(self) -> Iterator[str | Reply]:
        yield Reply(message=Message("assistant", "12"))


@pytest.mark.parametrize(("stumble", "pieces"), [(0, 1), (0, 2), (0, 3), (2, 3)])
async def test_the_stream_is_closed_at_once_however_it_ends(stumble: int, pieces: int) -> None:
    tape = Tape()

    async def begin() -> Tape:
        return tape

    heard: list[str | Reply] = []
    with contextlib.suppress(ModelError):
        async with contextlib.aclosing(converse(begin, Listener(stumble), lambda *_: ModelError("broken"))) as talk:
            async for piece in talk:
                heard.append(piece)
                if len(heard) == pieces:
                    assert tape.closed == isinstance(piece, Reply), "before the reply is given"
                    break
    assert tape.closed


# --- names, imports, the face ---


def test_a_model_name_selects_its_provider() -> None:
    assert repr(resolve("openai:gpt-5")) == "OpenAIModel('gpt-5', api='chat')"
    assert repr(resolve("anthropic:claude-x")) == "AnthropicModel('claude-x', max_tokens=4096)"
    model = OpenAIModel("x", api="responses")
    assert resolve(model) is model
    for wrong in ("gpt-5", "openai:", ":x", "mistral:x", ""):
        with pytest.raises(ModelError, match="no model is called"):
            resolve(wrong)
    with pytest.raises(ModelError, match="has no api 'completions'"):
        OpenAIModel("x", api="completions")  # type: ignore[arg-type]


def test_both_adapters_are_models() -> None:
    assert isinstance(OpenAIModel("x"), Model)
    assert isinstance(AnthropicModel("x"), Model)


async def test_a_custom_model_without_a_reply_is_an_error() -> None:
    class Silent:
        name = "silent"

        async def stream(self, request: Request, /) -> Any:
            yield "piece"

    with pytest.raises(ModelError, match="model 'silent' ended its stream without a Reply"):
        await ask(Silent(), HELLO)


def run(code: str) -> str:
    root = Path(beluga_graph.models.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_loads_no_sdk() -> None:
    code = """
import sys
from beluga_graph.models import OpenAIModel, AnthropicModel, resolve
resolve("openai:x"), resolve("anthropic:x"), OpenAIModel("x", api="responses")
loaded = {name.partition(".")[0] for name in sys.modules}
print(*loaded & {"openai", "anthropic", "httpx", "httpx2", "pydantic"})
"""
    assert run(code) == "\n"


@pytest.mark.parametrize(("provider", "other"), [("openai", "anthropic"), ("anthropic", "openai")])
def test_a_missing_sdk_is_named_with_the_way_to_get_it(provider: str, other: str) -> None:
    code = f"""
import asyncio, sys
sys.modules[{provider!r}] = None
from beluga_graph.models import *
try:
    asyncio.run(ask(resolve("{provider}:x"), Request(messages=(Message("user", "Hi"),))))
except Exception as error:
    print(type(error).__name__, error)
print({other!r} in sys.modules)
"""
    out = run(code)
    assert out.startswith("ModelError")
    assert f"pip install 'beluga-graph[{provider}]'" in out
    assert out.endswith("False\n")


def test_all_is_sorted_and_every_name_in_it_exists() -> None:
    names = beluga_graph.models.__all__
    assert names == sorted(names)
    assert all(hasattr(beluga_graph.models, name) for name in names)
