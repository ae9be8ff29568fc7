"""Handoffs: a triage agent hands the conversation over to a specialist, who answers the rest of the session.

python examples/handoffs.py
python examples/handoffs.py --model openai:NAME      (or anthropic:NAME; the key is read from the environment)
"""

from __future__ import annotations

import argparse
import asyncio

from beluga_graph import Agent, Engine, Persona, handoff_to
from beluga_graph.testing import ScriptedModel, ToolCall


def refund(invoice: int) -> str:
    """Refund an invoice.

    Args:
        invoice: Its number.
    """
    return f"invoice {invoice} was refunded"


def support(model: str | None) -> Agent:
    """Return the first agent; without a model, scripts answer in its place."""
    billing = Agent(
        "billing",
        model=model or ScriptedModel([ToolCall("refund", {"invoice": 17}), "Invoice 17 is refunded.", "Any time!"]),
        persona=Persona(role="billing specialist"),
        tools=[refund],
    )
    tech = Agent("tech-support", model=model or ScriptedModel(), persona=Persona(role="technical support engineer"))
    return Agent(
        "triage",
        model=model or ScriptedModel([ToolCall("transfer_to_billing", {"message": "charged twice, invoice 17"})]),
        persona=Persona(role="customer service triage", goal="route customers to the right specialist"),
        handoffs=[
            handoff_to(billing, "Transfer billing questions to the billing specialist"),
            handoff_to(tech, "Transfer technical issues to tech support"),
        ],
    )


async def main(model: str | None) -> None:
    """Ask twice in one session: the second question goes directly to the agent that answered the first."""
    triage = support(model)
    async with Engine() as engine:
        for question in ("I was charged twice on my last invoice, number 17", "Thank you!"):
            print(f"> {question}")
            async for event in engine.stream(triage, question, session="customer-1"):
                if event.type == "handoff":
                    print(f"[handed off to {event.agent}]")
                elif event.type == "tool_result":
                    print(f"[{event.name}: {event.output or event.error}]")
                elif event.type == "done":
                    print(event.output)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="openai:NAME or anthropic:NAME; by default a script answers")
    asyncio.run(main(parser.parse_args().model))
