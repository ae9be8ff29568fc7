"""What every flow can do: be compiled, drawn, run and watched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from beluga_graph.graph import Declared
from beluga_graph.plan import Plan, compile_graph

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from networkx import MultiDiGraph

    from beluga_graph.events import Event

__all__ = ["Flow"]


class Flow:
    """Anything that compiles to a plan. A flow has a `name` and implements `declare`; the rest follows."""

    name: str
    _compiled: tuple[int, Plan] | None = None

    def declare(self) -> Declared:
        """Return the flow as a declared graph."""
        raise NotImplementedError

    def plan(self) -> Plan:
        """Compile the flow, once for all runs. Raises a `GraphError` that names the node, the rule and the way out."""
        declared = self.declare()
        extent = declared.extent
        if self._compiled is None or self._compiled[0] != extent:
            self._compiled = (extent, compile_graph(declared))
        return self._compiled[1]

    def mermaid(self) -> str:
        """Draw the flow as Mermaid text, exactly: the same flow gives the same bytes."""
        from beluga_graph.draw.mermaid import mermaid  # noqa: PLC0415 - drawing is loaded when one draws

        return mermaid(self.plan().shape)

    def to_networkx(self) -> MultiDiGraph[str]:
        """Return the flow as a `networkx.MultiDiGraph`: nodes by path, with their shape's fields as attributes."""
        from beluga_graph.draw.export import to_networkx  # noqa: PLC0415 - networkx is slow to import

        return to_networkx(self.plan().shape)

    async def invoke(self, value: Any, **options: Any) -> Any:
        """Run the flow on an engine in memory and return its output; `options` as in `Engine.execute`."""
        from beluga_graph.engine import Engine  # noqa: PLC0415 - a flow can be built and drawn without it

        async with Engine() as engine:
            return await engine.execute(self, value, **options)

    async def stream(self, value: Any, **options: Any) -> AsyncIterator[Event]:
        """Run the flow on an engine in memory and yield its events; `options` as in `Engine.stream`."""
        from beluga_graph.engine import Engine  # noqa: PLC0415 - a flow can be built and drawn without it

        async with Engine() as engine:
            events = engine.stream(self, value, **options)
            try:
                async for event in events:
                    yield event
            finally:
                await events.aclose()
