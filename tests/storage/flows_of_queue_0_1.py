"""The flow of a second store that version 0.1 wrote. Its names and classes are in that store: do not change them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel

from beluga_graph import END, START, Context, Graph, append

__all__ = ["LARGE", "Asked", "queueing"]

LARGE = "a large item " * 1000


class Asked(BaseModel):
    log: Annotated[list[str], append] = []


def queueing() -> Graph:
    """Fan out over five items, of which two at a time wait for a signal."""
    graph = Graph("queueing", state=Asked)

    @graph.node
    def first(ctx: Context, items: list[Any]) -> list[Any]:
        ctx.update(log=["began", LARGE])
        return items

    graph.wait("asks", "go", type=int)

    @graph.node
    def answered(ctx: Context, number: int) -> int:
        ctx.update(log=[f"heard {number}"])
        return number * 2

    @graph.node
    def last(ctx: Context, numbers: list[int]) -> list[Any]:
        return [numbers, list(ctx.state.log)]

    graph.fan_out("each", to="asks", over=lambda items: items, join="all", max_concurrency=2)
    graph.join("all")
    graph.edge(START, first)
    graph.edge(first, "each")
    graph.edge("asks", answered)
    graph.edge(answered, "all")
    graph.edge("all", last)
    graph.edge(last, END)
    return graph
