"""The flows that ask the paid server. Each agent's model has the agent's name, so the server knows which agent asks."""

from collections.abc import Callable

from beluga_graph import Agent, Context, Flow, ParallelAgent, SequentialAgent
from beluga_graph.models import Model

__all__ = ["FLOWS", "INPUT", "RUN_ID", "Models"]

RUN_ID = "the-run"
INPUT = "What do I owe for my tea?"
PRICES = {"tea": 3, "milk": 1, "cake": 5, "refund": 9, "costs": 70}

Models = Callable[[str], Model]


def price_of(ctx: Context, item: str) -> int:
    """Return the price of an item."""
    ctx.deps(f"price_of {item}")
    return PRICES[item]


async def sum_of(ctx: Context, numbers: list[int]) -> int:
    """Add numbers up."""
    ctx.deps(f"sum_of {numbers}")
    return sum(numbers)


def plain(models: Models, name: str) -> Agent:
    return Agent(name, model=models(name), instructions=f"You are the {name}.")


def tools(models: Models) -> Flow:
    return Agent("clerk", model=models("clerk"), instructions="You know the prices.", tools=[price_of, sum_of])


def sequence(models: Models) -> Flow:
    return SequentialAgent("sequence", [plain(models, name) for name in ("researcher", "writer", "editor")])


def parallel(models: Models) -> Flow:
    return ParallelAgent("parallel", [plain(models, name) for name in ("sentiment", "topics", "entities")])


def handoff(models: Models) -> Flow:
    billing = Agent("billing", model=models("billing"), tools=[price_of])
    return Agent("triage", model=models("triage"), instructions="Find out who can help.", handoffs=[billing])


def delegation(models: Models) -> Flow:
    collector = Agent("collector", model=models("collector"), tools=[price_of])
    return Agent("supervisor", model=models("supervisor"), children=[collector, plain(models, "analyst")])


FLOWS: dict[str, Callable[[Models], Flow]] = {
    made.__name__: made for made in (tools, sequence, parallel, handoff, delegation)
}
