"""Sessions, as far as they need no store: which runs may take one, and the session after a run.

A session is a conversation that continues from run to run of one flow. One run at a time has it. A run that completes
adds its messages; a run that fails or is cancelled leaves the session as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from beluga_graph.errors import RunConflict, RunError
from beluga_graph.execution.stored_values import StoredValues
from beluga_graph.kernel.names import is_blank
from beluga_graph.kernel.run_session import RunSession
from beluga_graph.kernel.snapshot import COMPLETED, Snapshot
from beluga_graph.plan.plan import Plan

__all__ = ["SessionUpdate", "check_session", "end_session", "held_by_another", "take_session"]


class SessionUpdate(NamedTuple):
    """A session after a run, and the messages that the run adds to it."""

    session: RunSession
    first: int
    """Index of the first new message."""
    items: Sequence[bytes]
    """The new messages, encoded; a large one is a reference."""


def check_session(plan: Plan, session_id: str, run_id: str) -> None:
    """Raise `RunError` for an invalid name of a session, `RunConflict` for a flow that is not a conversation.

    An agent inside of another flow keeps no session.
    """
    if not isinstance(session_id, str) or is_blank(session_id):
        raise RunError(run_id, f"{session_id!r:.80} is not a session name: give a text with visible characters")
    if plan.state is None or not getattr(plan.state.model, "keeps_session", False):
        message = f"flow {plan.name!r} is not an agent, so it has no conversation to keep: drop session="
        raise RunConflict(run_id, message)


def take_session(session: RunSession, run_id: str) -> RunSession:
    """Return a session as a new run has it. Raises `RunConflict` if another run has it."""
    if session.run:
        raise held_by_another(session, run_id)
    return session._replace(run=run_id)


def held_by_another(session: RunSession, run_id: str) -> RunConflict:
    """Return the error for a run that cannot have a session, because another one has it."""
    message = f"session {session.id!r} belongs to run {session.run!r} until that ends: resume or cancel it"
    return RunConflict(run_id, message)


def end_session(run: Snapshot, values: StoredValues, encode: Callable[[Any], bytes]) -> SessionUpdate | None:
    """Return the session after the end of a run, and the messages to add; `None` if the run does not have it.

    A fork began with the messages of a session, but does not have it. Raises `SnapshotError`.
    """
    if run.session is None:
        return None
    session = RunSession(*run.session)
    if session.run != run.run_id:
        return None
    if run.status != COMPLETED:
        return SessionUpdate(session._replace(run=""), session.length, ())
    place = run.places[""]
    items = list(values.source.read_items("", "messages", 0, place.lengths.get("messages", 0)))
    view = values.decode(place.fields.get("view"))
    if view is not None:  # an input filter has replaced the earlier messages
        session = session._replace(generation=session.generation + 1, length=0)
        items = [*map(encode, view.base), *items[view.start :]]
    active = values.decode(place.fields.get("active")) or session.active
    done = session._replace(version=session.version + 1, length=session.length + len(items), active=active, run="")
    return SessionUpdate(done, session.length, items)
