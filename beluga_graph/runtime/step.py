"""A step on its way to the store, with the work that waits for its commit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol, TypeAlias

from beluga_graph.execution.result import AttemptResult
from beluga_graph.kernel.triggers import RunNode, Trigger
from beluga_graph.kernel.types import Patch
from beluga_graph.kernel.work import WorkChange
from beluga_graph.runtime.node_task import NodeTask
from beluga_graph.storage.committer import Line
from beluga_graph.storage.leases import Acquisition
from stores.base import Op

__all__ = ["Origin", "Step", "StepOwner"]

Origin: TypeAlias = tuple[AttemptResult | None, NodeTask | None, Acquisition | None, Sequence[Op]]
"""How a trigger came about, and what else belongs to its commit. A plain tuple, because each step makes one.

Its items are the attempt that the trigger ends; the task that made the attempt and may go on with the next node; the
acquisition of the lease, `None` for a commit that claims the lease that the run holds; and further operations."""


class StepOwner(Protocol):
    """The driver of a step's run, as the step needs it."""

    @property
    def error(self) -> Exception | None:
        """Why the run is not driven any more, if something went wrong: its later steps are dropped then."""
        ...

    def on_step_committed(self, step: Step) -> None:
        """Called when the step is on disk."""
        ...

    def on_step_rejected(self, error: Exception) -> None:
        """Called when the step was rejected: it is not written and never will be."""
        ...


class Step:
    """One decided step. It satisfies `Entry`, the protocol of the committer."""

    __slots__ = (
        "_owner",
        "_settled",
        "at_ms",
        "change",
        "is_committed",
        "is_released",
        "line",
        "next_token",
        "ops",
        "origin",
        "patch",
        "seq",
        "status_before",
        "trigger",
    )

    change: WorkChange  # of the run's work; known once the patch is applied

    def __init__(
        self,
        owner: StepOwner,
        line: Line,
        seq: int,
        trigger: Trigger,
        patch: Patch,
        ops: list[Op],
        origin: Origin,
        at_ms: int,
        status_before: str,
    ) -> None:
        self._owner = owner
        self.line: Line | None = line
        self.seq = seq
        self.trigger = trigger
        self.patch = patch
        self.ops = ops
        self.origin = origin
        self.at_ms = at_ms
        self.status_before = status_before  # of the run
        self.next_token: str | None = None  # where the task behind the step goes on
        self.is_released = False  # its work has begun, ahead of its commit
        self.is_committed = False
        self._settled: asyncio.Future[None] | None = None

    @property
    def begins_node(self) -> bool:
        """Whether the step begins a node, with which the task behind it may go on."""
        for item in self.change.new:  # noqa: SIM110 - `any` costs a generator for each step
            if type(item) is RunNode:
                return True
        return False

    @property
    def free_task(self) -> NodeTask | None:
        """The task behind this step, if it is there to go on with a node."""
        if self.next_token is not None or (self._settled is not None and self._settled.cancelled()):
            return None
        return self.origin[1]

    @property
    def is_valid(self) -> bool:
        """Whether no earlier step of the run was rejected."""
        return self._owner.error is None

    def on_committed(self) -> None:
        """Show the step's events and begin its work."""
        self.is_committed = True
        self._owner.on_step_committed(self)
        self._settle()

    def on_rejected(self, error: Exception) -> None:
        """Stop the run with the error: the step was not written."""
        self._owner.on_step_rejected(error)
        self._settle()

    def begin_wait(self) -> asyncio.Future[None] | None:
        """Return a future that is done once the step is committed or rejected, or `None` if it already is.

        One task may wait.
        """
        if self.is_committed or not self.is_valid:
            return None
        self._settled = asyncio.get_running_loop().create_future()
        return self._settled

    def _settle(self) -> None:
        if self._settled is not None and not self._settled.done():
            self._settled.set_result(None)
