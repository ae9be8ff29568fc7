"""Flows of the parity tests with agents. Each answer of a model depends on its request only, not on earlier ones."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from parity_graphs import describe_all, link

from beluga_graph import (
    END,
    START,
    Agent,
    Context,
    Graph,
    HandoffInput,
    LoopAgent,
    ParallelAgent,
    Retry,
    SequentialAgent,
    handoff_to,
    tool,
)
from beluga_graph.models.messages import Request
from beluga_graph.testing import ScriptedModel, ToolCall

__all__ = [
    "agent_in_a_graph",
    "broken_agent",
    "collecting_team",
    "condition_loop",
    "conversation",
    "filtered_handoff",
    "handing_over",
    "limit_loop",
    "nested_loops",
    "pipeline",
    "structured",
    "supervising",
    "team",
    "too_many_handoffs",
    "too_many_turns",
    "tool_approvals",
    "using_tools",
]


def by_turn(*answers: Any) -> ScriptedModel:
    """Return a model that gives its n-th answer to a request with n - 1 answers of a model in it."""

    def answer(request: Request) -> Any:
        return answers[sum(message.role == "assistant" for message in request.messages)]

    return ScriptedModel(answer)


def by_last(answer: Callable[[str], Any]) -> ScriptedModel:
    """Return a model that answers the text of the last message."""
    return ScriptedModel(lambda request: answer(request.messages[-1].text))


def echo(name: str) -> Agent:
    return Agent(name, model=by_last(lambda text: f"{name}: {text}"))


def counter() -> Agent:
    return Agent("counter", model=by_last(lambda text: str(int(text) + 1)))


def delegate(worker: str, task: str) -> ToolCall:
    return ToolCall(f"transfer_to_{worker}", {"message": task})


# Tools.


def using_tools() -> Agent:
    """Return an agent with four calls in one turn: one works, one is retried, one fails, one does not exist."""

    def measure(text: str) -> int:
        """Return the length of a text."""
        return len(text)

    @tool(retry=Retry(attempts=3, initial=0.001))
    async def flaky(ctx: Context, key: str) -> str:
        """Return a value."""
        if ctx.attempt < 3:
            raise ConnectionError("lost")
        return f"{key}={ctx.context.get(key, 'unset')}"

    def refuse(reason: str) -> str:
        """Refuse."""
        raise PermissionError(reason)

    calls = [
        ToolCall("measure", {"text": "é" * 500}),
        ToolCall("flaky", {"key": "user"}),
        ToolCall("refuse", {"reason": "not you"}),
        ToolCall("missing", {"nested": {"list": [1, [2]]}}),
    ]
    model = by_turn(["I look.", *calls], ToolCall("measure", '{"text": 1'), "That is all.")
    return Agent("desk", model=model, tools=[measure, flaky, refuse], instructions="Be short.")


def tool_approvals() -> Agent:
    """Return an agent with four calls in one turn. A person is asked about three of them."""

    @tool(requires_approval=lambda arguments: arguments["amount"] != 4)
    def refund(amount: int) -> str:
        """Give money back."""
        return f"refunded {amount}"

    calls = [ToolCall("refund", {"amount": amount}) for amount in (1, 2, 3, 4)]
    model = by_turn(calls, "Done.")
    return Agent("refunds", model=model, tools=[refund])


def too_many_turns() -> Agent:
    def look() -> str:
        """Look."""
        return "nothing"

    model = ScriptedModel(lambda request: ToolCall("look"))
    return Agent("restless", model=model, tools=[look], max_turns=3)


def broken_agent() -> Agent:
    return Agent("broken_agent", model=by_last(lambda text: ["I begin", ValueError(f"no answer to {text}")]))


@dataclass(frozen=True)
class Verdict:
    """The answer of `structured`."""

    score: int
    why: str


def structured() -> Agent:
    """Return an agent whose first answer does not have the type that is asked for."""
    return Agent("structured", model=by_turn("fine", '{"score": 7, "why": "größer"}'), output_type=Verdict)


def agent_in_a_graph() -> Graph:
    g = Graph("agent_in_a_graph")
    g.add(Agent("judge", model=by_last(lambda text: "long" if len(text) > 5 else "short")))
    g.node(name="cut")(lambda verdict: f"cut, because {verdict}")
    g.edge(START, "judge")
    g.branch("judge", lambda verdict: verdict, {"long": "cut", "short": END})
    g.edge("cut", END)
    return g


def conversation() -> Agent:
    return Agent("conversation", model=by_last(lambda text: f"you said {text}"))


# Handoffs and delegations.


def handing_over() -> Agent:
    def refund(invoice: int) -> str:
        """Refund an invoice."""
        return f"invoice {invoice} was refunded"

    def answer(request: Request) -> Any:
        last = request.messages[-1]
        return f"Done: {last.text}" if last.name == "refund" else ToolCall("refund", {"invoice": 17})

    billing = Agent("billing", model=ScriptedModel(answer), tools=[refund])
    calls = ToolCall("transfer_to_billing", {"message": "charged twice"})
    return Agent("triage", model=by_turn(["I transfer you. ", calls]), handoffs=[billing, echo("support")])


def filtered_handoff() -> Agent:
    """Return an agent whose handoff changes the context and the history, after a handoff that is not enabled."""

    def shorten(given: HandoffInput) -> HandoffInput:
        return replace(given, history=given.history[:1], context={"level": 2})

    async def show_context(ctx: Context) -> str:
        """Return the context."""
        return str(sorted(ctx.context.items()))

    def answer(request: Request) -> Any:
        last = request.messages[-1]
        if last.name == "show_context":
            return f"{len(request.messages)} messages, context {last.text}"
        return ToolCall("show_context")

    expert = Agent("expert", model=ScriptedModel(answer), tools=[show_context])
    hidden = handoff_to(echo("hidden"), is_enabled=lambda: False)
    return Agent(
        "front",
        model=by_turn(ToolCall("transfer_to_expert", {"message": "hard"})),
        handoffs=[hidden, handoff_to(expert, input_filter=shorten)],
    )


def too_many_handoffs() -> Agent:
    left: Agent = Agent("left", model=ScriptedModel(lambda _: ToolCall("transfer_to_right")), handoffs=lambda: [right])
    right = Agent("right", model=ScriptedModel(lambda _: ToolCall("transfer_to_left")), handoffs=lambda: [left])
    return left


def supervising() -> Agent:
    """Return a supervisor that delegates twice at once, then once to a graph, and combines the results."""

    def sales(region: str) -> int:
        """Return the sales of a region."""
        return {"north": 120, "south": 80}[region]

    def collect(request: Request) -> Any:
        last = request.messages[-1]
        if last.role == "user":
            return ToolCall("sales", {"region": last.text.split()[-1]})
        return f"no data ({last.text})" if last.is_error else f"{last.text} thousand"

    collector = Agent("collector", model=ScriptedModel(collect), tools=[sales])
    adder = Graph("adder")
    adder.node(name="add_up")(lambda task: sum(int(word) for word in task.split() if word.isdigit()))
    link(adder, "add_up")
    both = [delegate("collector", "sales of north"), delegate("collector", "sales of west")]
    model = by_turn(both, delegate("adder", "add up 120 and 80"), "200 in total.")
    return Agent("supervisor", model=model, children=[collector, adder])


# Patterns.


def pipeline() -> SequentialAgent:
    return SequentialAgent("pipeline", [echo("draft"), echo("review"), echo("polish")])


def team() -> ParallelAgent:
    voter = echo("voter")
    return ParallelAgent("team", [voter, echo("other"), voter, voter], max_concurrency=2)


def collecting_team() -> ParallelAgent:
    async def aggregate(ctx: Context, results: dict[str, Any]) -> list[Any]:
        return [ctx.context["user"], *results, *await describe_all(list(results.values()))]

    members = [echo("one"), broken_agent(), echo("two")]
    return ParallelAgent("collecting_team", members, on_error="collect", aggregate=aggregate)


def condition_loop() -> LoopAgent:
    return LoopAgent("condition_loop", counter(), until=lambda output, iteration: output == "3" and iteration == 3)


def limit_loop() -> LoopAgent:
    return LoopAgent("limit_loop", counter(), max_iterations=4)


def nested_loops() -> SequentialAgent:
    """Return a pipeline of parallel loops and a loop of loops."""
    quick = LoopAgent("quick", counter(), max_iterations=1)
    slow = LoopAgent("slow", counter(), until=lambda output: output == "3")
    both = ParallelAgent("both", [quick, slow], aggregate=lambda results: max(results.values()))
    inner = LoopAgent("inner", counter(), max_iterations=4, until=lambda output: output in ("6", "9"))
    return SequentialAgent("nested_loops", [both, LoopAgent("outer", inner, max_iterations=3)])
