"""The walker: the rules by which every driver turns triggers into steps, and steps into work.

It decides in which order things happen, and does none of them: no clock, store, task or event loop. A driver supplies
those through `Driver`. The local scheduler, the simulation of the tests and a workflow of another engine walk a run
by the same rules:

* A step is written before its patch is applied, and a stale trigger writes nothing.
* Work begins when the driver releases the step: after its commit, or at once where the driver may go ahead.
* After a load, overdue timers fire before any node begins.
* An accepted signal beats a timer that is not committed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

from beluga_graph.kernel.interruptions import find_guilty, order_by_interruptions
from beluga_graph.kernel.listeners import is_listening, list_signals_around
from beluga_graph.kernel.rules import get_limit, signal_of
from beluga_graph.kernel.shape import Shape
from beluga_graph.kernel.snapshot import RUN, RUNNING, WAITING, Snapshot, Token
from beluga_graph.kernel.structural_names import TOKEN_TIMER, split_timer
from beluga_graph.kernel.tokens import AT_WAIT
from beluga_graph.kernel.transition import advance
from beluga_graph.kernel.triggers import (
    ArmTimer,
    AwaitInterrupt,
    AwaitSignal,
    NodeFailed,
    RunNode,
    SignalReceived,
    TimerFired,
    Trigger,
    Work,
)
from beluga_graph.kernel.types import Patch, Value
from beluga_graph.kernel.work import WorkChange, diff_work, list_work

__all__ = ["Driver", "Walker"]

Origin = TypeVar("Origin")
Origin_contra = TypeVar("Origin_contra", contravariant=True)
Step = TypeVar("Step")


class Driver(Protocol[Origin_contra, Step]):
    """The abilities that a walker needs of the driver of its run.

    `Origin` is the driver's own record of how a trigger came about, such as the attempt that it ends. `Step` is the
    driver's own form of a step. The walker passes both through.
    """

    @property
    def is_halted(self) -> bool:
        """Whether no work of the run may begin and no wait may time out. Its steps are still written."""

    def now(self) -> int:
        """Return the time in milliseconds since the epoch."""

    def write(self, trigger: Trigger, patch: Patch, origin: Origin_contra | None) -> Step:
        """Prepare a step. The run is still as it was before the patch."""

    def commit(self, step: Step, change: WorkChange) -> None:
        """Commit a prepared step, whose patch is applied. Call `Walker.release` once its work may begin."""

    def run_node(self, token: Token, step: Step | None) -> None:
        """Begin the attempt at a token, unless it is under way. `step` made it necessary; `None` after a load."""

    def stop_node(self, token: str, step: Step) -> None:
        """Stop the attempt at a token if one is under way, but not the one that `step` ended."""

    def arm(self, timer: str, due: int) -> None:
        """Call `Walker.fire_timer` at `due` or later. Replaces an earlier arming of the timer."""

    def disarm(self, timer: str) -> None:
        """Take an arming back, if there is one."""

    def await_signal(self, token: str, signal: str) -> None:
        """Call `Walker.serve` now or soon, and again whenever a signal of this name is accepted.

        `token` may also be the name of a listener: of a source that the signal interrupts.
        """

    def stop_all(self) -> None:
        """Stop every attempt and timer."""

    def read_signal(self, signal: str, position: int) -> Value | None:
        """Return the payload at a position of a signal's inbox, `None` if none was accepted there yet."""


