"""Parallel: three agents analyse the same text at once. The output is a dict in the order of their declaration.

python examples/parallel.py
python examples/parallel.py --model openai:NAME      (or anthropic:NAME; the key is read from the environment)
"""

from __future__ import annotations

import argparse
import asyncio

from beluga_graph import Agent, ParallelAgent, Persona
from beluga_graph.testing import ScriptedModel

FEEDBACK = "The room was lovely and the staff in Lisbon kind, but breakfast came an hour late."


def analysis(model: str | None) -> ParallelAgent:
    """Return the flow; without a model, three scripts answer in its place."""
    sentiment = Agent(
        "sentiment",
        model=model or ScriptedModel(["mixed: warm, with one complaint"]),
        persona=Persona(role="sentiment analyst", goal="name the mood in a few words"),
    )
    topics = Agent(
        "topics",
        model=model or ScriptedModel(["room, staff, breakfast"]),
        persona=Persona(role="topic classifier", goal="list the topics, separated by commas"),
    )
    entities = Agent(
        "entities",
        model=model or ScriptedModel(["Lisbon (place)"]),
        persona=Persona(role="entity extractor", goal="list the names and what they are"),
    )
    return ParallelAgent("text-analysis", [sentiment, topics, entities])


async def main(model: str | None) -> None:
    """Analyse one text, and print the result of each agent."""
    result = await analysis(model).invoke(f"Analyze this customer feedback: {FEEDBACK}")
    for name, text in result.items():
        print(f"{name}: {text}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="openai:NAME or anthropic:NAME; by default a script answers")
    asyncio.run(main(parser.parse_args().model))
