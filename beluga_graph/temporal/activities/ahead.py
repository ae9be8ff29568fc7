"""The walk ahead: if a run has one token, its activity continues with the next node, by the rules of every driver.

The walk stops where another token, a timer, a signal or an answer could change the next step. Its decisions are not
kept: the workflow decides each step again, from the replies.
"""

from __future__ import annotations

from beluga_graph.clock import Clock
from beluga_graph.kernel.ops import COUNT_STEP
from beluga_graph.kernel.shape import Shape
from beluga_graph.kernel.snapshot import RUN, Snapshot, Token
from beluga_graph.kernel.triggers import Trigger
from beluga_graph.kernel.types import Patch, Value
from beluga_graph.kernel.walker import Walker
from beluga_graph.kernel.work import WorkChange

__all__ = ["AheadWalk"]


class AheadWalk:
    """Satisfies the walker's `Driver` for the copy of a run that went into a call."""

    is_halted = False

    def __init__(self, shape: Shape, run: Snapshot, clock: Clock) -> None:
        self._run, self._clock = run, clock
        self._walker: Walker[None, None] = Walker(shape, run, self)
        self._next: Token | None = None
        self._is_alone = True

    def next_after(self, trigger: Trigger) -> Token | None:
        """Let a trigger change the run; return the token to go on with, or `None` where the walk must stop."""
        self._next = None
        self._walker.decide(trigger)
        found = self._next
        is_alone = self._is_alone and len(self._run.tokens) == 1 and not self._run.waits
        return found if is_alone and found is not None and found.state == RUN else None

    def now(self) -> int:
        """Return the time in milliseconds since the epoch."""
        return self._clock.now_ms()

    def write(self, trigger: Trigger, patch: Patch, origin: None) -> None:
        """Write nothing: the workflow logs the step. Stop the walk if the step refuses the result and so its items."""
        if not any(op[0] == COUNT_STEP for op in patch.ops):
            self._is_alone = False

    def commit(self, step: None, change: WorkChange) -> None:
        """Begin the work of a step at once."""
        if change.whole:
            self._is_alone = False
        self._walker.release(step, change)

    def run_node(self, token: Token, step: None) -> None:
        """Note the next attempt."""
        self._next = token

    def stop_node(self, token: str, step: None) -> None:
        """Do nothing: one attempt is made at a time."""

    def arm(self, timer: str, due: int) -> None:
        """Stop: a timer is the workflow's."""
        self._is_alone = False

    def disarm(self, timer: str) -> None:
        """Stop: a timer is the workflow's."""
        self._is_alone = False

    def await_signal(self, token: str, signal: str) -> None:
        """Stop: a signal reaches the workflow."""
        self._is_alone = False

    def stop_all(self) -> None:
        """Do nothing: one attempt is made at a time."""

    def read_signal(self, signal: str, position: int) -> Value | None:
        """Return `None`: signals reach the workflow."""
        return None
