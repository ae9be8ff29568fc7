"""Flows whose nodes emit text, for tests and for the workers that they kill."""

import asyncio
from pathlib import Path
from typing import Any

from flows_for_tests import chain

from beluga_graph import Agent, Retry
from beluga_graph.testing import ScriptedModel, ToolCall

__all__ = ["PIECES", "gated", "speaking_agent", "stammering", "talking"]

PIECES = [f"piece {number} " for number in range(20)]


def look_up(query: str) -> str:
    """Look up a word."""
    return f"{query}: found"


def speaking_agent() -> Any:
    """Return an agent that speaks, calls a tool, and speaks again."""

    def answer(request: Any) -> Any:
        if request.messages[-1].role == "tool":
            return "The word was found in no time."
        return ["I will look it up.", ToolCall("look_up", {"query": "rain"})]

    return Agent("reader", model=ScriptedModel(answer), tools=[look_up])


def talking(pause_s: float = 0.0) -> Any:
    """Return a flow of two nodes, of which the first emits all pieces."""

    async def talk(ctx: Any, value: int) -> int:
        for piece in PIECES:
            ctx.emit_text(piece)
            await asyncio.sleep(pause_s)
        return value + 1

    def count(value: int) -> int:
        return value + 1

    return chain(talk, count, name="talking")


def stammering() -> Any:
    """Return a flow whose node fails once after it has emitted a piece."""

    async def stammer(ctx: Any, value: int) -> int:
        ctx.emit_text(f"try {ctx.attempt}")
        await asyncio.sleep(0.5)
        if ctx.attempt == 1:
            msg = "lost"
            raise ConnectionError(msg)
        return value

    return chain(stammer, name="stammering", retry=Retry(initial=0))


def gated(folder: Path) -> Any:
    """Return a flow whose second node emits a piece for each file `1`, `2`, ... of a folder, until a file `end`."""

    def before(value: str) -> str:
        return f"{value}!"

    async def speak(ctx: Any, value: str) -> str:
        number = 1
        while not (folder / "end").exists():
            if (folder / str(number)).exists():
                ctx.emit_text(f"<{number}>")
                number += 1
            await asyncio.sleep(0.02)
        return value

    return chain(before, speak, name="gated")
