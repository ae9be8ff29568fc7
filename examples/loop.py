"""A loop: an agent improves its own output until it approves the output, at most three times.

python examples/loop.py
python examples/loop.py --model openai:NAME      (or anthropic:NAME; the key is read from the environment)
"""

from __future__ import annotations

import argparse
import asyncio

from beluga_graph import Agent, Engine, LoopAgent, Persona
from beluga_graph.testing import ScriptedModel

CODE = "def mean(xs): return sum(xs) / len(xs)"
PASSES = [
    "def mean(xs: list[float]) -> float: return sum(xs) / len(xs)",
    "def mean(xs: list[float]) -> float: return sum(xs) / len(xs) if xs else 0.0\nAPPROVED",
]


def approved(result: str) -> bool:
    """Return whether the agent approves its output."""
    return "APPROVED" in result


def refinement(model: str | None) -> LoopAgent:
    """Return the flow; without a model, a script answers in its place."""
    improver = Agent(
        "improver",
        model=model or ScriptedModel(PASSES),
        persona=Persona(role="code reviewer and improver", goal="iteratively improve code quality"),
        instructions="Answer with the whole improved code. When nothing is left to improve, end with APPROVED.",
    )
    return LoopAgent("refinement-loop", improver, max_iterations=3, until=approved)


async def main(model: str | None) -> None:
    """Refine a function, and print the reason why the loop ended."""
    async with Engine() as engine:
        run = await engine.start(refinement(model), f"Review and improve this code: {CODE}")
        outcome = await run.outcome()
    print(outcome.output if outcome.failure is None else outcome.failure)
    print(f"ended by the {outcome.reason}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="openai:NAME or anthropic:NAME; by default a script answers")
    asyncio.run(main(parser.parse_args().model))
