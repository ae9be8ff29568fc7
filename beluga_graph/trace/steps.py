"""Committed steps as the trace reads them."""

from __future__ import annotations

from typing import Protocol

from beluga_graph.kernel.types import Patch
from beluga_graph.trace.visits import DONE, FAILED

__all__ = ["CommittedStep", "find_outcomes", "find_routes"]


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
