"""A sequence: research, then writing, then review. Each agent gets the output of the previous one as its input.

python examples/sequential.py
python examples/sequential.py --model openai:NAME      (or anthropic:NAME; the key is read from the environment)
"""

from __future__ import annotations

import argparse
import asyncio

from beluga_graph import Agent, Persona, SequentialAgent
from beluga_graph.testing import ScriptedModel, ToolCall

FACTS = {"generics": "Type parameters came with Go 1.18; constraints are interfaces."}


def search(query: str) -> str:
    """Search the notes.

    Args:
        query: One word to look for.
    """
    return FACTS.get(query.lower(), "nothing found")


def pipeline(model: str | None) -> SequentialAgent:
    """Return the flow; without a model, three scripts answer in its place."""
    researcher = Agent(
        "researcher",
        model=model or ScriptedModel([ToolCall("search", {"query": "generics"}), "Since 1.18, by interfaces."]),
        persona=Persona(role="research analyst", goal="find the facts that a writer needs"),
        tools=[search],
    )
    writer = Agent(
        "writer",
        model=model or ScriptedModel(["Go 1.18 brought generics. Interfaces say what a type must can."]),
        persona=Persona(role="technical writer", goal="make a short post of the facts"),
    )
    reviewer = Agent(
        "reviewer",
        model=model or ScriptedModel(["Go 1.18 brought generics. Interfaces say what a type must be able to do."]),
        persona=Persona(role="editor", goal="give the text back without its mistakes"),
    )
    return SequentialAgent("content-pipeline", [researcher, writer, reviewer])


async def main(model: str | None) -> None:
    """Run the pipeline once."""
    print(await pipeline(model).invoke("Write a blog post about Go generics"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="openai:NAME or anthropic:NAME; by default a script answers")
    asyncio.run(main(parser.parse_args().model))
