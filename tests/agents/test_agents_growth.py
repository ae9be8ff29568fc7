"""The cost of a growing conversation: bytes that are sent, stored and read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from agents_checks import assert_valid, request_texts, results

from beluga_graph import Agent, Engine, HandoffInput, RunFailed, handoff_to
from beluga_graph.codec import Codec
from beluga_graph.models.messages import Echo, Image, Message, Reply, Request
from beluga_graph.testing import ScriptedModel, ToolCall
from stores import MemoryStore
from stores.base import Delete, Op, Put

TURNS = 2_000


def echo(n: int) -> int:
    return n


class Weighed(MemoryStore):
    """Counts the bytes of each commit."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[int] = []

    def commit(self, *ops: Op) -> None:
        self.weights.append(sum(len(op.key) + len(op.value) for op in ops if isinstance(op, Put)))
        super().commit(*ops)

    def size(self) -> int:
        return sum(len(key) + len(value) for key, value in self.scan(b""))


@pytest.mark.parametrize("k", [0, 1, 7, 30])
async def test_after_k_tool_calls_the_next_request_holds_each_exchange_once(k: int) -> None:
    model = ScriptedModel([*(ToolCall("echo", {"n": n}) for n in range(k)), "done"])
    assert await Agent("a", model=model, tools=[echo], max_turns=k + 1).invoke("go") == "done"
    last = model.requests[-1]
    assert_valid(last.messages)
    assert [text for _, text, _ in results(last)] == [str(n) for n in range(k)]
    assert len(last.messages) == 1 + 2 * k
    for earlier, later in zip(model.requests, model.requests[1:], strict=False):
        assert later.messages[: len(earlier.messages)] == earlier.messages, "a conversation only grows"


