"""The driver of one run in this process: asyncio tasks, a clock's timers and the store's commits, as the walker asks.

Where durability is "batch", a step's work begins before its commit. With every other durability it begins after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from beluga_graph.clock import Clock
from beluga_graph.execution.stored_events import decode_events
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, FAILED, Token
from beluga_graph.kernel.triggers import Trigger
from beluga_graph.kernel.types import Patch, Value
from beluga_graph.kernel.work import WorkChange
from beluga_graph.runtime.active_run import DRIVING, ActiveRun
from beluga_graph.runtime.node_task import InFlight
from beluga_graph.runtime.step import Origin, Step
from beluga_graph.storage.committer import Committer
from beluga_graph.storage.leases import Lease
from beluga_graph.storage.records import decode_record
from beluga_graph.storage.sessions import end_ops
from stores.base import Op

__all__ = ["DriverServices", "RunDriver"]

_NO_ORIGIN: Origin = (None, None, None, ())


class SignalDelivery(Protocol):
    """Delivers the signals that were sent to a run."""

    def deliver(self, active: ActiveRun, signal: str) -> None:
        """Deliver unread signals of a name to a run's waits."""
        ...


class StatusMessages(Protocol):
    """Writes the messages about a run's status, and relays all messages of committed steps."""

    def status_ops(self, active: ActiveRun, trigger: Trigger, before: str, at: int) -> list[Op]:
        """Return the writes of the status messages of a step that was just applied."""
        ...

    def on_committed(self, ops: Sequence[Op]) -> None:
        """Called with the writes of a step that is on disk."""
        ...


class DriverServices(Protocol):
    """The scheduler, as the drivers of its runs share it."""

    clock: Clock
    committer: Committer
    in_flight: InFlight
    goes_ahead: bool
    """Whether work begins before the commit of the step that led to it."""

    @property
    def inbox(self) -> SignalDelivery:
        """Delivers signals to the waits of runs."""
        ...

    @property
    def outbox(self) -> StatusMessages:
        """Keeps the messages of steps until a bus has them."""
        ...

    def spawn(self, active: ActiveRun, token: str) -> None:
        """Begin a task that makes the attempt at a token and goes on from there."""
        ...

    def abandon(self, active: ActiveRun, error: Exception) -> None:
        """Stop driving a run because of an error."""
        ...

    def on_rejected(self, active: ActiveRun, error: Exception) -> None:
        """Stop driving a run whose commit was rejected."""
        ...


