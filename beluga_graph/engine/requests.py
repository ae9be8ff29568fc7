"""What is given from outside: the inputs of runs and the payloads of signals, checked and encoded at the door."""

from __future__ import annotations

from typing import Any, NamedTuple

from beluga_graph.errors import BadSignal, RunConflict
from beluga_graph.kernel.names import is_blank
from beluga_graph.kernel.rules import is_answer
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.plan import Plan
from beluga_graph.policy import Limits
from beluga_graph.storage.records import RunRecord
from beluga_graph.storage.run_log import History

__all__ = ["StartRequest", "check_payload", "check_same", "check_signal", "put_away"]


class StartRequest(NamedTuple):
    """What somebody wants to run."""

    plan: Plan
    value: Any
    context: Any
    limits: Limits | None
    session: str | None = None


def put_away(
    plan: Plan, history: History, *values: Any, allowed: int | None = None
) -> tuple[list[bytes], list[tuple[bytes, bytes]]]:
    """Encode values from outside; return what stands for each, and the large ones.

    A run may be `allowed` fewer bytes than its graph. Raises `NotData`, `LimitReached`.
    """
    kept, blobs = [], []
    for value in values:
        encoded = plan.encode(value, allowed)
        kept.append(history.put_away(encoded))
        if kept[-1] is not encoded:
            blobs.append((kept[-1], encoded))
    return kept, blobs


def check_signal(run_id: str, name: str) -> None:
    """Refuse what can be no signal's name, and an answer: a question is answered once, and only if it was asked."""
    if not isinstance(name, str) or is_blank(name):
        raise BadSignal(run_id, f"{name!r:.100} is no name of a signal: give a text that can be seen")
    if is_answer(name):
        message = f"{name!r:.100} is the name of an answer: give it by engine.answer(…), to a question of pending()"
        raise BadSignal(run_id, message)


def check_payload(plan: Plan, run_id: str, signal: str, payload: Any) -> None:
    """Refuse a payload that the wait for it would not take, as far as the plan tells. Raises `BadSignal`."""
    wanted = plan.waits.get(signal)
    if wanted is None:
        return
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 - only typed waits need it

    try:
        TypeAdapter(wanted).validate_python(payload)
    except ValidationError as error:
        raise BadSignal(run_id, f"the payload of signal {signal!r} does not fit its wait: {error}") from error


def check_same(head: RunRecord, snapshot: Snapshot, history: History, wanted: StartRequest | None) -> None:
    """Refuse an id that belongs to another flow or another input. Raises `RunConflict`."""
    if wanted is None:
        return
    if head.flow != wanted.plan.name:
        message = f"the id belongs to a run of flow {head.flow!r}, not {wanted.plan.name!r}: choose another id"
        raise RunConflict(head.run_id, message)
    values, _ = put_away(wanted.plan, history, wanted.value)
    if values[0] != snapshot.input:
        message = "the id belongs to a run with another input: choose another id, or resume it by its id"
        raise RunConflict(head.run_id, message)
