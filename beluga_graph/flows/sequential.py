"""`SequentialAgent`: flows in a row, each with the output of the previous one as its input."""

from __future__ import annotations

from collections.abc import Sequence

from beluga_graph.flows.checks import check_flow_name
from beluga_graph.flows.flow import Flow
from beluga_graph.flows.frames import build_frames
from beluga_graph.plan.declared import END, START, Declared

__all__ = ["SequentialAgent"]


class SequentialAgent(Flow):
    """A row of flows. Each gets the output of the previous one, and nothing else.

    The output of the last flow is the output of the row. The first flow that fails ends the row.

    ```python
    desk = SequentialAgent("desk", [triage, polish])
    ```

    Args:
        name: The flow's name. An engine knows one flow by each name and version.
        agents: The flows, in order: agents, graphs or any others. A flow may occur several times; its nodes are then
            called `solver`, `solver-2` and so on.
        version: The version of the flow, such as `"2"`; `None` for a flow without versions. Runs keep the version that
            they began with.

    Attributes:
        name: The flow's name.
        agents: The flows, in order.
        version: The flow's version, if it has one.

    Raises:
        BadName: The name or the version is not valid.
    """

    def __init__(self, name: str, agents: Sequence[Flow], *, version: str | None = None) -> None:
        check_flow_name(name, version)
        self.name = name
        self.version = version
        self.agents = tuple(agents)

    def declare(self) -> Declared:
        """Return the row as a graph: a chain of frames."""
        graph = Declared(self.name, version=self.version)
        previous = START.name
        for node in build_frames(self.name, self.agents):
            graph.nodes[node.name] = node
            graph.edges.append((previous, node.name))
            previous = node.name
        graph.edges.append((previous, END.name))
        return graph
