"""Answers to pending questions, from any process at any time.

An answer is stored as a signal. The commit of that signal also removes the question from the index of pending
questions, on the condition that it is still there. So a question is answered once, and the first answer wins.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from beluga_graph.errors import RunConflict
from beluga_graph.execution.approval import Answer, check_modified_value, why_not_pending
from beluga_graph.execution.stored_values import StoredValues
from beluga_graph.kernel.rules import answer_signal
from beluga_graph.plan.plan import Plan
from beluga_graph.runtime.scheduler import Scheduler
from beluga_graph.storage.keys import Keys
from beluga_graph.storage.loading import RunReader
from beluga_graph.storage.records import RunRecord, decode_record
from stores.base import Check, Conflict, Delete, Store

__all__ = ["give_answer"]


async def give_answer(
    scheduler: Scheduler, head: RunRecord, plan: Plan, question: str, answer: Answer, *, known: bool
) -> str:
    """Accept the answer to a question; it is on disk when this returns. Return the name of its signal.

    `known` says that `plan` has the user's code. Raises `RunConflict` for a question that is not pending, `BadSignal`
    for a value that the node does not accept, `NotData`.
    """
    store, key = scheduler.store, Keys(head.run_id).question(question)
    record = store.get(key)
    if record is None:
        raise _conflict(store, head, question)
    if answer.decision == "modify":
        _, node, _, value = decode_record(key, record)
        values = StoredValues(plan.codec, RunReader(store, head.run_id))
        original: Callable[[], Any] = partial(values.decode, value)
        check_modified_value(plan, head.run_id, node, original, answer.value)
    signal = answer_signal(question)
    along = (Check(key, record), Delete(key))
    try:
        await scheduler.inbox.send(head, plan, signal, answer.to_payload(), known=known, along=along)
    except Conflict as error:
        raise _conflict(store, head, question) from error
    return signal


def _conflict(store: Store, head: RunRecord, question: str) -> RunConflict:
    keys = Keys(head.run_id)
    answers = keys.signal(answer_signal(question), 0)[:-8]
    is_answered = next(iter(store.scan(answers, limit=1)), None) is not None
    pending = (decode_record(key, blob)[0] for key, blob in store.scan(keys.questions))
    return RunConflict(head.run_id, why_not_pending(head.status, question, pending, is_answered=is_answered))