class RunDriver:
    """Satisfies the walker's `Driver` and the step's `StepOwner` for one active run."""

    __slots__ = ("_active", "_services")

    def __init__(self, services: DriverServices, active: ActiveRun) -> None:
        self._services, self._active = services, active

    @property
    def is_halted(self) -> bool:
        """Whether no work of the run may begin."""
        return self._active.state != DRIVING

    @property
    def error(self) -> Exception | None:
        """Why the run is not driven any more, if something went wrong."""
        return self._active.error

    def now(self) -> int:
        """Return the clock's time in milliseconds."""
        return self._services.clock.now_ms()

    # From a trigger to a commit.

    def write(self, trigger: Trigger, patch: Patch, origin: Origin | None) -> Step:
        """Collect the writes of a step that depend on the run as it was before."""
        active, run = self._active, self._active.snapshot
        origin = origin or _NO_ORIGIN
        result, _, acquires, more = origin
        at = self._services.clock.now_ms()
        ops: list[Op] = [active.claim, *more] if acquires is None else [*acquires.ops, *more]
        ops += active.log.step_ops(run, trigger, patch, result, at, active.head.created_ms)
        return Step(self, active.line, run.seq + 1, trigger, patch, ops, origin, at, run.status)

    def commit(self, step: Step, change: WorkChange) -> None:
        """Queue a step for its commit; begin its work at once where work goes ahead."""
        active, services, ops = self._active, self._services, step.ops
        run = active.snapshot
        step.change = change
        if run.status != step.status_before or run.plan != active.head.plan:
            ops += self._status_ops(step.at_ms)
        ops += services.outbox.status_ops(active, step.trigger, step.status_before, step.at_ms)
        ops += active.log.snapshot_ops(run)
        result, task, acquires, _ = step.origin
        if run.status == FAILED and result is not None and result.error is not None:
            active.cause = result.error
        if services.goes_ahead and not change.whole and acquires is None:  # the lease must be taken before work begins
            step.is_released = True
            # Queue it before its work begins: a signal that this finds is a step of its own, and comes after it.
            services.committer.put(step, urgent=False)
            active.walker.release(step, change)
        else:
            services.committer.put(step, last=task is not None and services.in_flight.count == 0)

    def _status_ops(self, at_ms: int) -> list[Op]:
        """Return the writes of a changed status or graph. A run that has ended or failed gives its lease back."""
        active, run = self._active, self._active.snapshot
        active.head = replace(active.head, status=run.status, updated_ms=at_ms, plan=run.plan)
        ops = end_ops(active.log, active.plan.codec, run) if run.ended else []
        ops += active.log.status_ops(run, active.head, active.lease.epoch)
        if run.status in (COMPLETED, FAILED, CANCELLED):  # not before: an error above leaves the lease to give back
            active.lease = Lease(b"", active.lease.epoch)
        return ops

    # After the commit.

    def on_step_committed(self, step: Step) -> None:
        """Show a step's events and begin its work; finish the run if this was its last step."""
        active, change = self._active, step.change
        active.committed = step.seq
        active.log.on_committed(step.ops)
        self._services.outbox.on_committed(step.ops)
        try:
            if active.watchers:
                nodes, patch = active.plan.shape.nodes, step.patch
                for event in decode_events(active.run_id, step.seq, patch.events, patch.values, active.decode, nodes):
                    active.show(event)
            if not step.is_released and active.error is None:
                active.walker.release(step, change)
        except Exception as error:  # noqa: BLE001 - what the step needs cannot be read: only this run stops
            self._services.abandon(active, error)
        if change.whole and not change.new and step.seq == active.snapshot.seq:
            active.finish()

    def on_step_rejected(self, error: Exception) -> None:
        """Stop the run with the error."""
        self._services.on_rejected(self._active, error)

    # Work.

    def run_node(self, token: Token, step: Step | None) -> None:
        """Begin an attempt, in the task that finished the node before it if there is one."""
        active = self._active
        if token.name in active.tasks:
            return
        if step is not None and (task := step.free_task) is not None:
            step.next_token = token.name
            active.tasks[token.name] = task
            task.enter()
        else:
            self._services.spawn(active, token.name)

    def stop_node(self, token: str, step: Step) -> None:
        """Stop the task at a token, unless it is the one that made the step."""
        task = self._active.tasks.pop(token, None)
        if task is not None and task is not step.origin[1]:
            task.stop()

    def arm(self, timer: str, due: int) -> None:
        """Call the walker at a time of the clock."""
        self.disarm(timer)
        self._active.timers[timer] = self._services.clock.call_at(due, partial(self._on_due, timer, due))

    def disarm(self, timer: str) -> None:
        """Take a call back, if there is one."""
        disarm = self._active.timers.pop(timer, None)
        if disarm is not None:
            disarm()

    def await_signal(self, token: str, signal: str) -> None:  # noqa: ARG002 - the inbox serves the oldest wait
        """Serve unread signals of a name."""
        self._services.inbox.deliver(self._active, signal)

    def stop_all(self) -> None:
        """Stop every task but the one that calls, and every timer."""
        self._active.stop_work()

    def read_signal(self, signal: str, position: int) -> Value | None:
        """Read a payload from the inbox; none while the run is halted, or over. Raises `DamagedRecord`."""
        active = self._active
        if active.state != DRIVING:
            return None
        key = active.log.keys.signal(signal, position)
        blob = active.log.store.get(key)
        if blob is None:
            return None
        _, payload, _ = decode_record(key, blob)
        value: Value = payload
        return value

    def _on_due(self, timer: str, due: int) -> None:
        active = self._active
        active.timers.pop(timer, None)
        if active.is_over:
            return
        try:
            active.walker.fire_timer(timer, due)
        except Exception as error:  # noqa: BLE001 - a defect of the engine stops the run, with this error
            self._services.abandon(active, error)
