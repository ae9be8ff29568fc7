"""Reads the runs of a store and decodes them, also without the user's code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from beluga_graph.codec.registry import Registry
from beluga_graph.codec.values import Codec
from beluga_graph.errors import RunNotFound
from beluga_graph.events import Event
from beluga_graph.execution.stored_events import decode_events
from beluga_graph.execution.stored_values import StoredValues
from beluga_graph.inspection.views import RunInfo, RunSnapshot, RunStatus, StepInfo, TokenInfo
from beluga_graph.kernel.shape import Shape
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.plan.channels import StateBinding
from beluga_graph.plan.plan import Plan
from beluga_graph.storage.keys import Prefix
from beluga_graph.storage.loading import (
    RunReader,
    StoredStep,
    detect_contradictions,
    detect_deletion,
    read_last_seq,
    read_steps,
    rebuild,
    rebuild_first,
)
from beluga_graph.storage.pace import Pace
from beluga_graph.storage.records import RunRecord
from beluga_graph.storage.shapes import ShapeHistory, read_shape, shape_at
from stores.base import Store

if TYPE_CHECKING:
    from beluga_graph.draw.page.replay import Delta, Replay
    from beluga_graph.trace.trace import Trace

__all__ = [
    "info_of",
    "list_runs",
    "list_steps",
    "read_events",
    "read_plan",
    "read_replay",
    "read_snapshot",
    "read_trace",
]


async def list_runs(store: Store) -> list[RunInfo]:
    """Return a line about every run. A run that begins or ends meanwhile is seen in its state before or after that."""
    found, pace = [], Pace()
    for key, blob in store.scan(Prefix.RUN):
        found.append(info_of(RunRecord.decode(key, blob)))
        await pace.turn()
    return found


def info_of(head: RunRecord) -> RunInfo:
    """Return the line about a run from its record."""
    return RunInfo(
        run_id=head.run_id,
        flow=head.flow,
        status=RunStatus(head.status),
        created_ms=head.created_ms,
        updated_ms=head.updated_ms,
        moved_to=head.moved_to,
    )


def read_plan(store: Store, head: RunRecord) -> Plan:
    """Return a plan without code, from the stored shape of a run's graph: enough to read the run, or to end it."""
    shape = read_shape(store, head.plan)
    if shape is None:
        raise RunNotFound(head.run_id, f"the shape {head.plan} of its graph is missing from the store")
    return Plan(shape, {}, Codec(Registry(), limit="max_value_bytes"))


def read_events(plan: Plan, reader: RunReader, after: int, until: int | None = None) -> Iterator[Event]:
    """Yield the stored events of the steps `after` < seq <= `until`, each read by the graph that made its step."""
    past = ShapeHistory(reader.store, reader.run_id, plan.shape)
    with detect_deletion(reader.store, reader.run_id):
        for step in read_steps(reader.store, reader.run_id, after, until):
            nodes = past.nodes(step)
            # An earlier graph may have named classes that this one does not: those values are only looked at.
            values = StoredValues(plan.codec, reader, lenient=not past.is_known)
            yield from decode_events(
                reader.run_id, step.seq, step.patch.events, step.patch.values, values.decode, nodes
            )


async def list_steps(store: Store, head: RunRecord, plan: Plan) -> list[StepInfo]:
    """Return the steps of a run, decoded. An instance of a class that is unknown here is `Unregistered`.

    Raises `DamagedRecord`.
    """
    last = read_last_seq(store, head.run_id)
    found, pace = [], Pace()
    for step, events in _read_steps(store, head, plan, last):
        found.append(_step_info(step, events))
        await pace.turn()
    return found


def _step_info(step: StoredStep, events: list[Event]) -> StepInfo:
    return StepInfo(
        seq=step.seq,
        at_ms=step.at_ms,
        trigger=step.trigger,
        token=step.token,
        attempt=step.attempt,
        events=tuple(events),
        ops=step.patch.ops,
    )


