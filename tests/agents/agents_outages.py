"""Agents that answer from a table, on engines whose store fails on schedule and stays down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias
from zlib import crc32

from agents_checks import assert_valid

from beluga_graph import Agent, Context, Engine, ModelError, Outcome, RunStatus, SequentialAgent, handoff_to, tool
from beluga_graph.models.messages import Message, Request
from beluga_graph.storage.loading import read_steps
from beluga_graph.testing import ScriptedModel, ToolCall
from stores import MemoryStore
from stores.base import Delete, Durability, Op, StoreError

__all__ = ["KINDS", "Outage", "Table", "World"]

Kind: TypeAlias = str
Table: TypeAlias = list[list[Kind]]
"""The answers of agents. An entry holds the calls of one turn; the conversation so far selects the entry."""

BOOTS_MAX = 60
MESSAGES_MAX = 14  # then an agent answers, regardless of its table


class Outage(StoreError):
    """The store is unreachable, as after a power failure."""


class Wire:
    """An engine's connection to the disk. It is cut after `left` commits, and the last of them is written or not."""

    shared = False
    private = True
    folder: Path | None = None

    def __init__(self, disk: MemoryStore, left: int | None, *, written: bool) -> None:
        self._disk, self._left, self._written = disk, left, written
        self.is_cut = False

    def get(self, key: bytes) -> bytes | None:
        self._check()
        return self._disk.get(key)

    def scan(self, prefix: bytes, **options: Any) -> Iterator[tuple[bytes, bytes]]:
        self._check()
        return self._disk.scan(prefix, **options)

    def commit(self, *ops: Op) -> None:
        self._check()
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                self.is_cut = True
                if self._written:
                    self._disk.commit(*ops)
                raise Outage
        self._disk.commit(*ops)

    def close(self) -> None:
        """Leave the disk as it is."""

    def _check(self) -> None:
        if self.is_cut:
            raise Outage


class Hurried:
    """A clock on which every pause ends at once."""

    def __init__(self) -> None:
        self._now_ms = 1_700_000_000_000

    def now_ms(self) -> int:
        return self._now_ms

    def call_at(self, at_ms: int, call: Callable[[], None]) -> Callable[[], None]:
        self._now_ms = max(self._now_ms, at_ms)
        return asyncio.get_running_loop().call_soon(call).cancel


@dataclass
class World:
    """One store, its agents, and the calls that were made."""

    table: Table
    crashes: list[tuple[int, bool]] = field(default_factory=list)
    """Pairs of the commits until a power failure, and whether the last of them is written.

    After the last pair, no commit fails.
    """
    durability: Durability = "commit"
    disk: MemoryStore = field(default_factory=MemoryStore)
    asked: dict[str, tuple[Message, ...]] = field(default_factory=dict)
    """The requests to models that answered, by the key of the attempt."""
    again: list[str] = field(default_factory=list)
    """Model calls and tool calls that were made although their step was committed."""

    def flow(self) -> SequentialAgent | Agent:
        tools = [tool(name="ok")(self._ok), tool(name="boom")(self._boom)]
        worker = Agent("w", model=self._model("w"), instructions=_key, tools=tools, max_turns=99)
        row = SequentialAgent("row", [Agent("r", model=self._model("r"), instructions=_key, max_turns=99)])
        front = Agent(
            "a",
            model=self._model("a"),
            instructions=_key,
            tools=tools,
            children=[worker, row],
            handoffs=lambda: [handoff_to(back)],
            max_turns=99,
        )
        back = Agent(
            "b", model=self._model("b"), instructions=_key, tools=tools, handoffs=lambda: [front], max_turns=99
        )
        return front

    # Models and tools.

    def _model(self, name: str) -> ScriptedModel:
        return ScriptedModel(lambda request: self._answer(name, request), name=name)

    async def _answer(self, name: str, request: Request) -> Any:
        await asyncio.sleep(0)
        key, _, attempt = request.system.rpartition(" ")
        assert_valid(request.messages)
        if key.partition(":")[2] in self._committed(key.partition(":")[0]):
            self.again.append(request.system)
        known = self.asked.setdefault(key, request.messages)
        assert known == request.messages, "a turn that is made again is asked the same"
        heard = repr([(m.role, m.text, m.call_id) for m in request.messages[-4:]])
        said = self.table[crc32(f"{name}{len(request.messages)}{heard}".encode()) % len(self.table)]
        if len(request.messages) >= MESSAGES_MAX:
            said = []
        if "flaky" in said and attempt == "1":
            return ["half", ModelError("cut off", retryable=True)]
        if "fatal" in said and attempt == "1":
            return ModelError("bad day")
        calls = [_CALLS[kind] for kind in said if kind in _CALLS]
        return [f"{name} says ", *calls] if calls else f"{name} answers {len(request.messages)}"

    async def _ok(self, ctx: Context, n: int) -> str:
        self._made(ctx)
        await asyncio.sleep(0)
        return f"ok {n}"

    async def _boom(self, ctx: Context) -> str:
        self._made(ctx)
        await asyncio.sleep(0)
        raise ValueError("boom")

    def _made(self, ctx: Context) -> None:
        run_id, _, token = ctx.idempotency_key.partition(":")
        if token in self._committed(run_id):
            self.again.append(ctx.idempotency_key)

    def _committed(self, run_id: str) -> set[str]:
        return {step.token for step in read_steps(self.disk, run_id) if step.trigger == "NodeFinished"}

    # Runs.

    async def run(self, value: str, run_id: str, *, session: str | None = None, cancel_after: int = 0) -> Outcome:
        """Run to the end through every outage and failure, or cancel after some turns of the loop."""
        outcome = None
        flow = self.flow()
        for _ in range(BOOTS_MAX):
            self.disk.commit(*(Delete(key) for key, _ in list(self.disk.scan(b"O"))))  # the previous owner is dead
            left, written = self.crashes.pop(0) if self.crashes else (None, False)
            wire = Wire(self.disk, left, written=written)
            engine = Engine(wire, clock=Hurried(), durability=self.durability)
            try:
                run = await engine.start(flow, value, run_id=run_id, session=session)
                if cancel_after:
                    for _ in range(cancel_after):
                        await asyncio.sleep(0)
                    await run.cancel()
                outcome = await run.outcome()
                if outcome.status is not RunStatus.failed:
                    return outcome
            except Outage:
                assert wire.is_cut
            finally:
                wire.is_cut = True
                await engine.close()
        raise AssertionError(f"the run makes no progress: {outcome}")


def _key(ctx: Context) -> str:
    return f"{ctx.idempotency_key} {ctx.attempt}"


_CALLS: dict[Kind, ToolCall] = {
    "ok": ToolCall("ok", {"n": 1}),
    "boom": ToolCall("boom"),
    "unknown": ToolCall("no such tool"),
    "bad": ToolCall("ok", {"n": "x"}),
    "broken": ToolCall("ok", '{"n": '),
    "to b": ToolCall("transfer_to_b", {"message": "over to you"}),
    "to a": ToolCall("transfer_to_a"),
    "w": ToolCall("transfer_to_w", {"message": "work"}),
    "row": ToolCall("transfer_to_row", {"message": "a row of work"}),
    "idle": ToolCall("transfer_to_w"),
}
KINDS = [*_CALLS, "flaky", "fatal", "to b", "to b", "to a", "to a"]  # transfers are worth trying often
