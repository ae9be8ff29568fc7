"""`Flow`: the base of everything that can be compiled, drawn and run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from beluga_graph.plan.compile import compile_graph
from beluga_graph.plan.declared import Declared, make_flow_id
from beluga_graph.plan.plan import Plan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from networkx import MultiDiGraph

    from beluga_graph.draw.render import Format, Theme
    from beluga_graph.events import Event

__all__ = ["Flow"]


class Flow:
    """Anything that compiles to a plan: a graph, a workflow, an agent, a pattern of agents.

    A subclass sets `name`, and `version` if it has one, and implements `declare`; all other methods build on these.

    Attributes:
        name: The flow's name. An engine knows one flow by each name and version.
        version: The flow's version, if it has one. Runs keep the version that they began with.
    """

    name: str
    version: str | None = None
    _compiled: tuple[int, Plan] | None = None

    @property
    def id(self) -> str:
        """The id under which runs store their flow, as `RunInfo.flow`: `shop`, or `shop@2` for version 2 of it."""
        return make_flow_id(self.name, self.version)

    def declare(self) -> Declared:
        """Return the flow as a declared graph."""
        raise NotImplementedError

    def plan(self) -> Plan:
        """Compile the flow. The plan is cached until more is declared.

        Raises a `GraphError` that names the node, the rule that it breaks, and the way out.
        """
        declared = self.declare()
        extent = declared.extent
        if self._compiled is None or self._compiled[0] != extent:
            self._compiled = (extent, compile_graph(declared))
        return self._compiled[1]

    def mermaid(self, *, depth: int | None = None) -> str:
        """Draw the flow as Mermaid text, with all nodes and edges. Equal flows give equal bytes, in every format.

        Args:
            depth: How many levels of sub-flows are drawn open. Deeper ones are folded into one box each; 0 folds all
                sub-flows, `None` opens all.

        Raises:
            GraphError: The flow does not compile.
            ValueError: `depth` is negative.
        """
        return self._render("mermaid", depth)

    def dot(self, *, depth: int | None = None) -> str:
        """Draw the flow as DOT text for Graphviz; `depth` and errors as for `mermaid`."""
        return self._render("dot", depth)

    def ascii(self, *, depth: int | None = None) -> str:
        """Draw the flow as text for a terminal; `depth` and errors as for `mermaid`.

        ```python
        print(graph.ascii())
        ```
        """
        return self._render("ascii", depth)

    def svg(self, *, depth: int | None = None, theme: Theme = "auto") -> str:
        """Draw the flow as a self-contained SVG document.

        Args:
            depth: How many levels of sub-flows are drawn open, as for `mermaid`.
            theme: `light`, `dark`, or `auto` for the reader's preference.

        Raises:
            GraphError: The flow does not compile.
            ValueError: `depth` is negative, or `theme` is unknown.
        """
        return self._render("svg", depth, theme)

    def html(self) -> str:
        """Return a self-contained HTML page with the flow's drawing, to zoom, fold and search.

        Raises `GraphError` if the flow does not compile.
        """
        from beluga_graph.draw.page import render_page  # noqa: PLC0415 - drawing is loaded when it is used

        return render_page(self.plan().shape)

    def to_networkx(self) -> MultiDiGraph[str]:
        """Return the flow as a `networkx.MultiDiGraph` over node paths, with `START` and `END`.

        Nodes have the attributes `kind`, `frame`, `input_type` and `output_type`; edges have `kind` and `route`. Raises
        `GraphError` if the flow does not compile.
        """
        from beluga_graph.draw.formats.networkx_graph import to_networkx  # noqa: PLC0415 - networkx is slow to import

        return to_networkx(self.plan().shape)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002 - IPython's
        """Show the flow in a notebook: as a drawing, or as text where drawings cannot be shown.

        A graph that does not compile is shown as far as it was declared, with the error above it.
        """
        from beluga_graph.draw.display import render_flow  # noqa: PLC0415 - drawing is loaded when it is used

        return render_flow(self)

    def _render(self, form: Format, depth: int | None, theme: Theme = "auto") -> str:
        from beluga_graph.draw.render import render  # noqa: PLC0415 - drawing is loaded when it is used

        return render(self.plan().shape, form, depth=depth, theme=theme)

    async def invoke(self, value: Any, **options: Any) -> Any:
        """Run the flow on an engine with a store in memory, and return its output.

        Nothing of the run is kept. `options` and errors are those of `Engine.execute`.

        ```python
        assert await greeting.invoke("ada") == "Hello, Ada!"
        ```
        """
        from beluga_graph.engine.engine import Engine  # noqa: PLC0415 - a flow can be built and drawn without it

        async with Engine() as engine:
            return await engine.execute(self, value, **options)

    async def stream(self, value: Any, **options: Any) -> AsyncIterator[Event]:
        """Run the flow on an engine with a store in memory, and yield its events.

        Nothing of the run is kept. `options` and errors are those of `Engine.stream`.

        ```python
        async for event in agent.stream("Why is the sky blue?"):
            if event.type == "text":
                print(event.text, end="")
        ```
        """
        from beluga_graph.engine.engine import Engine  # noqa: PLC0415 - a flow can be built and drawn without it

        async with Engine() as engine:
            events = engine.stream(self, value, **options)
            try:
                async for event in events:
                    yield event
            finally:
                await events.aclose()
