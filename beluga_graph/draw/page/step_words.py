"""The description of a step in a few words, for the head line of the page and its list of events."""

from __future__ import annotations

from collections.abc import Sequence

from beluga_graph.draw.text import clean, clip, format_duration
from beluga_graph.events import Event
from beluga_graph.kernel.rules import is_answer

__all__ = ["describe_step"]

_WORDS = {
    "RunStarted": "The run began",
    "CancelRequested": "The run was cancelled",
    "RunResumed": "The run was resumed",
    "RunForked": "The run began as a fork",
    "RunTakenOver": "Another owner took the run over",
    "PlanAdopted": "The run took over the changed graph",
    "TrialBegun": "A node that was interrupted often is begun apart from others",
    "TrialBrokenOff": "The owner stopped before that node ended",
}


def describe_step(trigger: str, token: str, node: str, events: Sequence[Event]) -> str:
    """Describe a step in a few words, by its trigger and token, the label of its node, and its events."""
    by_type = {event.type: event for event in events}
    if trigger == "NodeFinished":
        finished = by_type.get("node_finished")
        route = finished.route if finished is not None else None
        return f"{node} finished" + (f", and chose {clip(clean(str(route)), 60)}" if route is not None else "")
    if trigger == "NodeFailed":
        retry = by_type.get("retry")
        if retry is None or retry.delay_s is None:
            return f"{node} failed"
        if "waiting" in by_type:  # a person's answer that did not fit the expected type
            return f"{node}: the answer did not fit, and is asked for again"
        return f"{node} failed, to be tried again in {format_duration(round(retry.delay_s * 1000))}"
    if trigger == "SignalReceived":
        signal = by_type.get("signal")
        if signal is not None and signal.target:
            return f"The signal {clip(clean(signal.name), 60)} interrupted {node or 'the run'}"
        return f"{node} was answered" if is_answer(token) else f"{node} got its signal"
    if trigger == "TimerFired":
        if not node:
            return "The run passed its deadline"
        return f"The time of {node} came" if "timer" in by_type or "error" in by_type else f"{node} is tried again"
    return _WORDS.get(trigger, trigger)
