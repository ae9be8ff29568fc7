"""Approvals: the questions that runs ask people and that are not answered yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

from beluga_graph.errors import RunNotFound
from beluga_graph.execution.stored_events import question_subject
from beluga_graph.execution.stored_values import StoredValues
from beluga_graph.inspection.reading import read_plan
from beluga_graph.plan.plan import Plan
from beluga_graph.storage.keys import Prefix, run_key_of
from beluga_graph.storage.loading import RunReader, detect_contradictions, detect_deletion, rebuild
from beluga_graph.storage.pace import Pace
from beluga_graph.storage.records import RunRecord, decode_record
from stores.base import Store

__all__ = ["Question", "pending_questions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question that a run asks a person: whether a step may run, or whether a tool may be called.

    Attributes:
        run_id: The id of the run that asks.
        id: The structural name of the token that waits. `Engine.answer` takes it, and the events about the question
            have it as `question`.
        flow: The name of the run's flow.
        node: The path of the step, or of the tool's node.
        kind: `step` or `tool`.
        value: The input that the step would get; for a tool, its `name` and `arguments`. It is the `output` of the
            `waiting` event, too.
        asked_ms: When it was asked, in milliseconds since the epoch.
    """

    run_id: str
    id: str
    flow: str
    node: str
    kind: Literal["step", "tool"]
    value: Any
    asked_ms: int


async def pending_questions(store: Store, plan_of: Callable[[RunRecord], Plan]) -> list[Question]:
    """Return the pending questions of all runs in a store, the oldest first. Raises `DamagedRecord`."""
    found, pace = [], Pace()
    for key, _ in store.scan(Prefix.QUESTION):
        head_key = Prefix.RUN + run_key_of(key)
        record, blob = store.get(head_key), store.get(key)
        if record is not None and blob is not None:  # it may just be answered, or the run deleted
            head = RunRecord.decode(head_key, record)
            try:
                with detect_deletion(store, head.run_id):
                    found.append(_question(store, head, plan_of, decode_record(key, blob)))
            except RunNotFound:
                if store.get(head_key) is not None:
                    raise
        await pace.turn()
    return sorted(found, key=lambda question: (question.asked_ms, question.run_id, question.id))


def _question(store: Store, head: RunRecord, plan_of: Callable[[RunRecord], Plan], record: Any) -> Question:
    token, name, asked_ms, value = record
    plan = plan_of(head)
    nodes = (plan if plan.fingerprint == head.plan else read_plan(store, head)).shape.nodes
    values = StoredValues(plan.codec, RunReader(store, head.run_id), lenient=True)
    # The node may have been renamed since it asked.
    with detect_contradictions(head.run_id):
        node = nodes.get(name) or nodes[rebuild(store, head.run_id).tokens[token].node]
    return Question(
        run_id=head.run_id,
        id=token,
        flow=head.flow,
        node=node.target or "",
        kind=cast('Literal["step", "tool"]', node.asks),
        value=question_subject(values.decode(value), node.asks),
        asked_ms=asked_ms,
    )