async def test_two_thousand_turns_store_bytes_in_proportion_and_no_turn_stores_more_than_the_first() -> None:
    lengths: list[int] = []

    def answer(request: Request) -> Any:
        lengths.append(len(request.messages))
        return "done" if len(lengths) > TURNS else ToolCall("echo", {"n": 1000 + len(lengths)})

    sizes: dict[int, int] = {}
    store = Weighed()

    def weigh(request: Request) -> Any:
        sizes[len(lengths)] = store.size() if len(lengths) in (TURNS // 4, TURNS // 2, TURNS) else 0
        return answer(request)

    agent = Agent("a", model=ScriptedModel(weigh), tools=[echo], max_turns=TURNS + 1)
    async with Engine(store) as engine:
        assert await engine.execute(agent, "go") == "done"
    assert lengths == list(range(1, 2 * TURNS + 2, 2))
    quarter, half, whole = (sizes[n] for n in (TURNS // 4, TURNS // 2, TURNS))
    assert abs((whole - half) / (half - quarter) - 2) < 0.1, "twice as many turns, twice as many bytes"
    # In windows, since a full snapshot is due now and then; what grows is the digits of the visits in names.
    windows = [sum(store.weights[n : n + 400]) for n in range(400, len(store.weights) - 400, 400)]
    assert max(windows) < 1.15 * min(windows)


async def test_each_run_of_a_session_stores_as_much_as_the_one_before() -> None:
    model = ScriptedModel(lambda _: "an answer of always the same length")
    agent = Agent("a", model=model)
    store = Weighed()
    weights = []
    async with Engine(store) as engine:
        for number in range(150):
            store.weights.clear()
            await engine.execute(agent, "a question", session="s", run_id=f"run{number:04}")
            weights.append(sum(store.weights))
    assert len(model.requests[-1].messages) == 2 * 149 + 1
    assert max(weights[1:]) - min(weights[1:]) < 0.02 * min(weights)


# Messages are decoded once: their mutable parts must still be copies.


async def test_a_reader_that_changes_a_message_changes_only_its_own_copy() -> None:
    echoed = Echo("anthropic", "m", ({"type": "thinking", "signature": "intact"},))
    first = Reply(message=Message(role="assistant", content="hm", tool_calls=(), echo=echoed), stop_reason="pause")

    def spoil(request: Request) -> Any:
        for message in request.messages:
            if message.echo is not None:
                message.echo.items[0]["signature"] = "spoiled"
        return ToolCall("echo", {"n": 1})

    def look(given: HandoffInput) -> HandoffInput:
        for message in given.history:
            if message.echo is not None:
                assert message.echo.items[0]["signature"] == "intact"
                message.echo.items[0]["signature"] = "spoiled"
        return replace(given, context={"n": 1})

    last = ScriptedModel(["done", "done again"])
    other = Agent("other", model=last)
    script: list[Any] = [first, spoil, spoil, ToolCall("transfer_to_other")]
    agent = Agent("a", model=ScriptedModel(script), tools=[echo], handoffs=[handoff_to(other, input_filter=look)])
    async with Engine() as engine:
        await engine.execute(agent, "go", session="s")
        await engine.execute(agent, "more", session="s")
    for request in last.requests:
        (kept,) = (message.echo for message in request.messages if message.echo is not None)
        assert kept.items[0]["signature"] == "intact"


async def test_a_filtered_history_with_parts_is_read_again_and_grows_like_any_other() -> None:
    picture = Message(role="user", content=("look", Image(url="https://example.test/a.png")))

    def show(given: HandoffInput) -> HandoffInput:
        return replace(given, history=(picture,))

    model = ScriptedModel([ToolCall("echo", {"n": 1}), ToolCall("echo", {"n": 2}), "seen"])
    other = Agent("other", model=model, tools=[echo])
    agent = Agent(
        "a", model=ScriptedModel([ToolCall("transfer_to_other")]), handoffs=[handoff_to(other, input_filter=show)]
    )
    assert await agent.invoke("go") == "seen"
    assert [len(request.messages) for request in model.requests] == [1, 3, 5]
    assert request_texts(model.requests[2]) == ["look", "", "1", "", "2"]
    assert model.requests[2].messages[0] == picture


class Reading(MemoryStore):
    """Counts the records that are read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def get(self, key: bytes) -> bytes | None:
        self.reads += 1
        return super().get(key)

    def scan(self, prefix: bytes, **options: Any) -> Iterator[tuple[bytes, bytes]]:
        for found in super().scan(prefix, **options):
            self.reads += 1
            yield found


@pytest.mark.parametrize("echo", [None, Echo("anthropic", "m", ({"type": "thinking", "signature": "s"},))])
async def test_a_turn_of_a_session_reads_and_decodes_the_same_after_any_number_of_runs(
    echo: Echo | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[bytes] = []
    decode = Codec.decode
    monkeypatch.setattr(Codec, "decode", lambda self, blob, **how: [decoded.append(blob), decode(self, blob, **how)][1])
    reply = Reply(message=Message(role="assistant", content="hm", echo=echo))
    model = ScriptedModel(lambda _: reply)
    agent = Agent("a", model=model)
    store = Reading()
    costs = []
    async with Engine(store) as engine:
        for _ in range(150):
            store.reads = 0
            decoded.clear()
            await engine.execute(agent, "a question", session="s")
            costs.append((store.reads, len(decoded)))
    assert len(model.requests[-1].messages) == 2 * 149 + 1
    assert set(costs[10:]) == {costs[10]}


async def test_an_engine_that_is_new_to_a_session_reads_each_of_its_messages_once() -> None:
    store = Reading()
    for runs in (20, 5):
        model = ScriptedModel(lambda _: "ok")
        async with Engine(store) as engine:
            store.reads = 0
            for _ in range(runs):
                await engine.execute(Agent("a", model=model), "a question", session="s")
    assert len(model.requests[-1].messages) == 2 * 24 + 1
    assert store.reads < 2 * 24 + 5 * 40


async def test_sessions_whose_messages_were_dropped_from_the_cache_are_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("beluga_graph.execution.decoded_cache.DecodedCache.__init__.__defaults__", (100,))
    model = ScriptedModel(lambda _: "x" * 90)
    async with Engine() as engine:
        for turn in range(3):
            for session in "abc":
                await engine.execute(Agent("a", model=model), f"{session}{turn}", session=session)
        assert len(engine._host.scheduler.resources.shared_cache._entries) == 1
    assert [request_texts(request)[::2] for request in model.requests[-3:]] == [
        [f"{session}{turn}" for turn in range(3)] for session in "abc"
    ]


async def test_a_missing_message_of_a_session_is_reported_as_damage() -> None:
    store = MemoryStore()
    model = ScriptedModel(lambda _: "ok")
    async with Engine(store) as engine:
        await engine.execute(Agent("a", model=model), "one", session="s")
    first = next(key for key, _ in store.scan(b"Y"))
    store.commit(Delete(first))
    async with Engine(store) as engine:
        with pytest.raises(RunFailed, match=r"message 0 of session 's' of flow 'a' is missing"):
            await engine.execute(Agent("a", model=model), "two", session="s")


FIRST_FORM = {  # a session of agent `a`, "s", as version 0.1 has stored it: a question and its answer
    "59a6ec00442d0b4149158aebce722f66d5000000000000000000000000": (
        "015970887555c47693d4010bd92462656c7567615f67726170682e6d6f64656c732e6d657373616765733a4d65737361676588a4726f6c65"
        "a475736572a7636f6e74656e74a36f6e65aa746f6f6c5f63616c6c7391d40102a763616c6c5f6964a0a869735f6572726f72c2a46e616d65"
        "a0a56167656e74a0a46563686fc0"
    ),
    "59a6ec00442d0b4149158aebce722f66d5000000000000000000000001": (
        "0159d43c8bdec47b93d4010bd92462656c7567615f67726170682e6d6f64656c732e6d657373616765733a4d65737361676588a4726f6c65"
        "a9617373697374616e74a7636f6e74656e74a26f6baa746f6f6c5f63616c6c7391d40102a763616c6c5f6964a0a869735f6572726f72c2a4"
        "6e616d65a0a56167656e74a161a46563686fc0"
    ),
    "5aa6ec00442d0b4149158aebce722f66d5": "015ab10e698497a161a173010200a161a0",
}


async def test_a_session_that_version_0_1_stored_continues() -> None:
    store = MemoryStore()
    store.commit(*(Put(bytes.fromhex(key), bytes.fromhex(value)) for key, value in FIRST_FORM.items()))
    model = ScriptedModel(["fine"])
    async with Engine(store) as engine:
        assert await engine.execute(Agent("a", model=model), "two", session="s") == "fine"
    assert request_texts(model.requests[0]) == ["one", "ok", "two"]
