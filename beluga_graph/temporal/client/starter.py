"""The starter: starts runs on the server, continues failed ones, and changes their graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from temporalio.client import WorkflowUpdateFailedError

from beluga_graph.codec.references import digest_of
from beluga_graph.errors import GraphChanged, LimitReached, RunBusy, RunConflict
from beluga_graph.execution.same_run import check_same_flow, check_same_input
from beluga_graph.execution.sessions import check_session
from beluga_graph.inspection.compatibility import check_changes
from beluga_graph.inspection.flow_registry import FlowRegistry
from beluga_graph.inspection.views import RunStatus
from beluga_graph.kernel.shape import Shape
from beluga_graph.kernel.snapshot import FAILED, Snapshot
from beluga_graph.kernel.triggers import PlanAdopted, RunResumed, RunStarted, Trigger
from beluga_graph.kernel.types import Renames
from beluga_graph.plan.plan import Plan
from beluga_graph.plan.renames import add_question_renames, check_new_names
from beluga_graph.policy import Limits
from beluga_graph.temporal.claims.claims import CachedClaims
from beluga_graph.temporal.client.sessions import Sessions
from beluga_graph.temporal.client.temporary_workers import TemporaryWorkers
from beluga_graph.temporal.connection.new_execution import Encoder, NewExecution, new_snapshot
from beluga_graph.temporal.connection.workflow_client import ServerRun, WorkflowClient
from beluga_graph.temporal.mirror.cache import MirroredRuns
from beluga_graph.temporal.mirror.replay import ReplayedRun
from beluga_graph.temporal.workflow.wire import STATE

__all__ = ["Starter", "continue_run", "resume_triggers"]

_TRIES = 20


class Starter:
    """Brings runs to the server."""

    def __init__(
        self,
        workflows: WorkflowClient,
        flows: FlowRegistry,
        mirrored: MirroredRuns,
        claims: CachedClaims | None,
        temporary_workers: TemporaryWorkers,
    ) -> None:
        self._workflows, self._flows, self._mirrored, self._claims = workflows, flows, mirrored, claims
        self._temporary_workers = temporary_workers
        self._sessions = Sessions(workflows)

    async def start(
        self, plan: Plan, run_id: str, value: Any, context: Any, session: str | None, limits: Limits | None
    ) -> Plan:
        """Start a run, or continue the one with this id. Return the plan that it has: a known run keeps its version."""
        own = (limits.overrides() if limits is not None else {}).get("max_value_bytes")
        encoder = Encoder(partial(plan.encode, allowed=own), has_claims=self._claims is not None)
        run = new_snapshot(plan, encoder, run_id, value, context, limits)
        if self._claims is not None and encoder.large:
            await self._claims.put_all(encoder.large)
        if await self._begin(plan, run, session):
            return plan
        known = await self._workflows.describe(run_id)
        plan = self._flows.plan_for(plan, known)
        _check_same(known, plan, digest_of(plan.encode(value, own)))
        if known.status == RunStatus.failed:
            await self._resume_failed(known, plan, limits)
        return plan

    async def _begin(self, plan: Plan, run: Snapshot, session: str | None) -> bool:
        """Start the execution of a new run, with its session; return `False` if the server has a run of this id."""
        if session is None:
            return await self._workflows.begin(NewExecution(plan, run, [RunStarted(0)]))
        if await self._workflows.exists(run.run_id):  # before it takes the session
            return False
        check_session(plan, session, run.run_id)
        taken = await self._sessions.take(plan, session, run.run_id)
        run.session = tuple(taken.session)
        new = NewExecution(plan, run, [RunStarted(0)], session=taken.pieces, begin_by=taken.begin_by)
        try:
            return await self._workflows.begin(new)
        except LimitReached:
            await self._sessions.give_back(taken)
            raise

    async def resume(self, run_id: str, limits: Limits | None, renames: Mapping[str, str]) -> Plan:
        """Continue a run. A failed one gets a new execution; one that goes on adopts the graph if that has changed.

        Raises `RunNotFound`, `RunError` for an unknown flow, `GraphChanged`, `BadRename`, `RunBusy`.
        """
        for _ in range(_TRIES):
            known = await self._workflows.describe(run_id)
            plan = self._flows.plan_of(known)
            if known.status == RunStatus.failed:
                is_done = await self._resume_failed(known, plan, limits, tuple(renames.items()))
            elif known.is_open:
                is_done = await self._change_graph(known, plan, limits, tuple(renames.items()))
            else:
                is_done = True
            if is_done:
                return plan
        message = "it goes on faster than its change can be judged: stop the workers of its old graph, and resume it"
        raise RunBusy(run_id, message)

    async def _resume_failed(self, known: ServerRun, plan: Plan, limits: Limits | None, renames: Renames = ()) -> bool:
        """Begin a new execution of a failed run, with the state in which it failed."""
        left = await self._mirrored.replay(known.run_id)
        if left.execution_id != known.execution_id:
            return False
        await self._sessions.require_held(left.run)
        triggers = resume_triggers(left.run, left.shape, plan, limits, renames)
        return await self._workflows.begin(continue_run(left, plan, triggers), after=known)

    async def _change_graph(self, known: ServerRun, plan: Plan, limits: Limits | None, renames: Renames) -> bool:
        """Let a run that goes on adopt a changed graph. Its attempts under way are made again, by the new code.

        Return `False` if the run has moved on meanwhile.
        """
        if known.plan == plan.fingerprint and not renames and limits is None:
            return True
        shape = await self._workflows.read_shape(known)
        try:
            async with self._temporary_workers.serve(known):  # those that have its version may have ended for good
                run = Snapshot.from_plain((await self._workflows.query(known.run_id, STATE))["run"])
                if run.plan != shape.fingerprint:
                    return False  # another caller has just changed its graph
                triggers = resume_triggers(run, shape, plan, limits, renames)
                return not triggers or await self._workflows.change_graph(plan, run, triggers)
        except RunConflict as error:
            if isinstance(error.__cause__, WorkflowUpdateFailedError):
                raise  # the run refuses it
            return False  # it has just ended or failed


def resume_triggers(
    run: Snapshot, shape: Shape, plan: Plan, limits: Limits | None = None, renames: Renames = ()
) -> list[Trigger]:
    """Return the triggers with which a run of one graph goes on with a plan. Raises `GraphChanged`, `BadRename`."""
    found: list[Trigger] = []
    if run.plan != plan.fingerprint:
        renames = add_question_renames(shape, plan.shape, renames) if renames else ()
        check_changes(run, shape, plan, renames)
        found.append(PlanAdopted(plan.fingerprint, 0, renames))
    else:
        check_new_names(plan.shape, renames)
    if run.status == FAILED or limits is not None:
        found.append(RunResumed(0, tuple((limits.overrides() if limits is not None else {}).items())))
    return found


def continue_run(left: ReplayedRun, plan: Plan, triggers: Sequence[Trigger]) -> NewExecution:
    """Return the next execution of a run that has ended."""
    return NewExecution(plan, left.run, triggers, left.items.to_plain(), left.inbox, left.session)


def _check_same(known: ServerRun, plan: Plan, input_digest: bytes) -> None:
    """Raise `RunConflict` if a run belongs to another flow or has another input, `GraphChanged` for another graph."""
    check_same_flow(known.run_id, known.flow, plan.name)
    check_same_input(known.run_id, bytes.fromhex(known.input_digest), input_digest)
    if known.is_open and known.plan != plan.fingerprint:
        raise GraphChanged(known.run_id, ("it goes on with an earlier version of its flow",), is_driven=True)
