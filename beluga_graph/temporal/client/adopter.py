"""The adopter: a run of a local engine continues on the server, and nowhere else.

The local engine marks the run as moved, which is final, and returns it. Then the workflow is started. If the process
dies in between, the next call gets the same run from the local engine and starts the workflow. The workflow has the id
of the run, so the server accepts only one.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import NamedTuple, Protocol

from beluga_graph.errors import RunConflict, RunNotFound
from beluga_graph.execution.handed_over import HandedOver, HandOverCheck
from beluga_graph.inspection.flow_registry import FlowRegistry
from beluga_graph.kernel.run_session import RunSession
from beluga_graph.kernel.types import Renames
from beluga_graph.plan.plan import Plan
from beluga_graph.temporal.claims.claims import CachedClaims
from beluga_graph.temporal.client.imported_run import ImportedRun
from beluga_graph.temporal.client.starter import resume_triggers
from beluga_graph.temporal.connection.connection import url_of
from beluga_graph.temporal.connection.new_execution import NewExecution
from beluga_graph.temporal.connection.workflow_client import WorkflowClient
from beluga_graph.temporal.workflow.wire import pack

__all__ = ["Adopter", "LocalEngine"]

_IS_OTHER = "the server has another run with this id"


class LocalEngine(Protocol):
    """The verb that `adopt` needs of the engine whose run it takes: `Engine` has it."""

    async def hand_over(self, run_id: str, to: str, check: HandOverCheck | None = None) -> HandedOver:
        """Mark a run as moved to a place, unless `check` raises; return the data with which it goes on there."""


class Adopter:
    """Takes runs over from local engines."""

    def __init__(self, workflows: WorkflowClient, flows: FlowRegistry, claims: CachedClaims | None) -> None:
        self._workflows, self._flows, self._claims = workflows, flows, claims

    async def adopt(self, local: LocalEngine, run_id: str, renames: Mapping[str, str]) -> Plan:
        """Continue a run of a local engine on the server; see `TemporalEngine.adopt`."""
        given = tuple(renames.items())

        async def check(moved: HandedOver) -> None:
            new, _ = self._prepare(moved, given)
            self._workflows.pack(new)
            await self._workflows.require_worker(new.plan)
            if await self._workflows.exists(run_id):
                raise RunConflict(
                    run_id,
                    f"{_IS_OTHER}: delete that one, and adopt again; until then, the local engine keeps this one",
                )

        place = url_of(await self._workflows.connection.client())
        moved = await local.hand_over(run_id, place, check)
        adopted_digest = sha256(pack(moved.run.to_plain())).hexdigest()
        try:
            known = await self._workflows.describe(run_id)
        except RunNotFound:
            new, large = self._prepare(moved, given)
            if self._claims is not None:
                await self._claims.put_all(large)
            if await self._workflows.begin(new, adopted_digest=adopted_digest):
                return new.plan
            known = await self._workflows.describe(run_id)
        if known.adopted_digest != adopted_digest:
            raise RunConflict(run_id, f"{_IS_OTHER}: delete that one, and adopt this run again")
        return self._flows.plan_of(known)

    def _prepare(self, moved: HandedOver, renames: Renames) -> tuple[NewExecution, list[bytes]]:
        """Return the first execution of a run, and the large values that it needs.

        Raises `RunError` for an unknown flow, `GraphChanged`, `BadRename`.
        """
        plan = self._flows.plan_of(_Run(moved.run.run_id, moved.shape.name))
        triggers = resume_triggers(moved.run, moved.shape, plan, renames=renames)
        imported = ImportedRun.of(moved, has_claims=self._claims is not None)
        if imported.run.session is not None:  # the session belongs to the local store: this run only reads it
            imported.run.session = tuple(RunSession(*imported.run.session)._replace(run=""))
        items = imported.items.to_plain()
        return NewExecution(plan, imported.run, triggers, items, imported.inbox, imported.session), imported.large


class _Run(NamedTuple):
    """A run and its flow."""

    run_id: str
    flow: str
