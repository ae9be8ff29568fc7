"""Small flows that the tests of several packages share."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from beluga_graph import END, START, Agent, Event, Graph
from beluga_graph.testing import ScriptedModel, ToolCall

__all__ = ["chain", "failing", "follow", "talking", "waiting", "waits"]


def chain(*bodies: Callable[..., Any], name: str = "chain", **options: Any) -> Graph:
    """Return a chain of nodes: `n0`, `n1`, …"""
    g = Graph(name)
    names = [f"n{i}" for i in range(len(bodies))]
    for node, body in zip(names, bodies, strict=True):
        g.node(name=node, **options)(body)
    for source, target in zip([START, *names], [*names, END], strict=True):
        g.edge(source, target)
    return g


def failing(message: str) -> Graph:
    """Return a flow whose node `bad` fails."""

    def bad(value: int) -> int:
        raise ValueError(message)

    g = Graph("failing")
    g.node(name="bad")(bad)
    g.edge(START, "bad")
    g.edge("bad", END)
    return g


def talking() -> Agent:
    """Return an agent that calls a tool in every second turn."""

    def count(n: int) -> int:
        return n

    model = ScriptedModel(lambda request: ToolCall("count", {"n": 3}) if len(request.messages) % 4 == 1 else "said")
    return Agent("talking", model=model, tools=[count])


def waiting(name: str = "waiting", **options: Any) -> Graph:
    """Return a flow that waits for the signal `go` and returns its payload."""
    g = Graph(name)
    g.node(name="before")(lambda value: value)
    g.wait("w", "go", **options)
    g.edge(START, "before")
    g.edge("before", "w")
    g.edge("w", END)
    return g


def waits(count: int) -> Graph:
    """Return a chain of waits for `s`."""
    g = Graph("waits")
    names = [f"w{i}" for i in range(count)]
    for name in names:
        g.wait(name, "s")
    for source, target in zip([START, *names], [*names, END], strict=True):
        g.edge(source, target)
    return g


async def follow(events: AsyncIterator[Event], seen: list[Event]) -> None:
    """Append events to `seen` as they arrive, so that they are available even if an error follows."""
    async for event in events:
        seen.append(event)  # noqa: PERF401  # one by one, see above
