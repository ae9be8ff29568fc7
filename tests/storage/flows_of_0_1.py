"""Flows of the store that version 0.1 wrote. Their names, nodes and classes are in that store: do not change them.

They use public names only, so that both the earlier version and today's can import this module.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel

from beluga_graph import (
    END,
    START,
    Agent,
    BusEvent,
    Context,
    DeadLetter,
    Event,
    Failure,
    Graph,
    HandoffInput,
    JudgedChange,
    Outcome,
    Question,
    RunComparison,
    RunInfo,
    RunSnapshot,
    RunStatus,
    StepInfo,
    Workflow,
    add,
    append,
    handoff_to,
    sleep,
    step,
    tool,
    wait_signal,
)
from beluga_graph.execution.approval import Answer
from beluga_graph.models.messages import Message, Request
from beluga_graph.testing import ScriptedModel, ToolCall

__all__ = ["LARGE", "SWITCHES", "Kept", "Order", "Tally", "Topic", "flows"]

LARGE = "a large value " * 1000
SWITCHES = {"is_broken": True, "hangs": True}
"""How steps behave: tests mend here what had failed or hung when the store was written."""


class Order(BaseModel):
    amount: int
    to: str = "ada"


class Tally(BaseModel):
    total: Annotated[int, add] = 0
    log: Annotated[list[str], append] = []
    last: Order | None = None


@dataclass(frozen=True)
class Topic:
    name: str


@dataclass(frozen=True, kw_only=True)
class Kept:
    """One value of each public class that a program may store."""

    infos: tuple[RunInfo, ...]
    status: RunStatus
    steps: tuple[StepInfo, ...]
    snapshot: RunSnapshot
    questions: tuple[Question, ...]
    outcome: Outcome
    failed: Outcome
    comparison: RunComparison
    changes: tuple[JudgedChange, ...]
    answer: Answer
    events: tuple[Event, ...]
    failure: Failure
    message: BusEvent
    letters: tuple[DeadLetter, ...]
    orders: tuple[Order, ...]


def flows() -> dict[str, Workflow | Graph | Agent]:
    """Return all flows by name."""
    found = (counting(), branching(), failing(), waiting(), reading(), sleeping(), paying(), crashing(), publishing())
    return {flow.name: flow for flow in (*found, keeping(), *desk(), teller())}


def counting() -> Graph:
    """Fan out over numbers, with a state that the branches add to, and a large output."""
    graph = Graph("counting", state=Tally)

    @graph.node
    def one(ctx: Context, number: int) -> int:
        ctx.update(total=number, log=[f"saw {number}"])
        return number * 2

    @graph.node
    def large(ctx: Context, numbers: list[int]) -> dict[str, Any]:
        ctx.update(last=Order(amount=sum(numbers)))
        return {"numbers": numbers, "text": LARGE}

    graph.fan_out("each", to=one, over=lambda numbers: numbers, join="all")
    graph.join("all")
    graph.edge(START, "each")
    graph.edge("all", large)
    graph.edge(large, END)
    return graph


def branching() -> Graph:
    """Two branches at once, of which one waits for a signal."""
    graph = Graph("branching", state=Tally)

    @graph.node
    def works(ctx: Context, number: int) -> str:
        ctx.update(total=number, log=["worked"])
        return "worked"

    graph.wait("asks", "word", type=Topic)
    graph.fan_out("split", to=[works, "asks"], join="merge")

    def merged(ctx: Context, parts: list[Any]) -> str:
        return f"{parts} {ctx.state.total} {ctx.state.log}"

    graph.join("merge", merged)
    graph.edge(START, "split")
    graph.edge("merge", END)
    return graph


def doubled(number: int) -> int:
    return number * 2


def failing() -> Workflow:
    def breaks(number: int) -> int:
        if SWITCHES["is_broken"]:
            raise ValueError(f"{number} is too much")
        return number + 1

    return Workflow("failing", step("fine", doubled), step("breaks", breaks))


def waiting() -> Workflow:
    def done(order: Order) -> str:
        return f"got {order.amount} from {order.to}"

    return Workflow("waiting", step("begin", doubled), wait_signal("go", type=Order, timeout=3600), step("done", done))


def reading() -> Workflow:
    def both(second: Order) -> int:
        return second.amount

    return Workflow("reading", wait_signal("first", type=int), wait_signal("second", type=Order), step("both", both))


def sleeping() -> Workflow:
    return Workflow("sleeping", step("before", doubled), sleep("pause", 3600), step("after", doubled))


def paying() -> Workflow:
    def pay(order: Order) -> str:
        return f"paid {order.amount} to {order.to}"

    return Workflow("paying", step("pay", pay, requires_approval=True))


def crashing() -> Workflow:
    async def hangs(number: int) -> int:
        while SWITCHES["hangs"]:  # noqa: ASYNC110  # ended by the writer of the store
            await asyncio.sleep(0.01)
        return number + 1

    return Workflow("crashing", step("first", doubled), step("hangs", hangs))


def publishing() -> Workflow:
    def publish(ctx: Context, order: Order) -> int:
        ctx.publish("order.seen", order)
        return order.amount

    return Workflow("publishing", step("publish", publish))


def keeping() -> Workflow:
    def keep(kept: Kept) -> Kept:
        return kept

    return Workflow("keeping", step("keep", keep))


def filtered(given: HandoffInput) -> HandoffInput:
    """Replace the history that the next agent sees."""
    return HandoffInput(given.message, (Message("user", "what was said before"),), {"filtered": True})


def desk() -> tuple[Agent, Agent]:
    """Return an agent that calls a tool and hands off to another one, and that other one."""

    def front_says(request: Request) -> str | ToolCall:
        if request.messages[-1].role == "tool":
            return ToolCall("transfer_to_billing")
        return ToolCall("double", {"number": 21})

    def double(number: int) -> int:
        """Double a number."""
        return number * 2

    billing = Agent("billing", model=ScriptedModel(lambda request: f"billing saw {len(request.messages)} messages"))
    front = Agent(
        "front",
        model=ScriptedModel(front_says),
        tools=[double],
        handoffs=[handoff_to(billing, input_filter=filtered)],
    )
    return front, billing


def teller() -> Agent:
    """Return an agent with a tool that a person has to approve."""

    def says(request: Request) -> str | ToolCall:
        last = request.messages[-1]
        return f"told: {last.content}" if last.role == "tool" else ToolCall("pay_out", {"amount": 7})

    @tool(requires_approval=True)
    def pay_out(amount: int) -> str:
        """Pay out an amount."""
        return f"paid out {amount}"

    return Agent("teller", model=ScriptedModel(says), tools=[pay_out])
