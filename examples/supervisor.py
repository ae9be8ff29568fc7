"""A supervisor: it delegates tasks to workers, some in parallel, and combines their results into one answer.

python examples/supervisor.py
python examples/supervisor.py --model openai:NAME      (or anthropic:NAME; the key is read from the environment)
"""

from __future__ import annotations

import argparse
import asyncio

from beluga_graph import Agent, Persona, handoff_to
from beluga_graph.models.messages import Request
from beluga_graph.testing import ScriptedModel, ToolCall

SALES = {"north": 120, "south": 80}


def sales(region: str) -> int:
    """Return the sales of a region, north or south, in thousands."""
    return SALES[region]


def total(amounts: list[int]) -> int:
    """Add amounts."""
    return sum(amounts)


def delegate(worker: str, task: str) -> ToolCall:
    """Return the tool call that delegates a task to a worker."""
    return ToolCall(f"transfer_to_{worker}", {"message": task})


def collect(request: Request) -> str | ToolCall:
    """Answer in place of a worker's model: look up the region at the end of the task."""
    last = request.messages[-1]
    if last.role == "user":
        return ToolCall("sales", {"region": last.text.split()[-1]})
    return f"no data ({last.text})" if last.is_error else f"{last.text} thousand"


def team(model: str | None) -> Agent:
    """Return the supervisor; without a model, scripts answer in its place."""
    collector = Agent("data-collector", model=model or ScriptedModel(collect), tools=[sales])
    analyzer_model = ScriptedModel([ToolCall("total", {"amounts": [120]}), "The north alone sold 120."])
    analyzer = Agent("analyzer", model=model or analyzer_model, tools=[total])
    plan: list[ToolCall | str | list[ToolCall]] = [
        [delegate("data-collector", "sales of north"), delegate("data-collector", "sales of west")],
        delegate("analyzer", "add up: north 120; there is no west"),
        "We sold 120 thousand, all of it in the north; the west has no data.",
    ]
    return Agent(
        "supervisor",
        model=model or ScriptedModel(plan),
        persona=Persona(role="project supervisor", goal="coordinate workers to complete complex tasks"),
        children=[collector, analyzer],
        handoffs=[
            handoff_to(collector, "Delegate data collection tasks"),
            handoff_to(analyzer, "Delegate analysis tasks"),
        ],
    )


async def main(model: str | None) -> None:
    """Give the team a goal, and print its work."""
    async for event in team(model).stream("How much did the north and the west sell together?"):
        if event.type == "tool_call":
            print(f"{event.agent} -> {event.name} {event.arguments}")
        elif event.type == "tool_result" and event.agent == "supervisor":
            print(f"  {event.output or event.error}")
        elif event.type == "done":
            print(event.output)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="openai:NAME or anthropic:NAME; by default a script answers")
    asyncio.run(main(parser.parse_args().model))
