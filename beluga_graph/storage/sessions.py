"""The operations that take a session for a run and give it back.

The record of a session is read in the commit that starts a run and written in the one that ends the run, so a run that
dies leaves the session as it was. Messages are stored once each, under keys of the session; a run adds its own messages
and copies none.
"""

from __future__ import annotations

from dataclasses import replace

from beluga_graph.codec.values import Codec
from beluga_graph.execution.sessions import check_session, end_session, take_session
from beluga_graph.execution.stored_values import StoredValues
from beluga_graph.kernel.run_session import RunSession
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.plan.plan import Plan
from beluga_graph.storage.records import decode_record, encode_record
from beluga_graph.storage.run_log import RunLog, reference_ops
from beluga_graph.storage.session_records import Session
from stores.base import Check, Op, Put, Store

__all__ = ["begin_ops", "end_ops", "free_ops", "open_session"]


def open_session(store: Store, plan: Plan, session_id: str, run_id: str) -> tuple[Session, bytes | None]:
    """Return a session for a new run, and its record as it is now.

    Raises `RunConflict` if another run has it, or the flow is not a conversation; `RunError` for an invalid name.
    """
    check_session(plan, session_id, run_id)
    session = Session(plan.base_name, session_id)
    blob = store.get(session.key)
    stored = RunSession(plan.base_name, session_id) if blob is None else RunSession(*decode_record(session.key, blob))
    return Session(*take_session(stored, run_id)), blob


def begin_ops(session: Session, before: bytes | None) -> list[Op]:
    """Return the operations with which the first commit of a run takes a session."""
    return [Check(session.key, before), Put(session.key, encode_record(session.key, session.fields()))]


def end_ops(log: RunLog, codec: Codec, run: Snapshot) -> list[Op]:
    """Return the operations with which the last commit of a run returns its session. A completed run adds messages.

    There are none for a run that was recorded here while its session is kept elsewhere.
    """
    if _read_held(log.store, run) is None:
        return []
    update = end_session(run, StoredValues(codec, log.reader), codec.encode)
    if update is None:
        return []
    session = Session(*update.session)
    ops: list[Op] = []
    for index, item in enumerate(update.items, update.first):
        key = session.item(index)
        ops.append(Put(key, encode_record(key, item)))
        ops += reference_ops(item, session.owner)
    return [*ops, Put(session.key, encode_record(session.key, session.fields()))]


def free_ops(store: Store, run: Snapshot) -> list[Op]:
    """Return the operations that return a session that a run still uses, unchanged by that run."""
    held = _read_held(store, run)
    if held is None:
        return []
    session, before = held
    return [Check(session.key, before), Put(session.key, encode_record(session.key, replace(session, run="").fields()))]


def _read_held(store: Store, run: Snapshot) -> tuple[Session, bytes] | None:
    """Return the session that a run has, and its record; `None` if the run has none in this store."""
    if run.session is None:
        return None
    key = Session(*run.session).key
    blob = store.get(key)
    if blob is None or (session := Session(*decode_record(key, blob))).run != run.run_id:
        return None
    return session, blob
