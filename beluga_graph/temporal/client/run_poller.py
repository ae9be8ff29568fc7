"""The poller of one run, for one follower.

A poll is one `describe`, which needs no worker and returns the text in heartbeats. Only if the history has grown, a
query for the new steps follows. If no worker answers it in time, the steps are read from the history.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

from beluga_graph.codec.references import find_references
from beluga_graph.errors import RunError, TemporalUnavailable
from beluga_graph.execution.stored_events import decode_events
from beluga_graph.inspection.views import StepInfo
from beluga_graph.kernel.types import Value
from beluga_graph.plan.plan import Plan
from beluga_graph.temporal.claims.claims import CachedClaims
from beluga_graph.temporal.connection.workflow_client import WorkflowClient
from beluga_graph.temporal.live.record import LiveRecord
from beluga_graph.temporal.mirror.cache import MirroredRuns
from beluga_graph.temporal.workflow.wire import EVENTS, unpack

__all__ = ["PollResult", "RunPoller"]

_QUERY_TIMEOUT = timedelta(seconds=3)
_ASK_AGAIN_S = 10.0  # after a query without an answer
_FIRST_EVENTS = 2  # of a history whose first workflow task is not complete


class PollResult(NamedTuple):
    """The steps that are new since the last poll, and the state of the run."""

    steps: list[StepInfo]
    """New steps. Their `ops` may be missing."""
    records: list[LiveRecord]
    """The text in the heartbeats of attempts under way, whether or not it is new."""
    is_open: bool
    """Whether the run goes on."""
    is_large: bool
    """Whether the answer of the server was large, as with many attempts under way."""


class RunPoller:
    """Polls a run, from the step after `after` on."""

    def __init__(
        self,
        workflows: WorkflowClient,
        mirrored: MirroredRuns,
        claims: CachedClaims | None,
        plan: Plan,
        run_id: str,
        after: int,
        decode: Callable[[Value | None], Any],
    ) -> None:
        self._workflows, self._mirrored, self._claims = workflows, mirrored, claims
        self._plan, self._run_id, self._after, self._decode = plan, run_id, after, decode
        self._read: tuple[str, int] | None = None  # the execution, and the length of its history, that were read
        self._ask_at = 0.0  # when to ask a worker again

    async def poll(self) -> PollResult:
        """Return the steps since the last poll. Raises `RunNotFound`, `TemporalUnavailable`, `SnapshotError`."""
        found = await self._workflows.poll(self._run_id)
        steps: list[StepInfo] = []
        read = (found.execution_id, found.length)
        if not found.is_open:
            steps = await self._read_history()
        elif read != self._read and found.length > _FIRST_EVENTS:
            steps = await self._read_steps()
        self._read = read
        return PollResult(steps, found.records, found.is_open, found.is_large)

    async def _read_steps(self) -> list[StepInfo]:
        """Return the new steps, from a worker or from the history."""
        loop = asyncio.get_running_loop()
        steps: list[StepInfo] = []
        if loop.time() >= self._ask_at:
            try:
                await self._query(steps)
            except (TemporalUnavailable, RunError):
                self._ask_at = loop.time() + _ASK_AGAIN_S
            else:
                return steps
        return steps + await self._read_history()

    async def _query(self, steps: list[StepInfo]) -> None:
        """Add the new steps, page by page. Those of the pages before an error are kept."""
        while True:
            page = await self._workflows.query(self._run_id, EVENTS, self._after, within=_QUERY_TIMEOUT)
            if page["from"] > self._after + 1:  # an earlier execution has made the steps between
                steps += await self._read_history(page["from"] - 1)
                self._after = page["from"] - 1
            unpacked = [unpack(packed) for packed in page["steps"]]
            if self._claims is not None:
                await self._claims.get_all(find_references(unpacked))  # so that decoding does not block the loop
            for step in unpacked:
                steps.append(self._decode_step(*step))
                self._after = steps[-1].seq
            if self._after >= page["last"] or not unpacked:
                return

    async def _read_history(self, until: int | None = None) -> list[StepInfo]:
        """Return the new steps from the run's mirror."""
        steps = await self._mirrored.steps(self._run_id, self._after, until)
        self._after = steps[-1].seq if steps else self._after
        return steps

    def _decode_step(
        self, seq: int, at_ms: int, trigger: str, token: str, attempt: int, events: Any, values: Any
    ) -> StepInfo:
        decoded = decode_events(self._run_id, seq, events, values, self._decode, self._plan.shape.nodes)
        return StepInfo(
            seq=seq, at_ms=at_ms, trigger=trigger, token=token, attempt=attempt, events=tuple(decoded), ops=()
        )
