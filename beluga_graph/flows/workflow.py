"""`Workflow`: steps in a row, with waits and pauses between them, and one deadline for the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from beluga_graph.errors import DuplicateNode, Unreachable
from beluga_graph.flows.checks import check_name, check_seconds, check_signal_name, checked_types
from beluga_graph.flows.flow import Flow
from beluga_graph.flows.steps import Part, as_part
from beluga_graph.plan.declared import END, START, Declared
from beluga_graph.policy import Limits

__all__ = ["Workflow"]


class Workflow(Flow):
    """Run steps in a row; each gets the output of the one before, the first one the workflow's input.

    A step is a part (`step`, `wait_signal`, `sleep`), a plain function or any flow, under its own name. `timeout`
    is the deadline of the whole in seconds: it counts from the run's start, also across restarts, and fires
    before anything is run again. `state` is a pydantic model class and `types` are further classes of values, as in
    a `Graph`. A workflow does not change once it is made.
    """

    def __init__(
        self,
        name: str,
        *steps: Part | Callable[..., Any] | Flow,
        timeout: float | None = None,
        state: type[Any] | None = None,
        limits: Limits | None = None,
        types: Iterable[Any] = (),
    ) -> None:
        check_name(name, name)
        check_seconds(f"workflow {name!r}", "timeout", timeout)
        if not steps:
            raise Unreachable(name, f"workflow {name!r}", "it has no steps", "give it at least one")
        self.name = name
        self.parts: Final = tuple(as_part(given) for given in steps)
        self.timeout: Final = timeout
        self.state: Final = state
        self.limits: Final = limits
        self.types: Final = checked_types(f"workflow {name!r}", types)
        seen: set[str] = set()
        for part in self.parts:
            if part.name in seen:
                rule = f"two of its steps are called {part.name!r}"
                raise DuplicateNode(name, f"workflow {name!r}", rule, "give one another name: step(name, …)")
            seen.add(part.name)

    def declare(self) -> Declared:
        """Return the workflow as a graph: a chain."""
        graph = Declared(self.name, state=self.state, limits=self.limits, timeout=self.timeout, types=self.types)
        previous = START.name
        for part in self.parts:
            graph.nodes[part.name] = part.node()
            check_signal_name(self.name, graph.nodes[part.name])
            graph.edges.append((previous, part.name))
            previous = part.name
        graph.edges.append((previous, END.name))
        return graph
