"""Questions that runs ask people: which are pending, and how one is answered, from any process at any time.

An answer is a signal underneath. Its commit also takes the question off the index, on the condition that it
is still there: so a question is answered once, by whoever is first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast

from beluga_graph.engine.cancel import send
from beluga_graph.errors import BadSignal, RunConflict, RunNotFound
from beluga_graph.events import decode_value, question_subject
from beluga_graph.execution.approval import Answer
from beluga_graph.inspection.reading import stored_plan
from beluga_graph.kernel.rules import answer_signal
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED
from beluga_graph.plan import Plan
from beluga_graph.runtime.scheduler import Scheduler
from beluga_graph.storage.keys import Keys, Prefix, run_of
from beluga_graph.storage.pace import Pace
from beluga_graph.storage.records import RunRecord, decode_record
from beluga_graph.storage.run_log import History, folding, one_look, rebuild
from stores.base import Check, Conflict, Delete, Store

__all__ = ["Question", "give_answer", "pending_questions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a run asks a person: whether a step may run, or a tool may be called."""

    run_id: str
    id: str
    """Structural name of the token that asks: what `answer` takes, and the `question` of its events."""
    flow: str
    node: str
    """Path of the step or of the tool's node."""
    kind: Literal["step", "tool"]
    value: Any
    """What the step would be given; of a tool its `name` and `arguments`. The `output` of the `waiting` event."""
    asked_ms: int


async def pending_questions(store: Store, plan_of: Callable[[RunRecord], Plan]) -> list[Question]:
    """Return what the runs of a store ask, the oldest question first. No run is loaded. Raises `DamagedRecord`."""
    found, pace = [], Pace()
    for key, _ in store.scan(Prefix.QUESTION):
        head_key = Prefix.RUN + run_of(key)
        record, blob = store.get(head_key), store.get(key)
        if record is not None and blob is not None:  # else it was answered, or the run is being deleted
            head = RunRecord.decode(head_key, record)
            try:
                with one_look(store, head.run_id):
                    found.append(_question(store, head, plan_of, decode_record(key, blob)))
            except RunNotFound:
                if store.get(head_key) is not None:
                    raise
        await pace.turn()
    return sorted(found, key=lambda question: (question.asked_ms, question.run_id, question.id))


def _question(store: Store, head: RunRecord, plan_of: Callable[[RunRecord], Plan], record: Any) -> Question:
    token, name, asked_ms, value = record
    plan = plan_of(head)
    nodes = (plan if plan.fingerprint == head.plan else stored_plan(store, head)).shape.nodes
    history = History(store, head.run_id)
    # The node may be called otherwise now than when it asked.
    with folding(head.run_id):
        node = nodes.get(name) or nodes[rebuild(store, head.run_id)[0].tokens[token].node]
    return Question(
        run_id=head.run_id,
        id=token,
        flow=head.flow,
        node=node.target or "",
        kind=cast('Literal["step", "tool"]', node.asks),
        value=question_subject(decode_value(plan.codec, history.load, value, lenient=True), node.asks),
        asked_ms=asked_ms,
    )


async def give_answer(
    scheduler: Scheduler, head: RunRecord, plan: Plan, question: str, answer: Answer, *, known: bool
) -> str:
    """Accept the answer to a question; on disk when this returns. Return the name of the signal that it is.

    `known` says that `plan` has the user's code. Raises `RunConflict` for a question that is not pending,
    `BadSignal` for a value that does not fit, `NotData`.
    """
    store, keys = scheduler.store, Keys(head.run_id)
    key, signal = keys.question(question), answer_signal(question)
    record = store.get(key)
    if record is None:
        raise RunConflict(head.run_id, _why_not(store, head, question))
    if answer.decision == "modify":
        _check_value(plan, History(store, head.run_id), decode_record(key, record), answer.value)
    try:
        taken = (Check(key, record), Delete(key))
        await send(scheduler, head, plan, signal, answer.payload(), known=known, along=taken)
    except Conflict as error:
        raise RunConflict(head.run_id, _why_not(store, head, question)) from error
    return signal


def _check_value(plan: Plan, history: History, record: Any, value: Any) -> None:
    """Refuse a value that the node would not take, as far as the plan tells. Raises `BadSignal`."""
    _, name, _, original = record
    binding = plan.bindings.get(name)
    if binding is None or binding.revise is None:  # the run's own process will check it
        return
    try:
        binding.revise(decode_value(plan.codec, history.load, original), value)
    except Exception as error:
        raise BadSignal(history.run_id, f"{plan.shape.nodes[name].target!r} cannot take that value: {error}") from error


def _why_not(store: Store, head: RunRecord, question: str) -> str:
    keys = Keys(head.run_id)
    if head.status in (COMPLETED, CANCELLED):
        return f"it is {head.status}: a run that has ended asks nothing"
    if next(iter(store.scan(keys.signal(answer_signal(question), 0)[:-8], limit=1)), None) is not None:
        return f"question {question!r:.200} has been answered already"
    ids = ", ".join(repr(name) for name in _pending_ids(store, keys)) or "none"
    return f"it does not ask {question!r:.200}; the questions that are pending: {ids}"


def _pending_ids(store: Store, keys: Keys) -> Iterator[str]:
    for key, blob in store.scan(keys.questions):
        yield decode_record(key, blob)[0]
