"""Run a flow from synchronous code."""

from __future__ import annotations

import asyncio
from typing import Any

from beluga_graph.engine.engine import Engine
from beluga_graph.plan.plan import Compilable

__all__ = ["run_sync"]


def run_sync(flow: Compilable, value: Any = None, **options: Any) -> Any:
    """Run a flow from synchronous code, on an engine in memory, and return its output.

    `options` are those of `Engine.execute`. Raises `RuntimeError` in a thread with a running event loop, as in a
    notebook or a server: write `await flow.invoke(value)` there.

    Example:
        print(run_sync(flow, "Ada"))
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        msg = "run_sync needs a thread without a running event loop: here, write `await flow.invoke(value)`"
        raise RuntimeError(msg)

    async def run() -> Any:
        async with Engine() as engine:
            return await engine.execute(flow, value, **options)

    return asyncio.run(run())