class Walker(Generic[Origin, Step]):
    """The walk of one run."""

    __slots__ = ("_driver", "_run", "_shape")

    def __init__(self, shape: Shape, run: Snapshot, driver: Driver[Origin, Step]) -> None:
        self._shape, self._run, self._driver = shape, run, driver

    def decide(self, trigger: Trigger, origin: Origin | None = None) -> Step | None:
        """Let a trigger change the run; return the step, handed to the driver's `commit`, or `None` if it is stale."""
        shape, run, driver = self._shape, self._run, self._driver
        patch = advance(shape, run, trigger)
        if not patch.ops:
            return None
        step = driver.write(trigger, patch, origin)
        run.apply(patch)
        driver.commit(step, diff_work(shape, run, patch))
        return step

    def release(self, step: Step, change: WorkChange) -> None:
        """End and begin the work that a step changed."""
        driver = self._driver
        if change.whole:
            driver.stop_all()
        for token in change.tokens:
            driver.stop_node(token, step)
        for timer in change.timers:
            driver.disarm(timer)
        if change.new:
            self._begin(change.new, step)

    def fire_overdue(self) -> list[Work]:
        """Fire the overdue timers of a run that was loaded; return the work that it had before.

        Pass the work to `begin` once the steps of the timers are committed: a deadline that has passed fires before a
        node begins.
        """
        found = list_work(self._shape, self._run)
        now = self._driver.now()
        for due, timer in sorted((due, timer) for timer, due in self._run.timers.items() if due <= now):
            self.fire_timer(timer, due)
        return found

    def begin(self, found: Iterable[Work]) -> None:
        """Begin the work that `fire_overdue` returned, less what its timers have ended or begun."""
        self._begin(order_by_interruptions(self._run, found), None)

    def fire_timer(self, timer: str, due: int) -> None:
        """Decide on a timer whose time has come.

        In a halted run, a timer that a signal may forestall is left to the next driver.
        """
        kind, name = split_timer(timer)
        signals = self._signals_before(kind, name)
        if signals and self._driver.is_halted:
            return  # It delivers no signals. The next driver looks for one before it fires the timer.
        for signal in signals:  # An accepted signal beats a timer that is not committed. The trigger is stale then.
            self.serve(signal)
        self.decide(TimerFired(timer, due, max(due, self._driver.now())))

    def _signals_before(self, kind: str, name: str) -> list[str]:
        """Return the signals that would end a wait before its timeout, or drop the token or scope of a timer."""
        run, shape = self._run, self._shape
        if name not in run.tokens and name not in run.scopes:  # the run itself, or the timer is stale
            return []
        found = list_signals_around(shape, run, name)
        token = run.tokens.get(name) if kind == TOKEN_TIMER else None
        if token is not None and token.state == AT_WAIT:
            found.insert(0, signal_of(shape.nodes[token.node], token.name) or "")
        return found

    def serve(self, signal: str) -> None:
        """Deliver the unread signals of a name, each once: to the oldest wait, or the innermost source within it."""
        run, driver = self._run, self._driver
        while signal in run.waits:
            position = run.inbox.get(signal, 0)
            value = driver.read_signal(signal, position)
            if value is None or self.decide(SignalReceived(signal, position, value, driver.now())) is None:
                return

    def fail_interrupted(self) -> None:
        """Fail the nodes at which too many owners died."""
        allowed = get_limit(self._shape, self._run, "max_interruptions")
        for token in find_guilty(self._shape, self._run):
            message = f"{token.interruptions} processes ended while the node ran; max_interruptions is {allowed}"
            at = self._driver.now()
            self.decide(NodeFailed(token.name, token.attempt, at, "Interrupted", message, retryable=False))

    def _begin(self, new: Iterable[Work], step: Step | None) -> None:
        run, driver = self._run, self._driver
        for item in new:
            # A later step, decided meanwhile, may have ended or failed the run, or dropped the token or timer.
            if driver.is_halted or run.status not in (RUNNING, WAITING):
                return
            if type(item) is RunNode:
                token = run.tokens.get(item.token)
                if token is not None and token.state == RUN and token.attempt == item.attempt:
                    driver.run_node(token, step)
            elif type(item) is ArmTimer:
                if run.timers.get(item.timer) == item.due:
                    driver.arm(item.timer, item.due)
            elif type(item) is AwaitSignal:
                token = run.tokens.get(item.token)
                if token is not None and token.state == AT_WAIT:
                    driver.await_signal(item.token, item.signal)
            elif type(item) is AwaitInterrupt and is_listening(run, item.listener, item.signal):
                driver.await_signal(item.listener, item.signal)
