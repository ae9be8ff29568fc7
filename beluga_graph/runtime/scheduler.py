"""The scheduler makes the attempts of active runs: the only module that creates tasks for nodes.

It knows nothing of graphs. The walker decides what a trigger changes and what begins; `RunDriver` brings each step to
the store; the scheduler runs the nodes. A task that finished a node goes on with the next one, because a task costs
more than a node.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import TypeAlias

from beluga_graph.clock import Clock
from beluga_graph.errors import LeaseLost, RunError
from beluga_graph.execution.attempt import Attempt, ExecutionResources
from beluga_graph.execution.executor import run_attempt
from beluga_graph.execution.result import AttemptResult
from beluga_graph.kernel.interruptions import needs_trial
from beluga_graph.kernel.snapshot import Snapshot, Token
from beluga_graph.kernel.triggers import CancelRequested, NodeFailed, TrialBegun, TrialBrokenOff, Trigger
from beluga_graph.kernel.walker import Walker
from beluga_graph.plan.plan import Plan
from beluga_graph.runtime.active_run import HALTED, ActiveRun
from beluga_graph.runtime.driver import RunDriver
from beluga_graph.runtime.node_task import InFlight, NodeTask
from beluga_graph.runtime.outbox_relay import OutboxRelay
from beluga_graph.runtime.signals import Inbox
from beluga_graph.runtime.step import Step
from beluga_graph.runtime.trials import Trials
from beluga_graph.storage.committer import Commit, Committer
from beluga_graph.storage.leases import Acquisition, Lease, Owner
from beluga_graph.storage.records import RunRecord
from beluga_graph.storage.run_log import RunLog
from stores.base import Conflict, Durability, Op, Store, StoreError

__all__ = ["Scheduler"]

_TURN_S = 0.005  # how long nodes that never wait may keep the loop from everything else

_MakeSure: TypeAlias = Callable[[], Awaitable[None]]


class Scheduler:
    """Drives runs of one store, within one event loop."""

    def __init__(
        self,
        store: Store,
        owner: Owner,
        durability: Durability,
        resources: ExecutionResources,
        max_concurrency: int | None,
    ) -> None:
        self.store = store
        self.owner = owner
        self.clock: Clock = resources.clock
        self.committer = Committer(store, durability)
        self.resources = resources
        self.goes_ahead = durability == "batch"
        self.inbox = Inbox(store, self.committer, self.clock, self.abandon)
        self.outbox = OutboxRelay(store, self.committer)
        self.in_flight = InFlight()
        self._turn = time.perf_counter()
        self._renewal = asyncio.Lock()
        self._trials = Trials()
        self._places = asyncio.Semaphore(max_concurrency) if max_concurrency is not None else None

    def activate(self, plan: Plan, snapshot: Snapshot, log: RunLog, head: RunRecord, lease: Lease) -> ActiveRun:
        """Return a run that this scheduler can drive. It is not driven yet: decide on a trigger, or `begin`."""
        active = ActiveRun(plan, snapshot, log, head, lease)
        active.walker = Walker(plan.shape, snapshot, RunDriver(self, active))
        return active

    # Deciding.

    def decide(
        self, active: ActiveRun, trigger: Trigger, *, acquires: Acquisition | None = None, more: Sequence[Op] = ()
    ) -> Step | None:
        """Let a trigger change a run; return the step, queued for its commit, or `None` if it was stale.

        The commit claims the lease that the run holds, or takes it as `acquires` says. `more` are further operations.
        """
        return active.walker.decide(trigger, (None, None, acquires, more))

    def cancel(self, active: ActiveRun) -> Step | None:
        """Cancel a run; return the step, or `None` if the run has ended. An error of the store stops the run."""
        try:
            return self.decide(active, CancelRequested(self.clock.now_ms()))
        except Exception as error:  # noqa: BLE001 - the run would keep its lease and never end
            self.abandon(active, error)
            return None

    async def begin(self, active: ActiveRun) -> None:
        """Begin the work of a loaded run: overdue timers first, so that a deadline fires before a node begins."""
        try:
            before = active.snapshot.seq
            found = active.walker.fire_overdue()
        except Exception as error:  # noqa: BLE001 - a defect of the engine stops the run, with this error
            self.abandon(active, error)
            return
        if active.snapshot.seq != before:
            await self.committer.drain()
        active.walker.begin(found)

    async def wait_for(self, step: Step) -> None:
        """Return once the step's work may begin: after its commit, or at once where work goes on ahead."""
        if not step.is_released:
            settled = step.begin_wait()
            if settled is not None:
                await settled
        elif self.committer.is_behind:
            await self.committer.drain()

    async def commit(self, active: ActiveRun, ops: list[Op]) -> None:
        """Commit operations that are not a step of the run. If they are rejected, the run stops with the error."""

        def on_rejected(error: Exception) -> None:
            if active.lease.owner:  # else a step before has ended the run and given the lease back
                self.on_rejected(active, error)

        self.committer.put(Commit(ops, is_valid=lambda: active.error is None, on_rejected=on_rejected))
        await self.committer.drain()

    # Attempts.

    def spawn(self, active: ActiveRun, token: str) -> None:
        """Begin a task that makes the attempt at a token and goes on from there."""
        task = active.tasks[token] = NodeTask(self.in_flight)
        work = self._drive(active, token, task)
        task.task = asyncio.get_running_loop().create_task(work, context=active.context.copy())

    async def _drive(self, active: ActiveRun, first: str, task: NodeTask) -> None:
        """Make attempt after attempt, as long as each step begins a node."""
        name: str | None = first
        make_sure = partial(self._make_sure, active)
        task.is_started = True
        try:
            while name is not None:
                if active.term is None or active.term != self.owner.term:
                    await make_sure()
                token = active.snapshot.tokens.get(name)
                if token is None:  # a step that was decided meanwhile has dropped it
                    return
                if token.interruptions and needs_trial(active.plan.shape, active.snapshot, token):
                    result = await self._attempt_on_trial(active, token, make_sure)
                elif self._places is None:
                    result = await self._attempt(active, token, make_sure)
                else:
                    task.is_queued = True
                    async with self._places:
                        task.is_queued = False
                        await make_sure()  # it may have waited long
                        result = await self._attempt(active, token, make_sure)
                task.leave()
                step = active.walker.decide(result.trigger, (result, task, None, ()))
                if step is None or not step.begins_node:
                    return
                if not step.is_committed:
                    await self.wait_for(step)
                if time.perf_counter() - self._turn > _TURN_S:  # let the loop turn under nodes that never wait
                    await asyncio.sleep(0)
                    self._turn = time.perf_counter()
                name = step.next_token if active.error is None else None
        except Exception as error:  # noqa: BLE001 - a defect of the engine stops the run, with this error
            self.abandon(active, error)
        except asyncio.CancelledError:
            if task in active.tasks.values():  # the engine has not cancelled it
                self.abandon(active, RunError(active.run_id, "the task of one of its nodes was cancelled: resume it"))
            raise
        except (GeneratorExit, KeyboardInterrupt, SystemExit) as error:  # the process, or the loop, is ending
            active.finish(RunError(active.run_id, f"it was stopped by {type(error).__name__}: resume it to go on"))
            task.task.add_done_callback(_retrieve)
            raise
        finally:
            task.leave()

    async def _attempt(self, active: ActiveRun, token: Token, make_sure: _MakeSure) -> AttemptResult:
        if active.watchers:
            active.show_live(token, "node_started")
        # `show_text` also without a watcher: one may come while the attempt goes on.
        attempt = Attempt(
            active.plan, active.snapshot, token, active.values, self.resources, active.show_text, make_sure
        )
        result = await run_attempt(attempt)
        if attempt.texts and type(result.trigger) is NodeFailed and active.watchers:
            active.show_live(token, "retracted")
        return result

    async def _attempt_on_trial(self, active: ActiveRun, token: Token, make_sure: _MakeSure) -> AttemptResult:
        """Make an attempt of a node that was interrupted often, apart from others like it.

        Its trial begins when it has its place: while it waits for one, it cannot be to blame for a death.
        """
        async with self._trials.apart(), self._places or nullcontext():
            await make_sure()  # it may have waited long
            self.decide(active, TrialBegun(token.name, token.attempt, self.clock.now_ms()))
            try:
                await self.committer.drain()
                if active.error is not None:
                    raise active.error
                await make_sure()  # the commit may have taken long
                return await self._attempt(active, token, make_sure)
            except asyncio.CancelledError:
                if active.state == HALTED and active.error is None:
                    self.decide(active, TrialBrokenOff(token.name, token.attempt, self.clock.now_ms()))
                raise

    async def _make_sure(self, active: ActiveRun) -> None:
        """Return at once if the lease is surely this run's; after a pause of the process, look. Raises `LeaseLost`.

        Every commit checks the lease, but a node begins ahead of its commit, or a moment after the one before. So an
        owner that was frozen, and taken for dead, looks before it begins a node that another owner may have finished.
        """
        while active.term is None or active.term != self.owner.term:
            async with self._renewal:
                if self.owner.term is None:  # or another owner could take the run as soon as it is seen to be ours
                    try:
                        await asyncio.to_thread(self.owner.renew)
                    except StoreError as error:
                        self.abandon(active, error)
                        raise
            term = self.owner.term
            await self.commit(active, [active.claim])
            if active.error is not None:
                raise active.error
            active.term = term  # as it was before the commit: after a pause during that, look again

    async def wait_renewed(self) -> bool:
        """Wait for the renewal of the owner's record if one is under way; return whether there was one."""
        if not self._renewal.locked():
            return False
        async with self._renewal:
            return True

    # Stopping.

    def on_rejected(self, active: ActiveRun, error: Exception) -> None:
        """End a run after one of its commits was rejected. After a conflict, the lease is another owner's to keep."""
        if isinstance(error, Conflict):
            message = "another owner has taken the run over; later steps of this owner were not written"
            lost = LeaseLost(active.run_id, message)
            lost.__cause__ = error
            active.finish(lost)
        else:
            self.abandon(active, error)

    def abandon(self, active: ActiveRun, error: Exception) -> None:
        """End a run here at once, raise `error` in its waiters, and queue the commit that gives its lease back.

        The run stays unfinished in the store and can be resumed.
        """
        active.finish(error)
        self._give_lease_back(active)

    def halt_and_cancel(self, active: ActiveRun) -> list[asyncio.Task[None]]:
        """Halt a run and stop its tasks and timers; return the tasks that are ending. Lease and watchers are kept."""
        active.halt()
        tasks = [task.task for task in active.tasks.values() if task.task is not asyncio.current_task()]
        active.stop_work()
        return tasks

    async def stop(self, active: ActiveRun) -> None:
        """End a run here in order: wait for its tasks, commit the decided steps, give the lease back, close watchers.

        Goes on if the caller is cancelled: a run that is only halted would keep its lease.
        """
        tasks = self.halt_and_cancel(active)
        await asyncio.shield(asyncio.get_running_loop().create_task(self._stop(active, tasks)))

    async def _stop(self, active: ActiveRun, tasks: list[asyncio.Task[None]]) -> None:
        if tasks:
            await asyncio.wait(tasks)
        await self.committer.drain()
        self._give_lease_back(active)
        await self.committer.drain()
        active.finish()

    def release(self, active: ActiveRun) -> None:
        """Queue the commit that gives a halted run's lease back, and release the run, as `ActiveRun.release` does.

        Call it if the commit that parks the run was rejected, which would have given the lease back.
        """
        self._give_lease_back(active)
        active.release()

    def _give_lease_back(self, active: ActiveRun) -> None:
        """Queue the commit that gives the lease back, unless a step or an earlier call has given it back."""
        if active.lease.owner:
            active.lease = Lease(b"", active.lease.epoch)
            self.committer.give(active.release_ops())


def _retrieve(task: asyncio.Task[None]) -> None:
    """Retrieve a task's exception, so that the loop does not report that it never was."""
    if not task.cancelled():
        task.exception()
