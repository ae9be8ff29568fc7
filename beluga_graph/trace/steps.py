"""Committed steps as the trace reads them."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from beluga_graph.kernel.listener_list import is_listener
from beluga_graph.kernel.listeners import describe_listener, pick_receiver
from beluga_graph.kernel.ops import SET_CONSUMED
from beluga_graph.kernel.shape import Shape
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.types import Patch
from beluga_graph.trace.edges import BEGIN, format_condition, name_point
from beluga_graph.trace.visits import DONE, FAILED

__all__ = ["CommittedStep", "Interruption", "find_interruption", "find_outcomes", "find_routes"]


class CommittedStep(Protocol):
    """A committed step of a run."""

    @property
    def seq(self) -> int:
        """Its number."""

    @property
    def at_ms(self) -> int:
        """The clock time at which it was made."""

    @property
    def trigger(self) -> str:
        """The name of the trigger that caused it."""

    @property
    def token(self) -> str:
        """The token or timer that the trigger concerns."""

    @property
    def patch(self) -> Patch:
        """The operations and events of the step."""


def find_outcomes(step: CommittedStep) -> tuple[dict[str, str], set[str]]:
    """Return how tokens end in a step, by name, and the nodes that report an error in it."""
    outcomes: dict[str, str] = {}
    failed: set[str] = set()
    for kind, node, token, _, _ in step.patch.events:
        if kind == "error":
            outcomes[token] = FAILED
            failed.add(node)
        elif kind in ("node_finished", "signal", "timer"):
            outcomes.setdefault(token, DONE)
    if step.trigger == "NodeFailed":  # a failed tool has no error event: the agent gets the error as the call's result
        outcomes[step.token] = FAILED
    return outcomes, failed


def find_routes(step: CommittedStep) -> dict[str, str]:
    """Return the conditions of the routes that nodes choose in a step, by node."""
    details = [(node, detail) for _, node, _, detail, _ in step.patch.events if detail is not None]
    return {node: f"? {detail['route']}" for node, detail in details if "route" in detail}


class Interruption(NamedTuple):
    """The interrupting edge that a step follows."""

    name: str
    """The listener: a token, a scope, or the place of a whole graph."""
    source: str
    """The node; for a whole graph, the point where it begins."""
    condition: str


def find_interruption(step: CommittedStep, shape: Shape, run: Snapshot) -> Interruption | None:
    """Return the interrupting edge that a step follows, if any; `run` is the snapshot before the step."""
    if step.trigger != "SignalReceived":
        return None
    signal = next(op[1] for op in step.patch.ops if op[0] == SET_CONSUMED)
    name = pick_receiver(run, signal)
    if not is_listener(shape, run, signal, name):
        return None
    node, _ = describe_listener(run, name)
    is_graph = name not in run.tokens and name not in run.scopes
    return Interruption(name, name_point(node, BEGIN) if is_graph else node, format_condition("interrupt", signal))
