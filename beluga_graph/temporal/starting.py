"""Starting: how a run comes to the server. It is started, attached to, or continued after a failure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from beluga_graph.codec.references import digest_of
from beluga_graph.codec.registry import Registry
from beluga_graph.codec.values import Codec
from beluga_graph.errors import GraphChanged, LimitReached, RunConflict
from beluga_graph.execution.sessions import check_session
from beluga_graph.inspection.compatibility import complete_renames, has_changed
from beluga_graph.inspection.flow_registry import FlowRegistry
from beluga_graph.inspection.views import RunStatus
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.triggers import CancelRequested, PlanAdopted, RunResumed, RunStarted, Trigger
from beluga_graph.kernel.types import Renames
from beluga_graph.plan.plan import Plan
from beluga_graph.policy import Limits
from beluga_graph.temporal.claims import CachedClaims
from beluga_graph.temporal.mirrored_runs import MirroredRuns
from beluga_graph.temporal.requests import Encoder, new_snapshot
from beluga_graph.temporal.sessions import Sessions
from beluga_graph.temporal.workflows import ServerRun, Workflows

__all__ = ["Starter"]


class Starter:
    """Brings runs to the server."""

    def __init__(
        self, workflows: Workflows, flows: FlowRegistry, mirrored: MirroredRuns, claims: CachedClaims | None
    ) -> None:
        self._workflows, self._flows, self._mirrored, self._claims = workflows, flows, mirrored, claims
        self._sessions = Sessions(workflows)

    async def start(
        self, plan: Plan, run_id: str, value: Any, context: Any, session: str | None, limits: Limits | None
    ) -> None:
        """Start a run, or continue the one with this id."""
        own = (limits.overrides() if limits is not None else {}).get("max_value_bytes")
        encoder = Encoder(partial(plan.encode, allowed=own), has_claims=self._claims is not None)
        run = new_snapshot(plan, encoder, run_id, value, context, limits)
        if self._claims is not None and encoder.large:
            await self._claims.put_all(encoder.large)
        if await self._begin(plan, run, session):
            return
        assert isinstance(run.input, bytes)
        known = await self._workflows.describe(run_id)
        _check_same(known, plan, digest_of(run.input).hex())
        if known.status == RunStatus.failed:
            await self._resume_failed(known, plan, limits)

    async def _begin(self, plan: Plan, run: Snapshot, session: str | None) -> bool:
        """Start the execution of a new run, with its session; return `False` if the server has a run of this id."""
        if session is None:
            return await self._workflows.begin(plan, run, [RunStarted(0)])
        if await self._workflows.exists(run.run_id):  # before it takes the session
            return False
        check_session(plan, session, run.run_id)
        taken = await self._sessions.take(plan, session, run.run_id)
        run.session = tuple(taken.session)
        triggers = [RunStarted(0)]
        try:
            return await self._workflows.begin(plan, run, triggers, session=taken.pieces, begin_by=taken.begin_by)
        except LimitReached:
            await self._sessions.give_back(taken)
            raise

    async def resume(self, run_id: str, limits: Limits | None, renames: Mapping[str, str]) -> Plan:
        """Continue a run. A failed one gets a new execution; one that goes on adopts the graph if that has changed.

        Raises `RunNotFound`, `RunError` for an unknown flow, `GraphChanged`, `BadRename`.
        """
        known = await self._workflows.describe(run_id)
        plan = self._flows.plan_of(known)
        if known.status == RunStatus.failed:
            await self._resume_failed(known, plan, limits, tuple(renames.items()))
        elif known.is_open:
            await self._adopt(known, plan, tuple(renames.items()))
        return plan

    async def end_failed(self, known: ServerRun) -> None:
        """Cancel a failed run, by an execution that ends at once."""
        left = await self._mirrored.replay(known.run_id)
        plan = self._flows.find(known.flow) or Plan(left.shape, {}, Codec(Registry()))
        await self._workflows.begin(plan, left.run, [CancelRequested(0)], after=known, session=left.session)

    async def _resume_failed(self, known: ServerRun, plan: Plan, limits: Limits | None, renames: Renames = ()) -> None:
        """Begin a new execution of a failed run, with the state in which it failed."""
        left = await self._mirrored.replay(known.run_id)
        await self._sessions.require_held(left.run)
        triggers = await self._adoption(left.run, plan, renames)
        triggers.append(RunResumed(0, tuple((limits.overrides() if limits is not None else {}).items())))
        await self._workflows.begin(
            plan,
            left.run,
            triggers,
            after=known,
            items=left.items.to_plain(),
            inbox=left.inbox,
            session=left.session,
        )

    async def _adopt(self, known: ServerRun, plan: Plan, renames: Renames) -> None:
        """Let a run that goes on adopt a changed graph. Its attempts under way are made again, by the new code."""
        if known.plan == plan.fingerprint and not renames:
            return
        while True:
            left = await self._mirrored.replay(known.run_id)
            triggers = await self._adoption(left.run, plan, renames)
            if not triggers or await self._workflows.adopt(plan, left.run, triggers):
                return

    async def _adoption(self, run: Snapshot, plan: Plan, renames: Renames) -> list[Trigger]:
        """Return the trigger that makes a run adopt a changed graph. Raises `GraphChanged`, `BadRename`."""
        store = (await self._mirrored.refresh(run.run_id)).store  # it has the shape of the run's graph
        renames = complete_renames(run, plan, store, renames)
        return [PlanAdopted(plan.fingerprint, 0, renames)] if has_changed(run, plan, store, renames) else []


def _check_same(known: ServerRun, plan: Plan, input_digest: str) -> None:
    """Raise `RunConflict` if a run belongs to another flow or has another input, `GraphChanged` for another graph."""
    if known.flow != plan.name:
        message = f"the id belongs to a run of flow {known.flow!r}, not {plan.name!r}: choose another id"
        raise RunConflict(known.run_id, message)
    if known.input_digest != input_digest:
        message = "the id belongs to a run with another input: choose another id, or resume it by its id"
        raise RunConflict(known.run_id, message)
    if known.is_open and known.plan != plan.fingerprint:
        raise GraphChanged(known.run_id, ("it goes on with an earlier version of its flow",), is_driven=True)