def _read_steps(
    store: Store, head: RunRecord, plan: Plan, until: int | None = None
) -> Iterator[tuple[StoredStep, list[Event]]]:
    """Yield the steps of a run, each with its events."""
    decode = _stored_values(store, head, plan).decode
    past = ShapeHistory(store, head.run_id, plan.shape)
    for step in read_steps(store, head.run_id, until=until):
        yield step, decode_events(head.run_id, step.seq, step.patch.events, step.patch.values, decode, past.nodes(step))


def _stored_values(store: Store, head: RunRecord, plan: Plan) -> StoredValues:
    return StoredValues(plan.codec, RunReader(store, head.run_id), lenient=True)


def read_replay(store: Store, head: RunRecord, plan: Plan) -> tuple[Replay, list[Delta]]:
    """Return the replay of a run, and its changes step by step, decoded as by `list_steps`. Raises `DamagedRecord`."""
    from beluga_graph.draw.page.replay import Replay  # noqa: PLC0415 - drawing is loaded when it is needed

    begun = rebuild_first(store, head.run_id)
    values = _stored_values(store, head, plan)

    def items(place: str, field: str, start: int, stop: int) -> Iterator[Any]:
        return map(values.decode, values.source.read_items(place, field, start, stop))

    with detect_contradictions(head.run_id):
        replay = Replay(plan.shape, begun, values.decode, items)
        return replay, [replay.apply(step, events) for step, events in _read_steps(store, head, plan)]


def read_trace(store: Store, head: RunRecord, shape: Shape, seq: int | None, *, keep: bool = True) -> Trace:
    """Return the trace of a run up to a step, the last by default. `keep` keeps the visits that have ended.

    Raises `RunNotFound` for a step that the run does not have.
    """
    from beluga_graph.trace.trace import Trace  # noqa: PLC0415 - drawing is loaded when it is needed

    begun = rebuild_first(store, head.run_id)
    with detect_contradictions(head.run_id):
        trace = Trace(shape, begun, keep=keep)
        for step in read_steps(store, head.run_id, until=seq):
            trace.apply(step)
    if seq is not None and trace.run.seq != seq:
        raise RunNotFound(head.run_id, f"it has no step {seq}: its last is {trace.run.seq}")
    return trace


def read_snapshot(store: Store, head: RunRecord, plan: Plan, seq: int | None) -> RunSnapshot:
    """Return a run as of a step, decoded."""
    run = rebuild(store, head.run_id, seq)
    shape = shape_at(store, run.plan, plan.shape)
    values = _stored_values(store, head, plan)
    decode = values.decode
    return RunSnapshot(
        run_id=run.run_id,
        seq=run.seq,
        status=RunStatus(run.status),
        input=decode(run.input),
        state=dict(_state(run, values, shape, plan.state)),
        tokens=tuple(
            TokenInfo(name=t.name, node=t.node, state=t.state, attempt=t.attempt, value=decode(t.value or None))
            for t in run.tokens.values()
        ),
        output=decode(run.output),
        failure=decode(run.error),
        timers=dict(run.timers),
        steps=run.steps,
        plan=run.plan,
    )


def _state(
    run: Snapshot, values: StoredValues, shape: Shape, binding: StateBinding | None
) -> Iterator[tuple[str, Any]]:
    place = run.places[""]
    for field in shape.state:
        channel = binding.channels.get(field.name) if binding is not None else None
        known, default = channel.default() if channel is not None else (False, None)
        if field.reducer == "append":
            items = values.source.read_items("", field.name, 0, place.lengths.get(field.name, 0))
            head = values.decode(place.fields[field.name]) if field.name in place.fields else default or ()
            yield field.name, [*head, *map(values.decode, items)]
        elif field.name in place.fields:
            yield field.name, values.decode(place.fields[field.name])
        elif known:
            yield field.name, default
