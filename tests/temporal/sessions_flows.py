"""An agent whose runs continue a session: what it answers shows all that it has seen."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from beluga_graph import Agent, HandoffInput, handoff_to
from beluga_graph.models.messages import Request
from beluga_graph.testing import ScriptedModel, ToolCall

__all__ = ["Gate", "make_desk"]


class Gate:
    """Decides what the model does next: with `fails`, its calls raise. With `opened`, they wait until that is set."""

    def __init__(self) -> None:
        self.fails = False
        self.opened: asyncio.Event | None = None
        self.calls = 0


def make_desk(gate: Gate, *, padding: int = 0) -> Agent:
    """Return a desk that answers with the texts that it has seen. "bill" makes it forget them, and hand over.

    With `padding`, each answer is that much longer.
    """

    async def answer(request: Request) -> Any:
        gate.calls += 1
        if gate.opened is not None:
            await gate.opened.wait()
        if gate.fails:
            raise ValueError("the model is down")
        seen = "|".join(_shown(message.text) for message in request.messages if message.text)
        return f"saw {seen}" + "." * padding

    async def front_answer(request: Request) -> Any:
        if request.messages[-1].text == "bill" and not gate.fails:
            return ToolCall("transfer_to_billing", {"message": "summary"})
        return await answer(request)

    def forget(given: HandoffInput) -> HandoffInput:
        return replace(given, history=given.history[:1])

    billing = Agent("billing", model=ScriptedModel(answer))
    return Agent("desk", model=ScriptedModel(front_answer), handoffs=[handoff_to(billing, input_filter=forget)])


def _shown(text: str) -> str:
    return f"({len(text)})" if text.startswith("saw") else text
