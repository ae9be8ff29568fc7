"""Streaming: text as the models write it, handoffs and tool calls, with the agents' names, at any level of nesting.

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
    """Look up a metric: growth or churn."""
    return WORDS[name]


def report(model: str | None) -> SequentialAgent:
    """Return the flow; without a model, scripts answer in its place."""
    analyst = Agent(
        "analyst",
        model=model
        or ScriptedModel(
            [["Looking it up. ", ToolCall("metric", {"name": "growth"})], "We grew by 12 percent this year."]
        ),
        persona=Persona(role="data analyst", goal="explain the numbers"),
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
    """Print events as they arrive."""
    speaker = ""
    async for event in report(model).stream("Build a marketing report on this year's growth"):
        match event.type:
            case "text":
                if event.agent != speaker:
                    speaker = event.agent
                    print(f"\n{speaker}: ", end="")
                print(event.text, end="", flush=True)
            case "retracted":
                print("\n[that text is retracted: the agent tries again]", end="")
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
