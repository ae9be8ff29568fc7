"""Sessions: a conversation that continues from run to run.

A session belongs to a flow, and one run at a time uses it. The commit that starts a run checks the session's record,
and the commit that completes the run writes it, so a run that fails or dies leaves the session unchanged. Each message
is stored once, under a key of the session; a run adds its own messages and copies none.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from beluga_graph.codec.values import Codec
from beluga_graph.errors import RunConflict, RunError
from beluga_graph.execution.stored_values import StoredValues
from beluga_graph.kernel.names import is_blank
from beluga_graph.kernel.snapshot import COMPLETED, Snapshot
from beluga_graph.plan.plan import Plan
from beluga_graph.storage.records import decode_record, encode_record
from beluga_graph.storage.run_log import RunLog, reference_ops
from beluga_graph.storage.session_records import Session
from stores.base import Check, Op, Put, Store

__all__ = ["begin_ops", "end_ops", "free_ops", "open_session"]


def open_session(store: Store, plan: Plan, session_id: str, run_id: str) -> tuple[Session, bytes | None]:
    """Return a session for a new run, and its record as it is now.

    Raises `RunConflict` if a run uses it, or if the flow is not an agent: no other flow has a conversation to keep.
    Raises `RunError` if the id is not a valid name.
    """
    if not isinstance(session_id, str) or is_blank(session_id):
        raise RunError(run_id, f"{session_id!r:.80} is not a session name: give a text with visible characters")
    if plan.state is None or not getattr(plan.state.model, "keeps_session", False):
        raise RunConflict(
            run_id, f"flow {plan.name!r} is not an agent, so it has no conversation to keep: drop session="
        )
    session = Session(plan.name, session_id)
    blob = store.get(session.key)
    if blob is not None:
        session = Session(*decode_record(session.key, blob))
    if session.run:
        message = f"session {session_id!r} belongs to run {session.run!r} until that ends: resume or cancel it"
        raise RunConflict(run_id, message)
    return replace(session, run=run_id), blob


def begin_ops(session: Session, before: bytes | None) -> list[Op]:
    """Return the operations with which the first commit of a run takes a session."""
    return [Check(session.key, before), Put(session.key, encode_record(session.key, session.fields()))]


def end_ops(log: RunLog, codec: Codec, run: Snapshot) -> list[Op]:
    """Return the operations with which the last commit of a run returns its session. A completed run adds messages."""
    if run.session is None:
        return []
    session = Session(*run.session)
    if session.run != run.run_id:  # a fork: it began with the session's messages and does not own the session
        return []
    if run.status != COMPLETED:
        freed = replace(session, run="")
        return [Put(session.key, encode_record(session.key, freed.fields()))]
    place = run.places[""]
    own = log.reader.read_items("", "messages", 0, place.lengths.get("messages", 0))
    view = _field(log, codec, run, "view")
    if view is not None:  # an input filter has replaced what came before
        session = replace(session, generation=session.generation + 1, length=0)
        own = iter([*map(codec.encode, view.base), *list(own)[view.start :]])
    active = _field(log, codec, run, "active") or session.active
    ops: list[Op] = []
    length = session.length
    for item in own:
        key = session.item(length)
        ops.append(Put(key, encode_record(key, item)))
        ops += reference_ops(item, session.owner)
        length += 1
    done = replace(session, version=session.version + 1, length=length, active=active, run="")
    return [*ops, Put(session.key, encode_record(session.key, done.fields()))]


def free_ops(store: Store, run: Snapshot) -> list[Op]:
    """Return the operations that return a session that a run still uses, unchanged by that run."""
    if run.session is None:
        return []
    key = Session(*run.session).key
    blob = store.get(key)
    if blob is None or (session := Session(*decode_record(key, blob))).run != run.run_id:
        return []
    return [Check(key, blob), Put(key, encode_record(key, replace(session, run="").fields()))]


def _field(log: RunLog, codec: Codec, run: Snapshot, name: str) -> Any:
    value = run.places[""].fields.get(name)
    return StoredValues(codec, log.reader).decode(value)
