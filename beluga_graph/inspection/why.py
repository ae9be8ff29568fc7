"""`Why`: the answer to "why does this run not go on?", as data and as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from beluga_graph.codec.safe_repr import to_printable
from beluga_graph.inspection.views import RunStatus

__all__ = ["AwaitedTrigger", "Reason", "ReasonKind", "TriggerKind", "Why"]

ReasonKind: TypeAlias = Literal[
    "attempt", "retry", "signal", "answer", "timer", "concurrency", "session", "owner", "failed", "ended"
]
TriggerKind: TypeAlias = Literal["signal", "answer", "time", "drive"]

_SHOWN_MAX = 10  # reasons and triggers that the text shows
_LINE_MAX = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One reason why a run does not go on, or does not yet.

    Attributes:
        kind: `attempt`: a node is being executed, or is ready to be. `retry`: the pause before the next attempt.
            `signal`, `answer`, `timer`: a wait for a signal, for a person or for a time. `concurrency`: a wait for a
            free place among the branches of a fan-out or the attempts of the engine. `session`: a failed run keeps its
            session. `owner`: no engine drives the run, or it goes on elsewhere. `failed`: a node failed, or was stopped
            because another one failed. `ended`: the run is over.
        node: The path of the node; empty for a reason of the whole run.
        token: The structural name of the token, or of the fan-out whose branches wait; empty for the whole run. For
            an `answer` it is the id of the question, which `Engine.answer` takes.
        text: The reason in plain English.
        command: The command or Python call that removes the reason; empty if none does.
        since_ms: Since when, in milliseconds since the epoch; `None` if it is not known.
    """

    kind: ReasonKind
    node: str = ""
    token: str = ""
    text: str
    command: str = ""
    since_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitedTrigger:
    """Something that would move a run on.

    Attributes:
        kind: `signal`: a signal of this name, which a wait gets or which interrupts. `answer`: a person's answer.
            `time`: the time comes. `drive`: an engine that drives the run makes or ends its attempts, reads signals
            and answers that have arrived, and fires timers that are due; for a failed run, `Engine.resume`.
        signal: The name of the signal, else empty.
        question: The id of the question, else empty.
        due_ms: The time, in milliseconds since the epoch, else `None`.
        text: The trigger and its effect in plain English.
    """

    kind: TriggerKind
    signal: str = ""
    question: str = ""
    due_ms: int | None = None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """Why a run does not go on, as `Engine.why` computes it from the stored run. `str()` of it is a short text.

    Attributes:
        run_id: The run's id.
        flow: The name of its flow.
        status: Its status.
        reasons: One for each token of the run, after those of the whole run.
        triggers: All that would move the run, but for its cancellation and changes of its graph. Each moves it alone.
        at_ms: The time to which the answer applies, in milliseconds since the epoch.
    """

    run_id: str
    flow: str
    status: RunStatus
    reasons: tuple[Reason, ...]
    triggers: tuple[AwaitedTrigger, ...]
    at_ms: int

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield to_printable(f"run {self.run_id!r} of flow {self.flow!r} is {self.status}")
        for reason in self.reasons[:_SHOWN_MAX]:
            yield f"  {_one_line(f'{reason.token}: {reason.text}' if reason.token else reason.text)}"
            if reason.command:
                yield f"      {to_printable(reason.command)}"
        yield from _count_rest(self.reasons)
        if self.triggers:
            yield "it moves on with any of these:"
        for trigger in self.triggers[:_SHOWN_MAX]:
            yield f"  {_one_line(trigger.text)}"
        yield from _count_rest(self.triggers)


def _one_line(text: str) -> str:
    """Return a text, which may have an error of several lines, as one `plain` line that is not too long."""
    shown = to_printable(" ".join(text.split()))
    return shown if len(shown) <= _LINE_MAX else shown[: _LINE_MAX - 1] + "…"


def _count_rest(items: Sequence[object]) -> Iterator[str]:
    if len(items) > _SHOWN_MAX:
        yield f"  … and {len(items) - _SHOWN_MAX:,} more"
