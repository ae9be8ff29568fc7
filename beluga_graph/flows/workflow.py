"""`Workflow`: steps in a row, with waits and pauses between them, and a deadline for the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from beluga_graph.errors import DuplicateNode, Unreachable
from beluga_graph.flows.checks import check_flow_name, check_signal_name, check_types
from beluga_graph.flows.flow import Flow
from beluga_graph.flows.interrupts import declare_handlers
from beluga_graph.flows.steps import Part, to_part
from beluga_graph.plan.declared import END, START, Declared, DeclaredNode
from beluga_graph.plan.times import Delay, read_time
from beluga_graph.policy import Limits

__all__ = ["Workflow"]


class Workflow(Flow):
    """A row of durable steps. Each gets the output of the previous one, the first one the workflow's input.

    A workflow is immutable.

    ```python
    invoice = Workflow("invoice", total, sleep("grace", 3600), charge, wait_signal("receipt", type=str), timeout=86400)
    ```

    Args:
        name: The workflow's name. An engine knows one flow by each name and version.
        *steps: Parts (`step`, `wait_signal`, `sleep`), plain functions, or any flows, in order. Each one is a node
            under its own name.
        timeout: The deadline of the whole: seconds or a `timedelta`, which count from the run's start, also across
            restarts; a `datetime` with a zone; or a function of the workflow's input that returns one of these, or
            `None` for no deadline. It takes effect before anything is run again.
        state: A pydantic model class whose fields the steps read as `ctx.state` and write by `ctx.update`.
        limits: Bounds of every run of the workflow.
        types: Classes (dataclasses, pydantic models, Enums) of values that no annotation names, as in `Graph`.
        version: The version of the workflow, such as `"2"`; `None` for one without versions. Runs keep the version that
            they began with.

    Attributes:
        name: The workflow's name.
        parts: The steps as parts, in order.
        timeout: The deadline of the whole as it was given, if any.
        state: The pydantic model class of the state, if any.
        limits: Bounds of every run, if any.
        types: The types named in addition to annotations.
        version: The workflow's version, if it has one.

    Raises:
        BadName: The name or the version is not valid.
        DuplicateNode: Two steps have the same name.
        Unreachable: There are no steps.
        TypeError, ValueError: A parameter or a step is not valid.
    """

    def __init__(
        self,
        name: str,
        *steps: Part | Callable[..., Any] | Flow,
        timeout: Delay | None = None,
        state: type[Any] | None = None,
        limits: Limits | None = None,
        types: Iterable[Any] = (),
        version: str | None = None,
    ) -> None:
        check_flow_name(name, version)
        self._limit: Final = read_time(f"workflow {name!r}", "timeout", timeout)
        if not steps:
            raise Unreachable(name, f"workflow {name!r}", "it has no steps", "give it at least one")
        self.name = name
        self.version = version
        self.parts: Final = tuple(to_part(given) for given in steps)
        self.timeout: Final = timeout
        self.state: Final = state
        self.limits: Final = limits
        self.types: Final = check_types(f"workflow {name!r}", types)
        seen: set[str] = set()
        for step in (name for part in self.parts for name in _iter_names(part.node())):
            if step in seen:
                rule = f"two of its steps are called {step!r}"
                raise DuplicateNode(name, f"workflow {name!r}", rule, "give one another name: step(name, …)")
            seen.add(step)

    def declare(self) -> Declared:
        """Return the workflow as a graph: a chain."""
        limit = self._limit
        graph = Declared(
            self.name,
            version=self.version,
            state=self.state,
            limits=self.limits,
            timeout=limit.seconds,
            types=self.types,
            due=limit.due,
            decide=limit.decide,
        )

        def declare(node: DeclaredNode) -> None:
            check_signal_name(self.name, node)
            graph.nodes[node.name] = node

        previous = START.name
        for part in self.parts:
            node = part.node()
            declare(node)
            declare_handlers(graph, node, declare)
            graph.edges.append((previous, part.name))
            previous = part.name
        graph.edges.append((previous, END.name))
        return graph


def _iter_names(node: DeclaredNode) -> Iterator[str]:
    """Yield the names of a step and of those that handle its signals."""
    yield node.name
    for handler in node.on_signal.values():
        yield from _iter_names(handler)
