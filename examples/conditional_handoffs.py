"""Conditional handoffs: only premium users are transferred to premium support, with a priority in the context.

python examples/conditional_handoffs.py
python examples/conditional_handoffs.py --model openai:NAME      (or anthropic:NAME)
"""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import replace

from beluga_graph import Agent, Context, Engine, HandoffInput, Persona, handoff_to
from beluga_graph.models.messages import Request
from beluga_graph.testing import ScriptedModel, ToolCall

TIERS = {"ada": "premium", "bob": "free"}


def is_premium(ctx: Context) -> bool:
    """Return whether the handoff is offered. Called before each model call, and again when the model requests it."""
    return bool(ctx.deps[ctx.context["user"]] == "premium")


def announce() -> None:
    """Print a line. Called when the transfer is made."""
    print("  transferring to premium support")


def add_priority(given: HandoffInput) -> HandoffInput:
    """Add a priority to the context of the target agent."""
    return replace(given, context={"priority": "high"})


def urgency(ctx: Context) -> str:
    """Return the instructions of premium support, which read the priority that the filter has added."""
    return f"You serve {ctx.context['user']} with {ctx.context['priority']} priority."


def transfer_if_offered(request: Request) -> str | ToolCall:
    """Answer in place of a model: request the transfer if it is offered."""
    offered = [tool.name for tool in request.tools]
    return ToolCall("transfer_to_premium") if "transfer_to_premium" in offered else "Our free desk helps within 3 days."


def front_desk(model: str | None) -> Agent:
    """Return the first agent. Without a model, scripts answer in its place."""
    premium = Agent(
        "premium", model=model or ScriptedModel(lambda request: f"At once! ({request.system})"), instructions=urgency
    )
    handoff = handoff_to(
        premium, "Transfer to premium support", is_enabled=is_premium, on_handoff=announce, input_filter=add_priority
    )
    persona = Persona(role="front desk clerk", goal="transfer to premium support whenever possible")
    return Agent("front-desk", model=model or ScriptedModel(transfer_if_offered), persona=persona, handoffs=[handoff])


async def main(model: str | None) -> None:
    """Ask the same question as two users."""
    async with Engine(deps=TIERS) as engine:
        for user in TIERS:
            print(f"{user}:")
            print(" ", await engine.execute(front_desk(model), "My flight leaves in an hour", context={"user": user}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="openai:NAME or anthropic:NAME; by default a script answers")
    asyncio.run(main(parser.parse_args().model))
