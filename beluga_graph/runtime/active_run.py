"""An active run: the state that an engine keeps of a run while it drives it, and the run's watchers.

| state      | work                      | next state                                                             |
|------------|---------------------------|------------------------------------------------------------------------|
| `driving`  | begins                    | `halted` by `halt`, `released` by `release`, `ended` by `finish`       |
| `halted`   | none begins, steps commit | `driving` by `drive`, `released` by `release`, `ended` by `finish`     |
| `released` | stopped                   | none; the run continues later or elsewhere, as another `ActiveRun`     |
| `ended`    | stopped                   | none; the run ended, failed, or was stopped here and may be resumed    |

A run begins as `driving`. These methods change only this object: the steps, the scheduler and the commit that parks a
run give its lease back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from beluga_graph.events import Event, make_event
from beluga_graph.execution.stored_values import StoredValues
from beluga_graph.kernel.snapshot import Snapshot, Token
from beluga_graph.kernel.types import Value
from beluga_graph.plan.plan import Plan
from beluga_graph.runtime.node_task import NodeTask
from beluga_graph.runtime.step import Origin, Step
from beluga_graph.runtime.watcher import Watcher
from beluga_graph.storage.committer import Line
from beluga_graph.storage.leases import Lease
from beluga_graph.storage.records import RunRecord
from beluga_graph.storage.run_log import RunLog
from stores.base import Op, Put

if TYPE_CHECKING:
    from beluga_graph.kernel.walker import Walker

__all__ = ["DRIVING", "ENDED", "HALTED", "RELEASED", "ActiveRun", "State"]

State: TypeAlias = Literal["driving", "halted", "released", "ended"]

DRIVING: State = "driving"
HALTED: State = "halted"  # steps are still committed, no work is begun
RELEASED: State = "released"  # this engine stopped driving it without an end: it goes on later, here or elsewhere
ENDED: State = "ended"  # it ended, failed, or was stopped here


class ActiveRun:
    """One run that this engine drives. The snapshot may be some patches ahead of the store."""

    __slots__ = (
        "cause",
        "claim",
        "committed",
        "context",
        "done",
        "error",
        "head",
        "lease",
        "line",
        "log",
        "plan",
        "snapshot",
        "state",
        "tasks",
        "term",
        "timers",
        "values",
        "walker",
        "watchers",
    )

    walker: Walker[Origin, Step]  # set by the scheduler that drives the run

    def __init__(self, plan: Plan, snapshot: Snapshot, log: RunLog, head: RunRecord, lease: Lease) -> None:
        self.plan = plan
        self.snapshot = snapshot
        self.log = log
        self.values = StoredValues(plan.codec, log.reader)
        self.head = head
        self.lease = lease
        self.claim = lease.claim(log.keys.lease)
        self.term: int | None = None  # the owner's, in which the lease was last seen to be this run's
        self.committed = snapshot.seq  # the last step that is on disk
        self.line = Line(snapshot.run_id, snapshot.seq)
        # The context variables of the caller that made this engine drive the run. Work may begin in a commit that
        # other runs share, and must not get the variables of those.
        self.context = copy_context()
        self.tasks: dict[str, NodeTask] = {}  # by token
        self.timers: dict[str, Callable[[], None]] = {}  # armed ones, and how to disarm them
        self.watchers: list[Watcher] = []
        self.state: State = DRIVING
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # set when the run is over here
        self.error: Exception | None = None  # why this engine stopped driving the run, if something went wrong
        self.cause: BaseException | None = None  # the exception behind the last failure

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.snapshot.run_id

    @property
    def is_over(self) -> bool:
        """Whether this engine drives the run no more: it is released or ended."""
        return self.state in (RELEASED, ENDED)

    # Watchers.

    def attach(self, watcher: Watcher, *, began: bool = False) -> None:
        """Show a watcher every step that is committed from now on."""
        watcher.attach(self.run_id, self.plan, self.log.reader, since=self.committed, began=began)
        if self.is_over:
            watcher.close()
        else:
            watcher.open()
            self.watchers.append(watcher)

    def detach(self, watcher: Watcher) -> None:
        """Show a watcher nothing more."""
        if watcher in self.watchers:
            self.watchers.remove(watcher)

    def show(self, event: Event) -> None:
        """Hand an event to all watchers."""
        for watcher in self.watchers:
            watcher.put(event)

    def show_text(self, token: Token, text: str) -> None:
        """Show a piece of text that a node emits."""
        if self.watchers:
            self.show_live(token, "text", text)

    def show_live(self, token: Token, kind: str, text: str = "") -> None:
        """Show a live event of a node, which is never stored."""
        shape = self.plan.shape.nodes.get(token.node)
        self.show(
            make_event(
                type=kind,
                run_id=self.run_id,
                node=token.node,
                agent=shape.agent if shape is not None else "",
                token=token.name,
                attempt=token.attempt,
                text=text,
            )
        )

    def decode(self, value: Value | None) -> Any:
        """Return a new copy of a value of this run. Raises `SnapshotError`, also for an unknown class."""
        return self.values.decode(value)

    # Stopping.

    def halt(self) -> None:
        """Begin no more work. Call it before the run is parked or stopped, or until its lease is taken.

        Attempts under way go on, and their steps are committed. Timers, watchers and the lease are kept.
        """
        if self.state == DRIVING:
            self.state = HALTED

    def drive(self) -> None:
        """Let a halted run begin work, once its lease is taken. Begins nothing itself: `Scheduler.begin` does."""
        if self.state == HALTED:
            self.state = DRIVING

    def finish(self, error: Exception | None = None) -> None:
        """Enter the state `ended`, after the run's last step or an error, or when the engine stops the run.

        Stops tasks and timers, closes the watchers and wakes the waiters, which raise `error`. Does not give the lease
        back. In a run that is over, only an error is noted, if it is the first.
        """
        if self.is_over:
            self.error = self.error or error  # a step after the failure, such as a cancel, may be rejected
            return
        self.state, self.error = ENDED, error
        self.stop_work()
        for watcher in self.watchers:
            watcher.close()
        self.done.set_result(None)

    def release(self) -> None:
        """Enter the state `released`: a parked run continues later, here or elsewhere.

        Stops tasks and timers. `done` is set, but the watchers stay open: they move to the next `ActiveRun` of the run.
        Does not give the lease back. Does nothing if the run is over.
        """
        if not self.is_over:
            self.state = RELEASED
            self.stop_work()
            self.done.set_result(None)

    def release_ops(self) -> list[Op]:
        """Return the operations that give the lease back, if it is still this run's."""
        key = self.log.keys.lease
        return [self.claim, Put(key, Lease(b"", self.lease.epoch).encode(key))]

    def stop_work(self) -> None:
        """Stop every task but the one that calls, and every timer. State, watchers and lease are kept.

        Call it when a halted run is parked or stopped, or when a step ends all work.
        """
        here = asyncio.current_task()
        for task in self.tasks.values():
            if task.task is not here:
                task.stop()
        self.tasks.clear()
        for disarm in self.timers.values():
            disarm()
        self.timers.clear()
