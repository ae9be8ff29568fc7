"""Flows of the parity tests that branch: fan-outs, joins, races. The parts of the other flows are here, too."""

import asyncio
from functools import partial
from typing import Any, NoReturn

from beluga_graph import END, START, Failure, Graph, Retry

__all__ = [
    "LATER_S",
    "QUICK",
    "SOON_S",
    "bounded_fan_out",
    "choosing",
    "collected",
    "collected_of_k",
    "describe",
    "describe_all",
    "empty_fan_out",
    "fail",
    "first_wins",
    "hang",
    "join_timeout",
    "join_timeout_without_results",
    "link",
    "nested_thrice",
    "routed_fan_out",
    "static_fan_out",
    "sync_fan_out",
    "tolerated",
    "too_wide",
]

SOON_S = 0.5  # passes while a node hangs
LATER_S = 3.0  # is not over before quick branches have finished, also on a busy machine
QUICK = Retry(attempts=3, initial=0.001, maximum=0.002, jitter=0.5)


def link(g: Graph, *path: Any) -> None:
    """Connect START, nodes and END in a row. No edge leaves a fan-out: the row continues with its join."""
    fan_outs = {node.name for node in g.declare().nodes.values() if node.kind == "fan_out"}
    for source, target in zip((START, *path), (*path, END), strict=True):
        if source not in fan_outs:
            g.edge(source, target)


async def hang(value: Any) -> NoReturn:
    """Never return."""
    await asyncio.Event().wait()
    raise AssertionError(value)


async def fail(value: Any) -> NoReturn:
    """Fail with a message that depends on the input."""
    raise ValueError(f"refused: {value}")


async def describe(failure: Failure) -> list[Any]:
    """Return all fields of a failure."""
    return [failure.node, failure.type, failure.message, failure.attempts, failure.input, failure.branch, failure.item]


async def describe_all(results: list[Any]) -> list[Any]:
    """Return results, with the fields of those that are failures."""
    return [await describe(result) if isinstance(result, Failure) else result for result in results]


# Branches and fan-outs.


def choosing() -> Graph:
    """Return a flow that goes through a branch with each kind of route: a text, a number, a bool."""
    g = Graph("choosing")
    for name in ("text", "number", "truth"):
        g.node(name=name)(lambda value: value)
    g.branch(START, lambda value: "go", {"go": "text", "stop": END})
    g.branch("text", lambda value: 2, {1: END, 2: "number"})
    g.branch("number", lambda value: True, {True: "truth", False: END})
    g.edge("truth", END)
    return g


def static_fan_out() -> Graph:
    g = Graph("static_fan_out")
    g.node(name="double")(lambda value: value * 2)
    g.node(name="negate")(lambda value: -value)
    g.node(name="show")(str)
    g.node(name="after")(lambda text: f"<{text}>")
    g.fan_out("split", to=["double", "negate", "show"], join="merge")
    g.join("merge", lambda results: " ".join(map(str, results)))
    link(g, "split", "merge", "after")
    return g


def _each(name: str, **options: Any) -> Graph:
    g = Graph(name)

    @g.node
    async def square(item):
        return item * item

    g.fan_out("each", to=square, over=range, join="all", **options)
    g.join("all")
    link(g, "each", "all")
    return g


def bounded_fan_out() -> Graph:
    return _each("bounded_fan_out", max_concurrency=3)


def empty_fan_out() -> Graph:
    return _each("empty_fan_out")


def too_wide() -> Graph:
    return _each("too_wide")


def sync_fan_out() -> Graph:
    g = Graph("sync_fan_out")

    @g.node
    def in_thread(ctx, item):
        ctx.emit_text(f"item {item}")
        return item + 1

    g.fan_out("each", to=in_thread, over=range, join="all")
    g.join("all", sum)
    link(g, "each", "all")
    return g


def routed_fan_out() -> Graph:
    """Return a flow in which each branch chooses a way of its own, of one, two or three nodes."""
    g = Graph("routed_fan_out")
    g.node(name="look")(lambda item: item)
    g.node(name="odd")(lambda item: f"odd {item}")
    g.node(name="even")(lambda item: item // 2)
    g.node(name="half")(lambda item: f"half {item}")
    g.fan_out("each", to="look", over=range, join="all")
    g.join("all", "; ".join)
    g.branch("look", lambda item: "zero" if item == 0 else item % 2 == 1, {True: "odd", False: "even", "zero": "half"})
    g.edge("even", "half")
    g.edge("odd", "all")
    g.edge("half", "all")
    link(g, "each", "all")
    return g


def _extend_path(width: int, path: str) -> list[str]:
    return [f"{path}{i}" for i in range(width)]


def nested_thrice() -> Graph:
    g = Graph("nested_thrice")

    @g.node
    async def leaf(ctx, path):
        return [path, ctx.idempotency_key.removeprefix(ctx.run_id)]

    for depth, (name, inner) in enumerate((("first", "second"), ("second", "third"), ("third", "leaf")), 2):
        g.fan_out(name, to=inner, over=partial(_extend_path, depth), join=f"{name}_in")
        g.join(f"{name}_in")
    g.edge(leaf, "third_in")
    g.edge("third_in", "second_in")
    g.edge("second_in", "first_in")
    link(g, "first", "first_in")
    return g


# Joins that do not need every result.


def first_wins() -> Graph:
    """Return a race with one branch that ends."""
    g = Graph("first_wins")
    g.node(name="hang")(hang)
    g.node(name="quick")(lambda value: f"quick {value}")
    g.node(name="also_hang")(hang)
    g.fan_out("race", to=["hang", "quick", "also_hang"], join="first")
    g.join("first", lambda results: results[0], wait=1)
    link(g, "race", "first")
    return g


def tolerated() -> Graph:
    """Return a join that waits for two of four branches. Two fail before two signals let the others end."""
    g = Graph("tolerated")
    g.node(name="fail")(fail)
    g.node(name="also_fail")(fail)
    g.wait("left", "left")
    g.wait("right", "right")
    g.fan_out("four", to=["fail", "left", "also_fail", "right"], join="two")
    g.join("two", wait=2)
    link(g, "four", "two")
    return g


def collected() -> Graph:
    g = Graph("collected")

    @g.node(retry=QUICK)
    async def odd_fails(item):
        return await fail(item) if item["n"] % 2 else item["n"]

    g.fan_out("each", to=odd_fails, over=lambda width: [{"n": n, "text": "é" * n} for n in range(width)], join="all")
    g.join("all", describe_all, on_error="collect")
    link(g, "each", "all")
    return g


def collected_of_k() -> Graph:
    g = Graph("collected_of_k")
    g.node(name="works")(lambda value: value)
    g.node(name="fails")(fail)
    g.fan_out("both", to=["fails", "works"], join="in")
    g.join("in", describe_all, wait=2, on_error="collect")
    link(g, "both", "in")
    return g


def join_timeout() -> Graph:
    g = Graph("join_timeout")
    g.node(name="quick")(lambda value: f"quick {value}")
    g.node(name="hang")(hang)
    g.node(name="also_quick")(lambda value: f"also quick {value}")
    g.fan_out("three", to=["quick", "hang", "also_quick"], join="in_time")
    g.join("in_time", timeout=LATER_S)
    link(g, "three", "in_time")
    return g


def join_timeout_without_results() -> Graph:
    g = Graph("join_timeout_without_results")
    g.node(name="hang")(hang)
    g.node(name="also_hang")(hang)
    g.fan_out("two", to=["hang", "also_hang"], join="in_time")
    g.join("in_time", len, timeout=SOON_S)
    link(g, "two", "in_time")
    return g
