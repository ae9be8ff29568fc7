"""A live run: what an engine holds of a run that it drives, and those who watch it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from beluga_graph.events import Event, decode_value, make_event, stored_events
from beluga_graph.kernel.snapshot import Snapshot, Token
from beluga_graph.kernel.triggers import RunNode
from beluga_graph.kernel.types import Patch
from beluga_graph.kernel.work import WorkChange
from beluga_graph.plan import Plan
from beluga_graph.runtime.watcher import Watcher
from beluga_graph.storage.committer import Line
from beluga_graph.storage.leases import Lease
from beluga_graph.storage.records import RunRecord
from beluga_graph.storage.run_log import History
from stores.base import Op, Put

if TYPE_CHECKING:
    from beluga_graph.runtime.scheduler import Scheduler

__all__ = ["ActiveRun", "InFlight", "NodeTask", "Step"]


class ActiveRun:
    """One run that this engine drives. The snapshot may be some patches ahead of the store."""

    __slots__ = (
        "cause",
        "claim",
        "committed",
        "context",
        "done",
        "error",
        "hands",
        "head",
        "history",
        "idle",
        "lease",
        "line",
        "parted",
        "plan",
        "resting",
        "snapshot",
        "term",
        "timers",
        "watches",
    )

    def __init__(self, plan: Plan, snapshot: Snapshot, history: History, head: RunRecord, lease: Lease) -> None:
        self.plan = plan
        self.snapshot = snapshot
        self.history = history
        self.head = head
        self.lease = lease
        self.claim = lease.claim(history.keys.lease)
        self.term: int | None = None  # the owner's, in which the lease was last seen to be this run's
        self.committed = snapshot.seq  # the last step that is on disk
        self.line = Line(snapshot.run_id, snapshot.seq)
        # Variables of whoever took the run up. Work may begin in a commit that other runs share: not of theirs.
        self.context = copy_context()
        self.hands: dict[str, NodeTask] = {}  # by token
        self.timers: dict[str, Callable[[], None]] = {}  # armed ones, and how to disarm them
        self.watches: list[Watcher] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.error: Exception | None = None  # why this engine stopped driving the run, if something went wrong
        self.cause: BaseException | None = None  # the exception behind the last failure
        self.idle = 0  # the step at which it was last seen with nothing to do
        self.parted = False  # let go of without an end: it goes on later, here or elsewhere
        self.resting = False  # halted on purpose: its steps are still committed, no work is begun

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.snapshot.run_id

    def agent_of(self, node: str) -> str:
        """Return the name of the agent that a node belongs to, if any."""
        shape = self.plan.shape.nodes.get(node)
        return shape.agent if shape is not None else ""

    def detach(self, watch: Watcher) -> None:
        """Let a watch see no more."""
        if watch in self.watches:
            self.watches.remove(watch)

    def attach(self, watch: Watcher, *, began: bool = False) -> None:
        """Let a watch see every step that is committed from now on."""
        watch.since, watch.live, watch.began = self.committed, self, began
        if self.done.done():
            watch.close()
        else:
            watch.open()
            self.watches.append(watch)

    def show(self, event: Event) -> None:
        """Hand an event to all watchers."""
        for watch in self.watches:
            watch.put(event)

    def show_text(self, token: Token, text: str) -> None:
        """Show a piece of text that a node emits."""
        if self.watches:
            self.show_now(token, "text", text)

    def show_now(self, token: Token, kind: str, text: str = "") -> None:
        """Show a live event of a node, which is never stored."""
        self.show(
            make_event(
                type=kind,
                run_id=self.run_id,
                node=token.node,
                agent=self.agent_of(token.node),
                token=token.name,
                attempt=token.attempt,
                text=text,
            )
        )

    def decode(self, value: Any, *, lenient: bool = False) -> Any:
        """Return a fresh copy of a value of this run; a class that is not known is refused unless `lenient`."""
        return decode_value(self.plan.codec, self.history.load, value, lenient=lenient)

    def finish(self, error: Exception | None = None) -> None:
        """Stop: end every task and timer, tell watchers and waiters. Idempotent."""
        if self.done.done():
            self.error = self.error or error  # a step after the failure, such as a cancel, may be refused
            return
        self.error = error
        self.stop_work()
        for watch in self.watches:
            watch.close()
        self.done.set_result(None)

    def freed(self) -> list[Op]:
        """Return what gives the lease back, if it is still this run's."""
        key = self.history.keys.lease
        return [self.claim, Put(key, Lease(b"", self.lease.epoch).encode(key))]

    def part(self) -> None:
        """Stop without an end: whoever watches or waits is left for the one that goes on with the run."""
        if not self.done.done():
            self.parted = True
            self.stop_work()
            self.done.set_result(None)

    def stop_work(self) -> None:
        """Stop every hand but the one that calls, and every timer."""
        here = asyncio.current_task()
        for hand in self.hands.values():
            if hand.task is not here:
                hand.stop()
        self.hands.clear()
        for disarm in self.timers.values():
            disarm()
        self.timers.clear()


