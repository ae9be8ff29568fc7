"""Waits for signals: those of runs that wait for a signal which is not the answer of a person."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from beluga_graph.errors import RunNotFound
from beluga_graph.inspection.approvals import Question
from beluga_graph.inspection.compatibility import read_shape_of
from beluga_graph.inspection.entered import read_entered
from beluga_graph.inspection.unread import count_unread, find_served
from beluga_graph.kernel.structural_names import token_timer
from beluga_graph.kernel.tokens import AT_WAIT
from beluga_graph.storage.keys import Prefix, run_key_of
from beluga_graph.storage.loading import detect_contradictions, detect_deletion, rebuild
from beluga_graph.storage.pace import Pace
from beluga_graph.storage.records import RunRecord
from beluga_graph.storage.run_index import find_unfinished
from stores.base import Store

__all__ = ["SignalWait", "list_signal_waits", "read_signal_waits", "sort_pending"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalWait:
    """A wait of a run for a signal that has not arrived.

    Attributes:
        run_id: The id of the run that waits.
        id: The structural name of the token that waits.
        flow: The name of the run's flow.
        node: The path of the node that waits.
        signal: The name of the signal; see `Engine.signal`.
        type: The type of the payload, as text; empty if the node names none.
        since_ms: Since when it waits, in milliseconds since the epoch; 0 if that is more than 10,000 steps ago.
        due_ms: When it stops waiting, in milliseconds since the epoch; `None` if it has no time limit.
    """

    run_id: str
    id: str
    flow: str
    node: str
    signal: str
    type: str
    since_ms: int
    due_ms: int | None


async def list_signal_waits(store: Store) -> list[SignalWait]:
    """Return the waits of all unfinished runs in a store. Raises `DamagedRecord`."""
    found, pace = [], Pace()
    for key in await find_unfinished(store):
        head_key = Prefix.RUN + run_key_of(key)
        record = store.get(head_key)
        if record is not None:
            try:
                found += await read_signal_waits(store, RunRecord.decode(head_key, record))
            except RunNotFound:
                if store.get(head_key) is not None:
                    raise
        await pace.turn()
    return found


def sort_pending(found: Iterable[Question | SignalWait]) -> list[Question | SignalWait]:
    """Return questions and waits, the oldest first."""

    def order(each: Question | SignalWait) -> tuple[int, str, str]:
        return each.asked_ms if isinstance(each, Question) else each.since_ms, each.run_id, each.id

    return sorted(found, key=order)


async def read_signal_waits(store: Store, head: RunRecord) -> list[SignalWait]:
    """Return the waits of one run. Raises `RunNotFound`, `DamagedRecord`."""
    with detect_deletion(store, head.run_id):
        run = rebuild(store, head.run_id)
        shape = read_shape_of(store, run)
        nodes = shape.nodes
        waiting = {t.name: t for t in run.tokens.values() if t.state == AT_WAIT and not nodes[t.node].asks}
        if not waiting:
            return []
        unread = count_unread(store, run)
        with detect_contradictions(head.run_id):
            served = find_served(shape, run, unread)
        entered = await read_entered(store, run)
    return [
        SignalWait(
            run_id=head.run_id,
            id=name,
            flow=head.flow,
            node=token.node,
            signal=nodes[token.node].signal or "",
            type=nodes[token.node].output_type if nodes[token.node].checked else "",
            since_ms=entered[name].since_ms if name in entered else 0,
            due_ms=run.timers.get(token_timer(name)),
        )
        for name, token in waiting.items()
        if name not in served
    ]
