"""Sessions on the server: a client takes one for a run before it starts the run.

A session belongs to its run until the run gives it back. It is taken from a run that can never do that: one that has
ended, was terminated, or has never come to the server within a minute after it took the session.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from temporalio.client import WithStartWorkflowOperation, WorkflowUpdateFailedError
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError

from beluga_graph.errors import RunConflict, RunNotFound
from beluga_graph.execution.sessions import held_by_another
from beluga_graph.inspection.views import RunStatus
from beluga_graph.kernel.run_session import RunSession
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.plan.plan import Plan
from beluga_graph.temporal.connection.sdk_errors import size_error, translate_errors
from beluga_graph.temporal.connection.watchdog import Watchdog
from beluga_graph.temporal.connection.workflow_client import WorkflowClient
from beluga_graph.temporal.workflow.server_names import session_workflow_id
from beluga_graph.temporal.workflow.wire import (
    FORMAT,
    GIVE_SESSION,
    MEMO_FLOW,
    MEMO_SESSION,
    SESSION_HELD,
    SESSION_TOO_LARGE,
    SESSION_WORKFLOW,
    STATE,
    TAKE_SESSION,
    pack,
    unpack,
)

__all__ = ["Sessions", "TakenSession"]

_BEGIN_WITHIN_MS = 30_000  # a run that comes to the server later does not begin
_GONE_AFTER_MS = 60_000  # the difference covers clocks of the server's hosts that differ
_CONTINUE_EVENTS = 1_000  # of the history of a session


class TakenSession(NamedTuple):
    """A session that a run has taken."""

    session: RunSession
    pieces: tuple[Any, ...]
    begin_by: int
    """When the run must be on the server, in milliseconds since the epoch on the server's clock."""


class _Holder(NamedTuple):
    """Another run that has a session."""

    run_id: str
    taken_ms: int
    for_ms: int


class Sessions:
    """Takes sessions for the runs of one namespace."""

    def __init__(self, workflows: WorkflowClient) -> None:
        self._workflows = workflows
        self._task_queue = workflows.connection.task_queue

    async def take(self, plan: Plan, session_id: str, run_id: str) -> TakenSession:
        """Take a session for a run that is about to start. The run itself may take it again.

        Raises `RunConflict` if another run has it, `LimitReached` for a conversation that does not fit into a payload,
        `TemporalUnavailable`.
        """
        await self._workflows.require_worker(plan)
        # A new session begins with a generation of its own: workers may still remember one that was deleted.
        new = RunSession(plan.base_name, session_id, generation=int(time.time()))
        found = await self._request(new, run_id, None)
        if isinstance(found, _Holder) and await self._cannot_return(found):
            found = await self._request(new, run_id, (found.run_id, found.taken_ms))
        if isinstance(found, _Holder):
            raise held_by_another(new._replace(run=found.run_id), run_id)
        return found

    async def give_back(self, taken: TakenSession) -> None:
        """Give back the session of a run that was not started."""
        session = taken.session
        free = {"run": session.run, "session": session._replace(run=""), "keep": len(taken.pieces), "pieces": ()}
        handle = await self._workflows.handle(self._id_of(session))
        with translate_errors(session.run, self._workflows.connection.address):
            await handle.signal(GIVE_SESSION, pack(free))

    async def require_held(self, run: Snapshot) -> None:
        """Raise `RunConflict` if a run, which is to be continued, has lost its session."""
        session = RunSession(*run.session) if run.session is not None else None
        if session is None or session.run != run.run_id:
            return
        try:
            kept = await self._workflows.query(self._id_of(session), STATE)
            held = RunSession(*kept["session"])
        except RunNotFound:
            held = session._replace(run="")
        if held != session:
            raise RunConflict(run.run_id, f"session {session.id!r} does not belong to it any more: start another run")

    def _id_of(self, session: RunSession) -> str:
        return session_workflow_id(self._task_queue, session.flow, session.id)

    async def _request(
        self, new: RunSession, run_id: str, instead_of: tuple[str, int] | None
    ) -> TakenSession | _Holder:
        """Take a session, which begins if there is none; return it, or the run that has it."""
        begun = {"format": FORMAT, "session": new, "pieces": (), "taken_ms": 0, "continue_events": _CONTINUE_EVENTS}
        start: WithStartWorkflowOperation[Any, None] = WithStartWorkflowOperation(
            SESSION_WORKFLOW,
            pack(begun),
            id=self._id_of(new),
            task_queue=self._task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            memo={MEMO_FLOW: new.flow, MEMO_SESSION: new.id},
        )
        request = pack({"run": run_id, "instead_of": instead_of})
        client = await self._workflows.connection.client()
        with translate_errors(run_id, self._workflows.connection.address):
            try:
                taking = client.execute_update_with_start_workflow(
                    TAKE_SESSION, request, start_workflow_operation=start, result_type=bytes
                )
                taken = unpack(await Watchdog(client, self._id_of(new)).wait(taking))
            except WorkflowUpdateFailedError as error:
                cause = error.cause
                if isinstance(cause, ApplicationError) and cause.type == SESSION_HELD:
                    return _Holder(*cause.details)
                if isinstance(cause, ApplicationError) and cause.type == SESSION_TOO_LARGE:
                    raise size_error(f"session {new.id!r}", cause.details[0], run_id) from error
                raise
        return TakenSession(RunSession(*taken["session"]), taken["pieces"], taken["taken_ms"] + _BEGIN_WITHIN_MS)

    async def _cannot_return(self, holder: _Holder) -> bool:
        """Return whether a run will never give its session back. A failed run may still be resumed."""
        try:
            known = await self._workflows.describe(holder.run_id)
        except RunNotFound:
            return holder.for_ms > _GONE_AFTER_MS
        return known.status in (RunStatus.completed, RunStatus.cancelled)
