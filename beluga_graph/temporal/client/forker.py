"""The forker: starts a run on the server with the state of another run after one of its steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from beluga_graph.codec.references import to_reference
from beluga_graph.errors import RunConflict
from beluga_graph.execution.forks import check_forkable, edit_state
from beluga_graph.execution.handed_over import HandedOver
from beluga_graph.inspection.flow_registry import FlowRegistry
from beluga_graph.kernel.rules import is_answer
from beluga_graph.kernel.triggers import RunForked
from beluga_graph.plan.plan import Plan
from beluga_graph.temporal.claims.call_values import CallValues
from beluga_graph.temporal.claims.claims import CachedClaims
from beluga_graph.temporal.client.imported_run import ImportedRun
from beluga_graph.temporal.client.starter import resume_triggers
from beluga_graph.temporal.connection.new_execution import NewExecution
from beluga_graph.temporal.connection.workflow_client import WorkflowClient
from beluga_graph.temporal.mirror.cache import MirroredRuns
from beluga_graph.temporal.workflow.pieces import ItemPieces

__all__ = ["Forker"]


class Forker:
    """Forks runs of the server. It reads their state from their mirrors."""

    def __init__(
        self, workflows: WorkflowClient, flows: FlowRegistry, mirrored: MirroredRuns, claims: CachedClaims | None
    ) -> None:
        self._workflows, self._flows, self._mirrored, self._claims = workflows, flows, mirrored, claims

    async def fork(
        self, run_id: str, seq: int, new_id: str, *, update: Mapping[str, Any], replace: Mapping[str, Any]
    ) -> Plan:
        """Start a fork; see `TemporalEngine.fork`."""
        plan = self._flows.plan_of(await self._workflows.describe(run_id))
        source = await self._mirrored.export(run_id, seq)
        check_forkable(source.run)
        resume_triggers(source.run, source.shape, plan)  # raises if the graph changed where the run is
        imported = self._copy(source, plan, new_id)._replace(session=await self._mirrored.read_session(run_id))
        if replace or update:
            imported = self._edit(imported, plan, update=update, replace=replace)
        if self._claims is not None:
            await self._claims.put_all(imported.large)
        items = imported.items.to_plain()
        triggers = [RunForked(0, run_id, seq)]
        new = NewExecution(plan, imported.run, triggers, items, imported.inbox, imported.session)
        if not await self._workflows.begin(new):
            raise RunConflict(new_id, "the id is taken: choose another one for the fork")
        return plan

    def _copy(self, source: HandedOver, plan: Plan, new_id: str) -> ImportedRun:
        """Return the fork before its state is edited."""
        unread = {name: payloads for name, payloads in source.signals.items() if not is_answer(name)}
        imported = ImportedRun.of(source._replace(signals=unread), has_claims=self._claims is not None)
        run = imported.run
        run.run_id, run.seq, run.plan = new_id, 0, plan.fingerprint
        run.inbox = {}  # received signals are not copied: the fork counts its own signals from the first
        return imported

    def _edit(
        self, imported: ImportedRun, plan: Plan, *, update: Mapping[str, Any], replace: Mapping[str, Any]
    ) -> ImportedRun:
        """Return the fork with its state edited."""
        run, large = imported.run, list(imported.large)
        edit = edit_state(run, plan, self._values_of(imported), replace=replace, update=update)
        lengths = {name: place.lengths for name, place in run.places.items()}
        kept = [each for each in imported.items.to_plain() if lengths[each[0]].get(each[1])]  # others were replaced
        edited = imported._replace(items=ItemPieces(kept))
        values = self._values_of(edited)
        for new in edit.items:
            piece, more = values.add_items(new)
            edited.items.add(piece)
            large += more
        run.apply(edit.patch)
        run.seq = 0
        return edited._replace(large=[*large, *(encoded for _, encoded in edit.blobs)])

    def _values_of(self, imported: ImportedRun) -> CallValues:
        values = CallValues(self._claims, imported.items.to_plain(), imported.session)
        values.add_blobs((to_reference(data), data) for data in imported.large)
        return values
