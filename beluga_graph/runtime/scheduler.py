"""The scheduler walks plans: the only module that creates tasks for nodes.

It knows nothing of graphs. A trigger goes into `advance`, the patch is applied and committed, and what the
patch changed of the run's work is begun or ended: attempts as tasks, timers on the clock, waits as watches
of the inbox. A task that finished a node goes on with the next one, since a task costs more than a node.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

from beluga_graph.clock import Clock
from beluga_graph.errors import LeaseLost, RunError
from beluga_graph.execution.attempt import Attempt, ExecutionResources
from beluga_graph.execution.executor import run_attempt
from beluga_graph.execution.result import AttemptResult
from beluga_graph.kernel.rules import get_limit, signal_of
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, FAILED, RUN, WAIT, Token
from beluga_graph.kernel.transition import advance
from beluga_graph.kernel.triggers import (
    ArmTimer,
    AwaitSignal,
    NodeFailed,
    RunNode,
    TimerFired,
    TrialBegun,
    TrialBrokenOff,
    Trigger,
    Work,
)
from beluga_graph.kernel.work import diff_work, list_work
from beluga_graph.runtime.active_run import ActiveRun, InFlight, NodeTask, Step
from beluga_graph.runtime.outbox_relay import Outbox
from beluga_graph.runtime.signals import Inbox
from beluga_graph.runtime.trials import Trials, by_interruptions, found_guilty, needs_trial
from beluga_graph.storage.committer import Committer
from beluga_graph.storage.leases import Lease, Owner
from beluga_graph.storage.records import PRESENT
from beluga_graph.storage.sessions import end_ops
from stores.base import Conflict, Delete, Durability, Op, Put, Store, StoreError

__all__ = ["Scheduler"]

_TURN_S = 0.005  # how long nodes that never wait may keep the loop from everything else


class Scheduler:
    """Drives runs of one store, within one event loop."""

    def __init__(
        self, store: Store, owner: Owner, durability: Durability, hands: ExecutionResources, max_concurrency: int | None
    ) -> None:
        self.store = store
        self.owner = owner
        self.clock: Clock = hands.clock
        self.committer = Committer(store, durability)
        self.hands = hands
        self._ahead = durability == "batch"
        self.lives: dict[str, ActiveRun] = {}  # the runs that are driven here, by id
        self.inbox = Inbox(self)
        self.outbox = Outbox(store, self.committer)
        self.on_driven: Callable[[], None] = nobody  # a run is driven: it may be sent something from afar, or parked
        self._busy = InFlight()
        self._turn = time.perf_counter()
        self._renewal = asyncio.Lock()
        self._trials = Trials()
        self._places = asyncio.Semaphore(max_concurrency) if max_concurrency is not None else None

    # From a trigger to a step.

    def decide(
        self,
        live: ActiveRun,
        trigger: Trigger,
        ended: AttemptResult | None = None,
        *,
        hand: NodeTask | None = None,
        more: Sequence[Op] = (),
    ) -> Step | None:
        """Let a trigger change a run; return the step, queued for its commit, or `None` if it was stale.

        `more` are operations that belong to the same commit, such as a lease that is taken over.
        """
        run, shape = live.snapshot, live.plan.shape
        patch = advance(shape, run, trigger)
        if not patch.ops:
            return None
        at = self.clock.now_ms()
        ops: list[Op] = [*more] if more else [live.claim]
        ops += live.history.step_ops(run, trigger, patch, ended, at, live.head.created_ms)
        status = run.status
        run.apply(patch)
        if run.status != status or run.plan != live.head.plan:
            ops += self._status_ops(live, at)
        ops += self.outbox.status_ops(live, trigger, status, at)
        ops += live.history.snapshot_ops(run)
        step = Step(self, live, patch, diff_work(shape, run, patch), ops, hand)
        if ended is not None and ended.error is not None and run.status == FAILED:
            live.cause = ended.error
        last = step.change.whole
        if self._ahead and not last and not more:
            step.released_work = True
            # Put it before its work begins: a signal that this finds is a step of its own, and comes after it.
            self.committer.put(step, urgent=False)
            self.release(step)
        else:
            self.committer.put(step, last=hand is not None and self._busy.count == 0)
        return step

    def _status_ops(self, live: ActiveRun, at: int) -> list[Op]:
        """Keep head and index; a run that has ended or failed gives its lease back."""
        run, keys = live.snapshot, live.history.keys
        live.head = replace(live.head, status=run.status, updated_ms=at, plan=run.plan)
        ops: list[Op] = [Put(keys.head, live.head.encode(keys.head))]
        if run.ended:
            ops += end_ops(live.history, live.plan.codec, run)
            ops += [*live.history.silenced(), Delete(keys.cancel)]
        if run.status in (COMPLETED, FAILED, CANCELLED):
            live.lease = Lease(b"", live.lease.epoch)
            ops += [Delete(keys.open), Put(keys.lease, live.lease.encode(keys.lease))]
        else:
            ops.append(Put(keys.open, PRESENT))
        return ops

    # From a step to work.

    def release(self, step: Step) -> None:
        """End and begin what a step changed of its run's work."""
        live, change = step.live, step.change
        if change.whole:
            live.stop_work()
            if live.resting or not change.new:
                return
        for name in change.tokens:
            hand = live.hands.pop(name, None)
            if hand is not None and hand is not step.hand:
                hand.stop()
        for name in change.timers:
            disarm = live.timers.pop(name, None)
            if disarm is not None:
                disarm()
        if not live.resting:
            self._begin(live, change.new, step)

    async def begin(self, live: ActiveRun) -> None:
        """Begin all that a run must be doing: overdue timers first, so that a deadline fires before a node runs."""
        everything = list_work(live.plan.shape, live.snapshot)
        now = self.clock.now_ms()
        for due, timer in (overdue := sorted((due, name) for name, due in live.snapshot.timers.items() if due <= now)):
            self._fire(live, timer, due)
        if overdue:
            await self.committer.drained()
        # What the fired timers led to was begun with their commits; the rest is left.
        begun = {("ArmTimer", timer) for timer in live.timers} | {("RunNode", token) for token in live.hands}
        left = [item for item in everything if (type(item).__name__, item[0]) not in begun]
        if not live.done.done():
            self._begin(live, by_interruptions(live.snapshot, left), None)

    def _begin(self, live: ActiveRun, new: Sequence[Work], step: Step | None) -> None:
        for item in new:
            if type(item) is RunNode:
                token = live.snapshot.tokens.get(item.token)
                if token is None or token.state != RUN or token.attempt != item.attempt:
                    continue  # a later step, decided meanwhile, has dropped it
                if step is not None and step.hand is not None and step.goes_on:
                    step.next = item.token
                    live.hands[item.token] = step.hand
                    step.hand.take_up()
                else:
                    self._spawn(live, item.token)
            elif type(item) is ArmTimer:
                if live.snapshot.timers.get(item.timer) == item.due:
                    fire = partial(self._fire, live, item.timer, item.due)
                    live.timers[item.timer] = self.clock.call_at(item.due, fire)
            elif type(item) is AwaitSignal:
                self.inbox.look_for(live, item.signal)

    def _spawn(self, live: ActiveRun, token: str) -> None:
        hand = live.hands[token] = NodeTask(self._busy)
        work = self._drive(live, token, hand)
        hand.task = asyncio.get_running_loop().create_task(work, context=live.context.copy())

    # Attempts.

    async def _drive(self, live: ActiveRun, first: str, hand: NodeTask) -> None:
        """Make attempt after attempt, as long as each step leads on to a node."""
        name: str | None = first
        hand.started = True
        try:
            while name is not None:
                await self._make_sure(live)
                token = live.snapshot.tokens.get(name)
                if token is None:  # a step that was decided meanwhile has dropped it
                    return
                if token.interruptions and needs_trial(live.plan.shape, live.snapshot, token):
                    ended = await self._tried(live, token)
                elif self._places is None:
                    ended = await self._attempt(live, token)
                else:
                    async with self._places:
                        await self._make_sure(live)  # it may have waited long
                        ended = await self._attempt(live, token)
                hand.leave()
                step = self.decide(live, ended.trigger, ended, hand=hand)
                if step is None or not step.leads_on:
                    return
                await self.settled(step)
                await self._give_way()
                name = step.next if step.alive else None
        except Exception as error:  # noqa: BLE001 - a defect of the engine stops the run, and is told
            self.abandon(live, error)
        except asyncio.CancelledError:
            if hand in live.hands.values():  # nobody of the engine has cancelled it
                self.abandon(live, RunError(live.run_id, "the task of one of its nodes was cancelled: resume it"))
            raise
        except (GeneratorExit, KeyboardInterrupt, SystemExit) as error:  # the process, or the loop, is ending
            live.finish(RunError(live.run_id, f"it was stopped by {type(error).__name__}: resume it to go on"))
            hand.task.add_done_callback(_seen)
            raise
        finally:
            hand.leave()

    async def _attempt(self, live: ActiveRun, token: Token) -> AttemptResult:
        if live.watches:
            live.show_now(token, "node_started")
        sure = partial(self._make_sure, live)  # `show_text`, too, is always given: a watcher may come later
        attempt = Attempt(live.plan, live.snapshot, token, live.history, self.hands, live.show_text, sure)
        ended = await run_attempt(attempt)
        if attempt.texts and type(ended.trigger) is NodeFailed and live.watches:
            live.show_now(token, "retracted")
        return ended

    async def _tried(self, live: ActiveRun, token: Token) -> AttemptResult:
        """Make an attempt of a node that was interrupted often, apart from others like it.

        Its trial begins when it has its place: while it waits for one, nothing that happens can be its fault.
        """
        async with self._trials.apart(), self._places or nullcontext():
            await self._make_sure(live)  # it may have waited long
            self.decide(live, TrialBegun(token.name, token.attempt, self.clock.now_ms()))
            try:
                await self.committer.drained()
                if live.error is not None:
                    raise live.error
                await self._make_sure(live)  # the commit may have taken long
                return await self._attempt(live, token)
            except asyncio.CancelledError:
                if live.resting and live.error is None:
                    self.decide(live, TrialBrokenOff(token.name, token.attempt, self.clock.now_ms()))
                raise

    async def _make_sure(self, live: ActiveRun) -> None:
        """Return at once if the lease is surely this run's; after a pause of the process, look. Raises `LeaseLost`.

        Every commit checks the lease, but a node begins ahead of its commit, or a moment after the one before. So an
        owner that was frozen, and taken for dead, looks before it begins what another one may have finished.
        """
        while live.term is None or live.term != self.owner.term:
            async with self._renewal:
                if self.owner.term is None:  # or another owner could take the run as soon as it is seen to be ours
                    try:
                        await asyncio.to_thread(self.owner.renew)
                    except StoreError as error:
                        self.abandon(live, error)
                        raise
            term = self.owner.term
            await self.commit(live, [live.claim])
            if live.error is not None:
                raise live.error
            live.term = term  # as it was before the commit: after a pause during that, look again

    async def settled(self, step: Step) -> None:
        """Return once the step's work may begin: after its commit, or at once where work goes on ahead."""
        if step.released_work and self.committer.is_behind:
            await self.committer.drained()
        if not step.released_work and step.live.committed < step.seq and step.alive:
            step.settled = asyncio.get_running_loop().create_future()
            await step.settled

    async def _give_way(self) -> None:
        """Let the loop turn, now and then, under nodes that never wait."""
        now = time.perf_counter()
        if now - self._turn > _TURN_S:
            await asyncio.sleep(0)
            self._turn = time.perf_counter()

    async def commit(self, live: ActiveRun, ops: list[Op]) -> None:
        """Commit something about a run that is no step of it."""
        entry = _Note(self, live, ops)
        self.committer.put(entry)
        await self.committer.drained()

    # Timers and signals.

    def _fire(self, live: ActiveRun, timer: str, due: int) -> None:
        try:
            self._timer_due(live, timer, due)
        except Exception as error:  # noqa: BLE001 - a defect of the engine stops the run, and is told
            self.abandon(live, error)

    def _timer_due(self, live: ActiveRun, timer: str, due: int) -> None:
        live.timers.pop(timer, None)
        if live.done.done():
            return
        token = live.snapshot.tokens.get(timer[2:]) if timer[:2] == "t:" else None
        if token is not None and token.state == WAIT:
            # An accepted signal beats a timeout that is not committed; the trigger below is stale then.
            self.inbox.serve(live, signal_of(live.plan.shape.nodes[token.node], token.name) or "")
        self.decide(live, TimerFired(timer, due, self.clock.now_ms()))

    # Taking on and giving up runs.

    def fail_interrupted(self, live: ActiveRun) -> None:
        """Fail the nodes at which too many owners died."""
        allowed = get_limit(live.plan.shape, live.snapshot, "max_interruptions")
        for token in found_guilty(live.plan.shape, live.snapshot):
            message = f"{token.interruptions} processes ended while the node ran; max_interruptions is {allowed}"
            now = self.clock.now_ms()
            self.decide(live, NodeFailed(token.name, token.attempt, now, "Interrupted", message, retryable=False))

    def refused(self, live: ActiveRun, error: Exception) -> None:
        """Stop a run whose step was not written."""
        if isinstance(error, Conflict):
            message = "another owner has taken the run over; what this one did since was not written"
            lost = LeaseLost(live.run_id, message)
            lost.__cause__ = error
            live.finish(lost)  # and nothing is given back: the lease is not this run's any more, or never was
            return
        self.abandon(live, error)

    def halt(self, live: ActiveRun) -> list[asyncio.Task[None]]:
        """Begin nothing more of a run and end what is under way; return the tasks that are ending."""
        live.resting = True
        tasks = [hand.task for hand in live.hands.values() if hand.task is not asyncio.current_task()]
        live.stop_work()
        return tasks

    async def rest(self, live: ActiveRun) -> None:
        """Stop driving a run without ending it: end its tasks, commit what is decided, give the lease back."""
        tasks = self.halt(live)
        if tasks:
            await asyncio.wait(tasks)
        await self.committer.drained()
        self._give_back(live)
        await self.committer.drained()
        live.finish()

    def abandon(self, live: ActiveRun, error: Exception) -> None:
        """Stop driving a run because of an error, and give the lease back if it is still there."""
        live.finish(error)
        self._give_back(live)

    def let_go(self, live: ActiveRun) -> None:
        """Give the lease back of a run that begins nothing any more, as one that goes on elsewhere, or later."""
        self._give_back(live)
        live.part()

    def _give_back(self, live: ActiveRun) -> None:
        if live.lease.owner:
            live.lease = Lease(b"", live.lease.epoch)
            self.committer.give(live.freed())


def nobody() -> None:
    """Be told, and do nothing."""


class _Note:
    """Something about a run that is no step of it, such as a lease that is taken or given back."""

    line = None
    seq = 0

    def __init__(self, scheduler: Scheduler, live: ActiveRun, ops: list[Op]) -> None:
        self._scheduler, self._live = scheduler, live
        self.ops = ops

    @property
    def alive(self) -> bool:
        """Whether the run is still this engine's."""
        return self._live.error is None

    def released(self) -> None:
        """Nothing waits for this."""

    def refused(self, error: Exception) -> None:
        """The lease was lost: the run stops here, unless a step before has ended it and given the lease back."""
        if self._live.lease.owner:
            self._scheduler.refused(self._live, error)


def _seen(task: asyncio.Task[None]) -> None:
    """Take note of how a task ended, so that the loop does not complain that nobody did."""
    if not task.cancelled():
        task.exception()
