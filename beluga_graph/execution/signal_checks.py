"""The checks of a signal before it is accepted: its name, and its payload as far as the graph types it."""

from __future__ import annotations

from typing import Any

from beluga_graph.errors import BadSignal
from beluga_graph.kernel.names import is_blank
from beluga_graph.kernel.rules import is_answer
from beluga_graph.plan.plan import Plan

__all__ = ["check_payload", "check_signal_name"]


def check_signal_name(run_id: str, name: str) -> None:
    """Refuse a text that cannot name a signal, and the name of an answer: only `Engine.answer` gives those.

    Raises `BadSignal`.
    """
    if not isinstance(name, str) or is_blank(name):
        raise BadSignal(run_id, f"{name!r:.100} cannot name a signal: give a text with visible characters")
    if is_answer(name):
        message = f"{name!r:.100} is the name of an answer: give it by engine.answer(…), to a question of pending()"
        raise BadSignal(run_id, message)


def check_payload(plan: Plan, run_id: str, signal: str, payload: Any) -> None:
    """Refuse a payload that the wait for it would not take, as far as the plan knows. Raises `BadSignal`."""
    wanted = plan.waits.get(signal)
    if wanted is None:
        return
    from pydantic import PydanticUserError, TypeAdapter, ValidationError  # noqa: PLC0415 - only typed waits need it

    try:
        TypeAdapter(wanted).validate_python(payload)
    except PydanticUserError as error:
        message = f"its wait has type={wanted!r:.100}, against which no payload can be checked: correct the flow"
        raise BadSignal(run_id, message) from error
    except ValidationError as error:
        raise BadSignal(run_id, f"the payload of signal {signal!r} does not fit its wait: {error}") from error
