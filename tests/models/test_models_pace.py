"""An answer in one burst does not block the event loop: watchers see its beginning, and other runs continue."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from models_wire import APIS, Wire, call_block, chat, model_of, say_text
from models_wire import anthropic as anthropic_stream

from beluga_graph import Agent, Engine, Graph
from beluga_graph.models import Message, Reply, Request, ask
from beluga_graph.models.exchange import converse
from beluga_graph.plan.declared import END, START

HELLO = Request(messages=(Message("user", "Hi"),))
PIECES = 500


@contextmanager
def turns_counted() -> Iterator[list[int]]:
    """Count the turns of the running loop."""
    turns = [0]

    async def count() -> None:
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    task = asyncio.get_running_loop().create_task(count())
    try:
        yield turns
    finally:
        task.cancel()


def work() -> None:
    """Block the loop for longer than an answer may."""
    loop = asyncio.get_running_loop()
    until = loop.time() + 0.002
    while loop.time() < until:
        pass


class Burst:
    """A model that has its whole answer at once and never pauses."""

    name = "burst"

    def __init__(self, pieces: int) -> None:
        self.pieces = pieces
        self.said = 0

    async def stream(self, request: Request, /) -> AsyncIterator[str | Reply]:
        for _ in range(self.pieces):
            self.said += 1
            yield "x"
            work()
        yield Reply(message=Message("assistant", "x" * self.pieces))


@pytest.mark.parametrize("api", APIS)
async def test_the_first_piece_of_a_burst_is_seen_before_the_second_is_read(api: str, wire: Wire) -> None:
    model: Any = model_of(api, f"http://127.0.0.1:{wire.port}")
    wire.say(say_text(api, *["word "] * PIECES))
    arrived, pieces = asyncio.Event(), list[str]()
    read_when_seen: list[int] = []

    def on_text(piece: str) -> None:
        pieces.append(piece)
        arrived.set()

    async def watch() -> None:
        await arrived.wait()
        read_when_seen.append(len(pieces))

    watcher = asyncio.create_task(watch())
    reply = await ask(model, HELLO, on_text)
    await watcher
    await model.aclose()
    assert reply.message.text == "".join(pieces) == "word " * PIECES
    assert read_when_seen == [1]


async def test_the_loop_turns_while_a_model_yields_without_a_pause() -> None:
    with turns_counted() as turns:
        await ask(Burst(20), HELLO, lambda _: None)
        assert turns[0] >= 20


async def test_the_loop_turns_even_without_a_reader_of_the_text() -> None:
    with turns_counted() as turns:
        await ask(Burst(20), HELLO)
        assert turns[0] >= 20


async def test_the_loop_turns_while_events_without_text_are_read() -> None:
    class Silent:
        def take(self, event: int) -> Iterator[str]:
            work()
            return iter(())

        def end(self) -> Iterator[str | Reply]:
            yield Reply(message=Message("assistant"))

    class Stream:
        async def __aiter__(self) -> AsyncIterator[int]:
            for number in range(20):
                yield number

        async def close(self) -> None: ...

    async def begin() -> Stream:
        return Stream()

    def fault(error: Exception, phase: str) -> Any:
        raise AssertionError(phase) from error

    with turns_counted() as turns:
        assert [piece async for piece in converse(begin, Silent(), fault)] == [Reply(message=Message("assistant"))]
        assert turns[0] >= 20


@pytest.mark.parametrize("api", ["chat", "anthropic"])
async def test_a_call_whose_arguments_come_in_a_burst_is_read_whole(api: str, wire: Wire) -> None:
    pieces = ['{"text": "', *["x"] * PIECES, '"}']
    if api == "anthropic":
        wire.say(anthropic_stream(call_block("note", *pieces), stop="tool_use"))
    else:
        first = {"index": 0, "id": "c1", "function": {"name": "note", "arguments": ""}}
        deltas = [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in pieces]
        wire.say(chat({"tool_calls": [first]}, *deltas, finish="tool_calls"))
    model: Any = model_of(api, f"http://127.0.0.1:{wire.port}")
    reply = await ask(model, HELLO)
    await model.aclose()
    assert [call.arguments for call in reply.message.tool_calls] == ["".join(pieces)]


async def test_watchers_and_other_runs_do_not_wait_for_the_end_of_a_burst() -> None:
    model = Burst(100)
    quick = Graph("quick")

    @quick.node
    async def one(value: int) -> int:
        return value + 1

    quick.edge(START, one)
    quick.edge(one, END)
    said_at_first, said_at_end = 0, 0
    said_at_other: list[int] = []
    async with Engine() as engine:
        async for event in engine.stream(Agent("talker", model=model), "go"):
            if event.type != "text":
                continue
            if not said_at_first:
                said_at_first = model.said
                other = asyncio.create_task(engine.execute(quick, 1))
                other.add_done_callback(lambda _: said_at_other.append(model.said))
            said_at_end = model.said
        assert await other == 2
    assert said_at_first == 1
    assert said_at_end == 100
    assert said_at_other[0] < 100
