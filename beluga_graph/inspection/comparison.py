"""The result of comparing two runs: where their paths diverge, and how their results differ."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from beluga_graph.events import Failure
from beluga_graph.inspection.views import RunStatus

__all__ = ["ABSENT", "Absent", "ComparedNode", "ComparedRun", "ComparedValue", "Divergence", "RunComparison"]


class Absent(Enum):
    """Placeholder for a part that only the other one of two values has."""

    absent = "absent"


ABSENT = Absent.absent


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRun:
    """One of two compared runs, as of its last step.

    Sums include the history before a fork as far as it is stored.

    Attributes:
        run_id: The run's id.
        flow: The name of its flow.
        plan: The fingerprint of its graph.
        status: Its status.
        seq: Its last step.
        steps: How many nodes have finished.
        took_ms: Milliseconds from the first step to the last, without the time between a forked step and the fork.
        busy_ms: Milliseconds in attempts, summed over nodes, some of which may have run at the same time.
        attempts: How many attempts of nodes were made.
        usage: Sums over the run that agents report.
        output: Its output, or `None`.
        failure: Its failure, or `None`.
        forked_from: The run and the step that it was forked from, or `None`.
        lost_before: The run and the step before which nothing is known, because that source is not stored any more.
    """

    run_id: str
    flow: str
    plan: str
    status: RunStatus
    seq: int
    steps: int
    took_ms: int
    busy_ms: int
    attempts: int
    usage: dict[str, int]
    output: Any
    failure: Failure | None
    forked_from: tuple[str, int] | None = None
    lost_before: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """The first thing that one run did and the other did not.

    Attributes:
        run_id: The run that did it; for a fork, this may be its source.
        seq: The step.
        token: The structural name of the visit.
        node: The path of the node.
        event: `begins`, `chooses` for a route, or the type of a stored event.
        detail: The name of a tool or signal, the target of a handoff, a route, or the type of a failure.
    """

    run_id: str
    seq: int
    token: str
    node: str
    event: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedNode:
    """The activity of one node in two runs.

    Attributes:
        node: The path of the node.
        visits: How often the first and the second run visited it.
        attempts: How many attempts each made.
        busy_ms: Milliseconds in its attempts, for each.
        usage: The usage that it reported, for each.
    """

    node: str
    visits: tuple[int, int]
    attempts: tuple[int, int]
    busy_ms: tuple[int, int]
    usage: tuple[dict[str, int], dict[str, int]]

    @property
    def differs(self) -> bool:
        """Whether anything but the time is different."""
        return any(pair[0] != pair[1] for pair in (self.visits, self.attempts, self.usage))


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedValue:
    """A value that differs between two runs: the output of a visit, or a field of the state.

    Attributes:
        name: The structural name of the visit, or the name of the field.
        node: The path of the node; empty for a field.
        values: The value in the first and in the second run.
        errors: The error of the visit in each run if it failed, or if its last attempt did.
        known: Whether the first and the second run have the field.
    """

    name: str
    node: str = ""
    values: tuple[Any, Any]
    errors: tuple[str, str] = ("", "")
    known: tuple[bool, bool] = (True, True)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunComparison:
    """Two runs side by side, as `Engine.compare` returns them.

    Attributes:
        first: The first run.
        second: The second run.
        shared_steps: How many steps are the history of both: those before a fork.
        divergences: For each run, where its path diverges from the other's; `None` for a run that did nothing which
            the other did not. Values are not considered.
        nodes: All nodes that either run has visited, in the order of the first run.
        outputs: Outputs of visits that both runs made and that differ.
        state: The fields of the state that differ.
        input_differs: Whether the inputs differ.
        output_differs: Whether the outputs of the runs differ.
    """

    first: ComparedRun
    second: ComparedRun
    shared_steps: int
    divergences: tuple[Divergence | None, Divergence | None]
    nodes: tuple[ComparedNode, ...]
    outputs: tuple[ComparedValue, ...]
    state: tuple[ComparedValue, ...]
    input_differs: bool
    output_differs: bool

    @property
    def same_flow(self) -> bool:
        """Whether both runs are of flows with the same name."""
        return self.first.flow == self.second.flow

    @property
    def same_plan(self) -> bool:
        """Whether both runs have the same graph."""
        return self.first.plan == self.second.plan

    @property
    def differs(self) -> bool:
        """Whether anything but times, ids and the fingerprints of the graphs is different."""
        return (
            self.divergences != (None, None)
            or self.first.status != self.second.status
            or bool(self.outputs or self.state or self.input_differs or self.output_differs)
            or any(node.differs for node in self.nodes)
        )
