"""The driver of a run within a workflow, which keeps its timers, inbox, items and steps.

The server commits a trigger together with its consequences. So a step's work begins at once, without a wait for a
commit. Nothing here may recurse with the length of a run: work that a step begins is called soon, not at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from temporalio import workflow

from beluga_graph.kernel.ops import APPEND_ITEMS, CLOSE_SCOPE, SET_CONSUMED
from beluga_graph.kernel.shape import Shape
from beluga_graph.kernel.snapshot import Snapshot, Token
from beluga_graph.kernel.triggers import Trigger
from beluga_graph.kernel.types import Patch, Value
from beluga_graph.kernel.walker import Walker
from beluga_graph.kernel.work import WorkChange
from beluga_graph.temporal.workflow.dispatch import Dispatcher
from beluga_graph.temporal.workflow.logged_step import LoggedStep
from beluga_graph.temporal.workflow.outbox import OutboxSender
from beluga_graph.temporal.workflow.pieces import ItemPieces
from beluga_graph.temporal.workflow.run_options import RunOptions
from beluga_graph.temporal.workflow.wire import Reply

__all__ = ["WorkflowDriver"]


class WorkflowDriver:
    """Satisfies the walker's `Driver`, and the dispatcher's `DrivenRun`."""

    def __init__(
        self,
        shape: Shape,
        run: Snapshot,
        options: RunOptions,
        items: ItemPieces,
        inbox: dict[str, list[bytes]],
        session: Any,
        unsent: Mapping[str, Any] | None = None,
    ) -> None:
        self.shape, self.run, self.items, self.inbox, self.session = shape, run, items, inbox, session
        self.error: BaseException | None = None
        self.is_halted = True
        self.walker: Walker[Reply, LoggedStep] = Walker(shape, run, self)
        self.dispatcher = Dispatcher(self, options)
        self.outgoing = OutboxSender(shape.name, run, options, unsent)
        self.log: list[LoggedStep] = []
        self._status_before = run.status  # before the step that is applied now
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._to_serve: set[str] = set()

    # Called by the workflow.

    def begin(self) -> None:
        """Begin all the work of the run: overdue timers first."""
        self.is_halted = False
        self.outgoing.begin()
        self.walker.begin(self.walker.fire_overdue())

    def receive(self, signal: str, payload: bytes) -> None:
        """Accept a signal."""
        self.inbox.setdefault(signal, []).append(payload)
        self._serve_soon(signal)

    def guard(self, call: Callable[..., object], *args: Any) -> None:
        """Call a function whose error must not be lost, as that of a callback would be."""
        try:
            call(*args)
        except BaseException as error:  # noqa: BLE001 - the workflow raises it
            self.error = self.error or error

    def stop(self) -> None:
        """Stop everything, before the workflow ends or continues as new."""
        self.is_halted = True
        self.stop_all()

    # Called by the walker.

    def now(self) -> int:
        """Return the workflow's time in milliseconds since the epoch."""
        return workflow.time_ns() // 1_000_000

    def write(self, trigger: Trigger, patch: Patch, origin: Reply | None) -> LoggedStep:
        """Update items and inbox for a step, and return its log entry. The step is not applied to the run yet."""
        appended = {(op[1], op[2]) for op in patch.ops if op[0] == APPEND_ITEMS}
        for piece in origin.pieces if origin is not None else ():
            if (piece.place, piece.field) in appended:  # not if the step refuses the attempt's result
                self.items.add(piece)
        for op in patch.ops:
            if op[0] == CLOSE_SCOPE:
                self.items.close(op[1])
            elif op[0] == SET_CONSUMED:
                _, signal, count = op
                del self.inbox[signal][: count - self.run.inbox.get(signal, 0)]
        step = LoggedStep(self.run.seq + 1, self.now(), trigger, patch, origin)
        self.outgoing.add_published(origin, patch, step.at_ms)
        self._status_before = self.run.status
        return step

    def commit(self, step: LoggedStep, change: WorkChange) -> None:
        """Log a step and begin its work: the server commits both together."""
        self.log.append(step)
        self.outgoing.add_status(step.trigger, self._status_before, step.at_ms)
        self.walker.release(step, change)

    def run_node(self, token: Token, step: LoggedStep | None) -> None:
        """Queue an attempt."""
        self.dispatcher.add(token)

    def stop_node(self, token: str, step: LoggedStep) -> None:
        """Stop an attempt."""
        self.dispatcher.stop(token)

    def arm(self, timer: str, due: int) -> None:
        """Set a timer, which survives the worker."""
        self.disarm(timer)
        loop, delay_ms = asyncio.get_running_loop(), due - self.now()
        fire = partial(self.guard, self._fire, timer, due)
        if delay_ms > 0:
            self._timers[timer] = loop.call_later(delay_ms / 1000, fire)
        else:  # the loop of a workflow cannot take this call back; a timer that was disarmed meanwhile is stale
            loop.call_soon(fire)

    def disarm(self, timer: str) -> None:
        """Cancel a timer."""
        if (handle := self._timers.pop(timer, None)) is not None:
            handle.cancel()

    def await_signal(self, token: str, signal: str) -> None:
        """Look for the signal soon."""
        self._serve_soon(signal)

    def stop_all(self) -> None:
        """Stop all attempts and timers."""
        self.dispatcher.stop_all()
        for handle in self._timers.values():
            handle.cancel()
        self._timers.clear()

    def read_signal(self, signal: str, position: int) -> Value | None:
        """Return the oldest unread payload."""
        unread = self.inbox.get(signal)
        return unread[0] if unread else None

    # Within.

    def _fire(self, timer: str, due: int) -> None:
        self._timers.pop(timer, None)
        if not self.is_halted:
            self.walker.fire_timer(timer, due)

    def _serve_soon(self, signal: str) -> None:
        if signal not in self._to_serve:
            self._to_serve.add(signal)
            asyncio.get_running_loop().call_soon(partial(self.guard, self._serve, signal))

    def _serve(self, signal: str) -> None:
        self._to_serve.discard(signal)
        if not self.is_halted:
            self.walker.serve(signal)
