"""The mirror of a run: its history in an ordinary store, where the inspector reads it like a run of the local engine.

The workflow is replayed, so each step comes with the trigger and the patch that it had. The times are those of the
history: two mirrors of one history have equal records. Messages to topics are not written, so that no engine on the
store sends them a second time.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from temporalio.client import Client, WorkflowHistory

from beluga_graph.codec.references import REFERENCE, find_references, is_reference
from beluga_graph.errors import RunBusy, RunNotFound
from beluga_graph.execution.result import AttemptResult, NewItems
from beluga_graph.inspection.recorder import RunRecorder, read_recorded_seq
from beluga_graph.kernel.ops import APPEND_ITEMS
from beluga_graph.kernel.transition import advance
from beluga_graph.kernel.triggers import CancelRequested
from beluga_graph.temporal.claims.call_values import LargeValues, read_large_value
from beluga_graph.temporal.connection.connection import url_of
from beluga_graph.temporal.connection.history import find_current, read_execution, read_input
from beluga_graph.temporal.mirror.replay import ReplayedRun, replay_execution
from beluga_graph.temporal.workflow.logged_step import LoggedStep
from beluga_graph.temporal.workflow.wire import unpack
from stores.base import Store

__all__ = ["check_readable", "export_history", "mirror_run"]

_TRIES = 10


async def mirror_run(client: Client, run_id: str, store: Store, claims: LargeValues | None = None) -> None:
    """Write a run to a store, up to the last complete workflow task.

    Nothing is written if the run or a large value cannot be read. The store may have the run from an earlier call:
    only executions with new steps are read. If the server does not keep the first executions any more, the run is
    written from the first one that it keeps. A terminated run is written as a cancelled one.

    Raises `RunNotFound`; `SnapshotError` if the history cannot be read or replayed, or a large value is missing;
    `RunConflict` if the store has another run of this id; `RunBusy` if others write it all the time; and the errors of
    the connection and of the claims.
    """
    for _ in range(_TRIES - 1):
        with suppress(RunBusy):  # another task or process has just written these steps
            return await _mirror(client, run_id, store, claims)
    return await _mirror(client, run_id, store, claims)


async def export_history(client: Client, run_id: str) -> list[WorkflowHistory]:
    """Return the histories of a run's executions, the first one first, each up to its last complete workflow task.

    Raises `RunNotFound`, `SnapshotError`, and the errors of the connection.
    """
    chain = await _find_chain(client, run_id)
    return [(await read_execution(client, run_id, execution_id)).history for execution_id in chain]


async def check_readable(client: Client, run_id: str, claims: LargeValues | None) -> None:
    """Read a run with all its large values, as `mirror_run` does, and write nothing. Raises the same errors."""
    await _read(client, run_id, None, claims)


async def _mirror(client: Client, run_id: str, store: Store, claims: LargeValues | None) -> None:
    recorded = await asyncio.to_thread(read_recorded_seq, store, run_id)
    for source in await _read(client, run_id, recorded, claims):  # all of it before the first write
        await asyncio.to_thread(_Recording(store, source, url_of(client)).record)


async def _read(client: Client, run_id: str, recorded: int | None, claims: LargeValues | None) -> list[_Source]:
    """Return the executions with steps after `recorded`, the first one first. Their large values can be read."""
    chain = await _find_chain(client, run_id, recorded)
    sources: list[_Source] = []
    while chain:
        execution = await read_execution(client, run_id, chain.pop(0))
        if execution.next_id and not chain:  # it has continued meanwhile
            chain.append(execution.next_id)
        sources.append(_Source(await replay_execution(execution, client.data_converter), claims))
    for source in sources:
        await asyncio.to_thread(source.require_values, recorded)
    return sources


async def _find_chain(client: Client, run_id: str, recorded: int | None = None) -> list[str]:
    """Return the executions of a run in order, from the one on that made the first step after `recorded`."""
    chain: list[str] = []
    execution_id = await find_current(client, run_id)
    while execution_id:
        try:
            given, previous = await read_input(client, run_id, execution_id)
        except RunNotFound:
            if not chain:
                raise
            break
        chain.append(execution_id)
        if recorded is not None and given["run"]["seq"] <= recorded:
            break
        execution_id = previous
    return chain[::-1]


class _Source:
    """One execution, with the large values that its steps refer to."""

    def __init__(self, replayed: ReplayedRun, claims: LargeValues | None) -> None:
        self.replayed, self._claims = replayed, claims

    def require_values(self, recorded: int | None) -> None:
        """Read all large values that a store with the steps up to `recorded` needs. Raises errors of the claims."""
        begun = (self.replayed.begun.to_plain(), self.begun_items()) if recorded is None else ()
        signals = [value for _, _, value, _ in self.signals()]
        new = [step for step in self.replayed.steps if recorded is None or step.seq > recorded]
        steps = [_values_of(step, self.result_of(step)) for step in new]
        for _ in self.large_values((begun, signals, steps)):
            pass

    def signals(self) -> Iterator[tuple[str, int, bytes, int]]:
        """Yield the signals that the execution began with, and those that it has accepted: name, position, value, time.

        The store has those of the input already, unless the server does not keep earlier executions.
        """
        replayed, begun = self.replayed, self.replayed.begun
        given = [(name, value, begun.started_ms) for name, values in replayed.begun_inbox.items() for value in values]
        accepted = [(signal.name, signal.payload, signal.at_ms) for signal in replayed.signals]
        positions = Counter(begun.inbox)
        for name, value, at_ms in [*given, *accepted]:
            yield name, positions[name], value, at_ms
            positions[name] += 1

    def begun_items(self) -> dict[tuple[str, str], list[bytes]]:
        """Return the items that the execution began with."""
        return {
            (place, field): [item for _, data in pieces for item in unpack(self._load(data))]
            for place, field, pieces in self.replayed.begun_items.to_plain()
        }

    def result_of(self, step: LoggedStep) -> AttemptResult | None:
        """Return the attempt that a step ended, with the items that are new in it: a piece may have folded others."""
        if step.reply is None:
            return None
        counts = {(op[1], op[2]): op[3] for op in step.patch.ops if op[0] == APPEND_ITEMS}
        items = [
            NewItems(piece.place, piece.field, list(unpack(self._load(piece.data))[-count:]))
            for piece in step.reply.pieces
            if (count := counts.get((piece.place, piece.field), 0))
        ]
        return AttemptResult(step.reply.trigger, items=tuple(items))

    def large_values(self, plain: Any) -> Iterator[tuple[bytes, bytes]]:
        """Yield the references within plain data, each with its value."""
        for digest in dict.fromkeys(find_references(plain)):
            reference = REFERENCE + digest
            yield reference, self._load(reference)

    def _load(self, value: bytes) -> bytes:
        return read_large_value(self._claims, value) if is_reference(value) else value


class _Recording:
    """Writes the steps of one execution."""

    def __init__(self, store: Store, source: _Source, place: str) -> None:
        self._store, self._source, self._replayed = store, source, source.replayed
        self._run = run = self._replayed.begun
        self._recorder = RunRecorder(store, self._replayed.shape, run, at_ms=run.started_ms, moved_to=place)

    def record(self) -> None:
        """Write the steps that the store does not have yet."""
        replayed, recorder, run, source = self._replayed, self._recorder, self._run, self._source
        is_new = read_recorded_seq(self._store, run.run_id) is None
        items = source.begun_items() if is_new else {}
        recorder.begin(items=items, blobs=source.large_values((run.to_plain(), items)) if is_new else ())
        signals = [*source.signals()]
        # The signals that the run reads in these steps are written first, with the time at which they were accepted.
        # The others are written last: an answer that is not read yet closes a question that a step asks.
        self._put_signals(signal for signal in signals if self._is_read(signal))
        recorder.flush()
        for step in replayed.steps:
            self._write(step)
        self._put_signals(signal for signal in signals if not self._is_read(signal))
        if replayed.status == "terminated" and not run.ended:
            patch = advance(replayed.shape, run, trigger := CancelRequested(replayed.last_ms))
            self._write(LoggedStep(run.seq + 1, replayed.last_ms, trigger, patch, None))
        recorder.flush()

    def _is_read(self, signal: tuple[str, int, bytes, int]) -> bool:
        name, position, *_ = signal
        return position < self._replayed.run.inbox.get(name, 0)

    def _put_signals(self, signals: Iterable[tuple[str, int, bytes, int]]) -> None:
        for name, position, value, at_ms in signals:
            self._recorder.put_values(self._source.large_values(value))
            self._recorder.put_signal(name, position, value, at_ms=at_ms)

    def _write(self, step: LoggedStep) -> None:
        run, recorder = self._run, self._recorder
        if step.seq > recorder.last_seq:
            result = self._source.result_of(step)
            recorder.put_values(self._source.large_values(_values_of(step, result)))
            recorder.write(step.trigger, step.patch, result, at_ms=step.at_ms)
        run.apply(step.patch)
        recorder.commit()


def _values_of(step: LoggedStep, result: AttemptResult | None) -> Any:
    """Return the values of a step, and those of its new items."""
    return step.patch.values, result.items if result is not None else ()
