"""Flows with a time limit at each place that takes one, and the clock of the tests of times."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from beluga_graph import END, START, Graph, Workflow, step, wait_signal
from beluga_graph.testing import VirtualClock

__all__ = [
    "BEGIN",
    "BEGIN_MS",
    "LIMITED",
    "block",
    "limited_frame",
    "limited_inner_flow",
    "limited_node",
    "limited_wait",
    "make_clock",
]

BEGIN = datetime(2030, 1, 31, 9, tzinfo=UTC)
BEGIN_MS = int(BEGIN.timestamp() * 1000)


def make_clock() -> VirtualClock:
    return VirtualClock(BEGIN_MS)


async def block(value: Any) -> None:
    await asyncio.Event().wait()


def limited_node(limit: Any) -> Graph:
    g = Graph("node")
    g.edge(START, g.node(timeout=limit)(block))
    g.edge("block", END)
    return g


def limited_wait(limit: Any) -> Graph:
    g = Graph("wait")
    g.edge(START, g.wait("wait", "go", timeout=limit))
    g.edge("wait", END)
    return g


def limited_frame(limit: Any) -> Graph:
    inner = Workflow("inner", wait_signal("go"))
    g = Graph("frame")
    g.edge(START, g.add(inner, timeout=limit))
    g.edge("inner", END)
    return g


def limited_inner_flow(limit: Any) -> Graph:
    g = Graph("around")
    g.edge(START, g.add(Workflow("inner", wait_signal("go"), timeout=limit)))
    g.edge("inner", END)
    return g


LIMITED: dict[str, Callable[[Any], Any]] = {
    "a node": limited_node,
    "a wait": limited_wait,
    "a frame": limited_frame,
    "a flow within": limited_inner_flow,
    "a step": lambda limit: Workflow("w", step("block", block, timeout=limit)),
    "a step of a flow": lambda limit: Workflow("w", step("s", Workflow("inner", wait_signal("go")), timeout=limit)),
    "a part": lambda limit: Workflow("w", wait_signal("go", timeout=limit)),
    "a workflow": lambda limit: Workflow("w", wait_signal("go"), timeout=limit),
}
