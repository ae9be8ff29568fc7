"""What every flow can do: be compiled, drawn, run and watched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from beluga_graph.plan import Plan, compile_graph
from beluga_graph.plan.declared import Declared

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from networkx import MultiDiGraph

    from beluga_graph.draw.render import Format, Theme
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

    def mermaid(self, *, depth: int | None = None) -> str:
        """Draw the flow as Mermaid text, exactly: the same flow gives the same bytes, as in every format.

        Sub-flows deeper than `depth` are drawn folded, as one box each; 0 folds them all. Raises `ValueError`.
        """
        return self._drawn("mermaid", depth)

    def dot(self, *, depth: int | None = None) -> str:
        """Draw the flow as text for Graphviz; `depth` as for `mermaid`."""
        return self._drawn("dot", depth)

    def ascii(self, *, depth: int | None = None) -> str:
        """Draw the flow with the signs of a terminal; `depth` as for `mermaid`."""
        return self._drawn("ascii", depth)

    def svg(self, *, depth: int | None = None, theme: Theme = "auto") -> str:
        """Draw the flow as an SVG document that needs nothing else; `depth` as for `mermaid`.

        The theme is `light`, `dark`, or `auto` for what the reader prefers.
        """
        return self._drawn("svg", depth, theme)

    def html(self) -> str:
        """Return a page with the flow's drawing, to zoom, fold and search: one HTML file that needs nothing else."""
        from beluga_graph.draw.page import render_page  # noqa: PLC0415 - drawing is loaded when one draws

        return render_page(self.plan().shape)

    def to_networkx(self) -> MultiDiGraph[str]:
        """Return the flow as a `networkx.MultiDiGraph`: nodes by path, with their shape's fields as attributes."""
        from beluga_graph.draw.formats.networkx_graph import to_networkx  # noqa: PLC0415 - networkx is slow to import

        return to_networkx(self.plan().shape)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002 - IPython's
        """Show the flow in a notebook: as a drawing, and as text where there are none.

        A graph that does not compile yet is drawn as far as it was declared, with the fault above it.
        """
        from beluga_graph.draw.display import render_flow  # noqa: PLC0415 - drawing is loaded when one draws

        return render_flow(self)

    def _drawn(self, form: Format, depth: int | None, theme: Theme = "auto") -> str:
        from beluga_graph.draw.render import render  # noqa: PLC0415 - drawing is loaded when one draws

        return render(self.plan().shape, form, depth=depth, theme=theme)

    async def invoke(self, value: Any, **options: Any) -> Any:
        """Run the flow on an engine in memory and return its output; `options` as in `Engine.execute`."""
        from beluga_graph.engine.engine import Engine  # noqa: PLC0415 - a flow can be built and drawn without it

        async with Engine() as engine:
            return await engine.execute(self, value, **options)

    async def stream(self, value: Any, **options: Any) -> AsyncIterator[Event]:
        """Run the flow on an engine in memory and yield its events; `options` as in `Engine.stream`."""
        from beluga_graph.engine.engine import Engine  # noqa: PLC0415 - a flow can be built and drawn without it

        async with Engine() as engine:
            events = engine.stream(self, value, **options)
            try:
                async for event in events:
                    yield event
            finally:
                await events.aclose()