class InFlight:
    """How many attempts are under way, or about to be: what may still join the next commit."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class NodeTask:
    """A task that makes attempts, one after the other."""

    __slots__ = ("_all", "_busy", "started", "task")

    task: asyncio.Task[None]

    def __init__(self, busy: InFlight) -> None:
        self._all = busy
        self._busy = False
        self.started = False
        self.take_up()

    def take_up(self) -> None:
        """Count as busy, until `leave`."""
        self._busy = True
        self._all.count += 1

    def leave(self) -> None:
        """Count as busy no more. Idempotent."""
        if self._busy:
            self._busy = False
            self._all.count -= 1

    def stop(self) -> None:
        """Cancel the task; one that has not begun never will, so it cannot say that it leaves."""
        self.task.cancel()
        if not self.started:
            self.leave()


class Step:
    """One decided step on its way to the store, with all that waits for its commit."""

    __slots__ = (
        "_scheduler",
        "change",
        "hand",
        "line",
        "live",
        "next",
        "ops",
        "patch",
        "released_work",
        "seq",
        "settled",
    )

    def __init__(
        self,
        scheduler: Scheduler,
        live: ActiveRun,
        patch: Patch,
        change: WorkChange,
        ops: Sequence[Op],
        hand: NodeTask | None,
    ) -> None:
        self._scheduler = scheduler
        self.live = live
        self.line: Line | None = live.line
        self.seq = live.snapshot.seq
        self.patch = patch
        self.change = change
        self.ops = ops
        self.hand = hand  # that made the attempt behind this step, and may go on with the next node
        self.next: str | None = None  # the token that the task goes on with
        self.released_work = False
        self.settled: asyncio.Future[None] | None = None

    @property
    def leads_on(self) -> bool:
        """Whether the step begins a node, which the task behind it may go on with."""
        return any(type(item) is RunNode for item in self.change.new)

    @property
    def goes_on(self) -> bool:
        """Whether the task behind this step is there to go on with a node."""
        return self.next is None and not (self.settled and self.settled.cancelled())

    @property
    def alive(self) -> bool:
        """Whether no earlier step of the run was refused."""
        return self.live.error is None

    def released(self) -> None:
        """The step is on disk: show its events, begin its work."""
        self.live.committed = self.seq
        self.live.history.committed(self.ops)
        self._scheduler.outbox.released(self.ops)
        try:
            if self.live.watches:
                for event in self.events():
                    self.live.show(event)
            if not self.released_work and self.alive:
                self._scheduler.release(self)
        except Exception as error:  # noqa: BLE001 - what the step needs cannot be read: only this run stops
            self._scheduler.abandon(self.live, error)
        if self.change.whole and not self.change.new and self.live.committed == self.live.snapshot.seq:
            self.live.finish()
        self._settle()

    def refused(self, error: Exception) -> None:
        """The step was not written: the run stops here, with that error."""
        self._scheduler.refused(self.live, error)
        self._settle()

    def events(self) -> list[Event]:
        """Return the step's events."""
        return stored_events(
            self.live.run_id,
            self.seq,
            self.patch.events,
            self.patch.values,
            self.live.decode,
            self.live.plan.shape.nodes,
        )

    def _settle(self) -> None:
        if self.settled is not None and not self.settled.done():
            self.settled.set_result(None)
