"""Views: the plain data classes that describe a run from outside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from beluga_graph.events import Event, Failure

__all__ = [
    "Outcome",
    "RunInfo",
    "RunSnapshot",
    "RunStatus",
    "StepInfo",
    "TokenInfo",
    "info_rows",
    "snapshot_rows",
]

ROWS_MAX = 50  # tokens and timers that a snapshot's table shows


class RunStatus(StrEnum):
    """The status of a run.

    Attributes:
        running: A node is ready to run, running, or about to be tried again.
        waiting: Nothing runs; the run waits for a signal, an answer or a time.
        completed: The run has ended and has an output.
        failed: A node failed for good and no edge handles it; `Engine.resume` tries it again.
        cancelled: The run was cancelled, for good.
    """

    running = "running"
    waiting = "waiting"
    completed = "completed"
    failed = "failed"
    cancelled = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The way in which a run ended; see `Run.outcome`.

    Attributes:
        status: The run's status.
        output: The output of a completed run, else `None`.
        failure: The failure of a failed run, else `None`.
        usage: Sums over the run that agents report: `input_tokens`, `output_tokens`, `model_calls` and the like.
        steps: How many nodes have finished. Steps of the run that finish no node do not count.
        reason: `condition` or `limit` if the run's flow is a `LoopAgent`, else `None`. Loops inside a run have
            `loop_finished` events instead.
    """

    status: RunStatus
    output: Any = None
    failure: Failure | None = None
    usage: dict[str, int] = field(default_factory=dict)
    steps: int = 0
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """A line about one run, as `Engine.runs` returns it.

    Attributes:
        run_id: The run's id.
        flow: The name of its flow.
        status: Its status on disk.
        created_ms: When it was started, in milliseconds since the epoch.
        updated_ms: When its status last changed, in milliseconds since the epoch.
        moved_to: The place at which a run goes on that has moved out of this store; empty for a run of this store.
    """

    run_id: str
    flow: str
    status: RunStatus
    created_ms: int
    updated_ms: int
    moved_to: str = ""

    def _repr_html_(self) -> str:
        from beluga_graph.draw.display import render_table  # noqa: PLC0415 - drawing is loaded when it is needed

        return render_table(info_rows(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class StepInfo:
    """One committed step of a run's history, as `Engine.history` returns it.

    Attributes:
        seq: The step's number, from 1.
        at_ms: When it was decided, in milliseconds since the epoch.
        trigger: The name of the trigger that caused it, such as `NodeFinished`.
        token: The subject of the trigger: the structural name of a token, the name of a timer or of a signal, or the
            id of the run that was forked; else an empty string.
        attempt: The attempt of that token, the position of that signal, or the step that was forked; else 0.
        events: The events that the step stored, decoded.
        ops: The primitive changes of the snapshot, as stored.
    """

    seq: int
    at_ms: int
    trigger: str
    token: str
    attempt: int
    events: tuple[Event, ...]
    ops: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenInfo:
    """One thread of control of a run.

    Attributes:
        name: Its structural name, which says where in the graph it is, and which visit of that node this is.
        node: The path of its node.
        state: `run`, `retry`, `wait`, `sleep` or `broken`.
        attempt: The number of its attempt, from 1.
        value: The node's input, decoded.
    """

    name: str
    node: str
    state: str
    attempt: int
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSnapshot:
    """A run as of one step, decoded, as `Engine.snapshot` returns it.

    Attributes:
        run_id: The run's id.
        seq: The step.
        status: The run's status after that step.
        input: The run's input.
        state: The fields of the graph's own state, without updates of open branches that no join has folded in yet.
        tokens: The run's threads of control.
        output: The output of a completed run, else `None`.
        failure: The failure of a failed run, else `None`.
        timers: When each armed timer is due, by its name, in milliseconds since the epoch.
        steps: How many nodes have finished. Steps of the run that finish no node do not count.
        plan: The fingerprint of the run's graph.
    """

    run_id: str
    seq: int
    status: RunStatus
    input: Any
    state: dict[str, Any]
    tokens: tuple[TokenInfo, ...]
    output: Any
    failure: Failure | None
    timers: dict[str, int]
    steps: int
    plan: str

    def _repr_html_(self) -> str:
        from beluga_graph.draw.display import render_table  # noqa: PLC0415 - drawing is loaded when it is needed

        return render_table(snapshot_rows(self))


def info_rows(info: RunInfo) -> list[tuple[str, str]]:
    """Return the rows of a table about a run: names and texts."""
    from beluga_graph.draw.display import format_status, format_time  # noqa: PLC0415 - loaded when it is needed

    return [
        ("run", info.run_id),
        ("flow", info.flow),
        ("status", format_status(info.status)),
        ("created", format_time(info.created_ms)),
        ("updated", format_time(info.updated_ms)),
        *([("goes on at", info.moved_to)] if info.moved_to else ()),
    ]


def snapshot_rows(snapshot: RunSnapshot) -> Iterator[tuple[str, str]]:
    """Yield the rows of a table about a snapshot: values are shortened, and only the first tokens and timers shown."""
    from beluga_graph.draw.display import format_clipped_value, format_status, format_time  # noqa: PLC0415 - loaded when needed

    yield "run", snapshot.run_id
    yield "status", format_status(snapshot.status)
    yield "step", f"{snapshot.seq:,}, {snapshot.steps:,} nodes finished"
    yield "input", format_clipped_value(snapshot.input)
    if snapshot.output is not None:
        yield "output", format_clipped_value(snapshot.output)
    if snapshot.failure is not None:
        yield "failure", format_clipped_value(snapshot.failure)
    for name, value in snapshot.state.items():
        yield f"state.{name}", format_clipped_value(value)
    for token in snapshot.tokens[:ROWS_MAX]:
        attempt = f", attempt {token.attempt}" if token.attempt > 1 else ""
        yield token.name, f"{token.state}{attempt}: {format_clipped_value(token.value)}"
    if len(snapshot.tokens) > ROWS_MAX:
        yield "…", f"{len(snapshot.tokens) - ROWS_MAX:,} more tokens"
    for timer, due_ms in list(snapshot.timers.items())[:ROWS_MAX]:
        yield f"timer {timer}", format_time(due_ms)
