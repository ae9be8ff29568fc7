"""Streaming: text as the models write it, handoffs and tool calls, with the names of the agents, at any nesting.

python examples/streaming.py
python examples/streaming.py --model openai:NAME      (or anthropic:NAME; the key is read from the environment)
"""

from __future__ import annotations

import argparse
import asyncio

from beluga_graph import Agent, Persona, SequentialAgent
from beluga_graph.testing import ScriptedModel, ToolCall

WORDS = {"growth": "12 percent", "churn": "3 percent"}


def metric(name: str) -> str:
    """Look a metric up: growth or churn."""
    return WORDS[name]


def report(model: str | None) -> SequentialAgent:
    """Return the flow; without a model, scripts stand in for it."""
    analyst = Agent(
        "analyst",
        model=model
        or ScriptedModel(
            [["Looking it up. ", ToolCall("metric", {"name": "growth"})], "We grew by 12 percent this year."]
        ),
        persona=Persona(role="data analyst", goal="say what the numbers say"),
        tools=[metric],
    )
    planner = Agent(
        "planner",
        model=model or ScriptedModel([ToolCall("transfer_to_analyst")]),
        persona=Persona(role="report planner", goal="hand questions about numbers to the analyst"),
        handoffs=[analyst],
    )
    writer = Agent(
        "writer",
        model=model or ScriptedModel(["A year of growth: twelve percent, and no end in sight."]),
        persona=Persona(role="marketing writer", goal="make one sentence of the facts"),
    )
    return SequentialAgent("marketing-report", [planner, writer])


async def main(model: str | None) -> None:
    """Print events as they come."""
    speaker = ""
    async for event in report(model).stream("Build a marketing report on this year's growth"):
        match event.type:
            case "text":
                if event.agent != speaker:
                    speaker = event.agent
                    print(f"\n{speaker}: ", end="")
                print(event.text, end="", flush=True)
            case "retracted":
                print("\n[what that agent just said is taken back: it tries again]", end="")
            case "handoff":
                print(f"\n[handed off to {event.agent}]", end="")
            case "tool_call":
                speaker = ""
                print(f"\n[{event.agent} calls {event.name}]", end="")
    print()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="openai:NAME or anthropic:NAME; by default a script answers")
    asyncio.run(main(parser.parse_args().model))
