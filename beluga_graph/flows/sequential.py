"""`SequentialAgent`: one flow after the other; each gets the output of the one before, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from beluga_graph.flows.checks import check_name
from beluga_graph.flows.flow import Flow
from beluga_graph.flows.frames import frames_of
from beluga_graph.plan.declared import END, START, Declared

__all__ = ["SequentialAgent"]


class SequentialAgent(Flow):
    """Run flows in a row. The output is the last one's; the first that fails ends the row.

    One flow may be given several times; its nodes are then called `solver`, `solver-2` and so on.
    """

    def __init__(self, name: str, agents: Sequence[Flow]) -> None:
        check_name(name, name)
        self.name = name
        self.agents = tuple(agents)

    def declare(self) -> Declared:
        """Return the row as a graph: a chain of frames."""
        graph = Declared(self.name)
        previous = START.name
        for node in frames_of(self.name, self.agents):
            graph.nodes[node.name] = node
            graph.edges.append((previous, node.name))
            previous = node.name
        graph.edges.append((previous, END.name))
        return graph
