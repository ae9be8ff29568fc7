"""The return of a session: at the end of a run, its workflow gives the session back, with the new messages."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from beluga_graph.kernel.run_session import RunSession
from beluga_graph.kernel.snapshot import COMPLETED, Snapshot
from beluga_graph.temporal.workflow.driver import WorkflowDriver
from beluga_graph.temporal.workflow.retries import RETRY
from beluga_graph.temporal.workflow.run_options import RunOptions
from beluga_graph.temporal.workflow.server_names import session_workflow_id
from beluga_graph.temporal.workflow.wire import (
    END_SESSION,
    FORMAT,
    GIVE_CLAIMS,
    GIVE_SESSION,
    PAYLOAD_BYTES,
    TOO_LARGE,
    pack,
)

__all__ = ["give_session_back"]

_TIMEOUT = timedelta(hours=1)
_SMALL_BYTES = 16_384  # claims keep larger ones


async def give_session_back(driver: WorkflowDriver, options: RunOptions) -> None:
    """Give the session of an ended run back to its workflow, if the run has one. Call it once.

    Only a completed run adds messages. Raises `ActivityError` if these cannot be read.
    """
    run = driver.run
    session = RunSession(*run.session) if run.session is not None else None
    if session is None or session.run != run.run_id:  # a fork reads a session that it does not have
        return
    free = session._replace(run="")
    unchanged = pack({"run": run.run_id, "session": free, "keep": len(driver.session), "pieces": ()})
    if run.status != COMPLETED:
        await _send(session, unchanged, options)
        return
    given = _input_of(driver)
    if len(given) > PAYLOAD_BYTES:
        await _send(session, unchanged, options)
        text = f"its messages do not fit into session {session.id!r}, which stays as it was: "
        text += f"they have {len(given):,} bytes, and a payload at most {PAYLOAD_BYTES:,}: {GIVE_CLAIMS}"
        raise ApplicationError(text, type=TOO_LARGE, non_retryable=True)
    await _send(session, await _extend(given, options), options)


async def _send(session: RunSession, packed: bytes, options: RunOptions) -> None:
    keeper = session_workflow_id(options.engine_queue, session.flow, session.id)
    try:
        await workflow.get_external_workflow_handle(keeper).signal(GIVE_SESSION, packed)
    except ApplicationError as error:  # an operator has deleted the session
        workflow.logger.warning("session %r of flow %r is lost: %s", session.id, session.flow, error)


def _input_of(driver: WorkflowDriver) -> bytes:
    # Only small pieces are read, to be folded into a new one. Without claims, the others fill the payload.
    session = [(length, data if len(data) <= _SMALL_BYTES else b"") for length, data in driver.session]
    return pack(
        {
            "format": FORMAT,
            "flow": driver.shape.name,
            "plan": driver.shape.fingerprint,
            "run": _ended_part(driver.run).to_plain(),
            "items": [item for item in driver.items.to_plain([""]) if item[1] == "messages"],
            "session": session,
        }
    )


async def _extend(packed: bytes, options: RunOptions) -> bytes:
    """Return the session after a completed run, packed, as an activity computes it with the code of the flow."""
    made: bytes = await workflow.execute_activity(
        END_SESSION,
        packed,
        result_type=bytes,
        task_queue=options.queue,
        activity_id=END_SESSION,
        start_to_close_timeout=_TIMEOUT,
        heartbeat_timeout=timedelta(seconds=options.heartbeat_s),
        retry_policy=RETRY,
        summary="end of the session",
    )
    return made


def _ended_part(run: Snapshot) -> Snapshot:
    """Return the part of an ended run that decides what its session becomes."""
    part = Snapshot(run_id=run.run_id, plan=run.plan, started_ms=run.started_ms, value=b"", session=run.session)
    part.status, part.places = run.status, {"": run.places[""]}
    return part
