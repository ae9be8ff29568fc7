"""The host: the parts of one engine, put together, and the verbs that its handles use."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

from beluga_graph.clock import Clock, SteppedClock, check_clock
from beluga_graph.engine.admission import Admission
from beluga_graph.engine.approvals import give_answer
from beluga_graph.engine.cancel import Canceller
from beluga_graph.engine.followers import Followers
from beluga_graph.engine.following import FollowedRuns
from beluga_graph.engine.fork import prepare_fork
from beluga_graph.engine.moving import Mover
from beluga_graph.engine.parking import Parking
from beluga_graph.engine.recovery import Recovery, recover
from beluga_graph.engine.registry import RunRegistry
from beluga_graph.engine.requests import StartRequest
from beluga_graph.engine.retention import Retention
from beluga_graph.engine.run import Run, replay_then_follow
from beluga_graph.engine.schedule_firing import ScheduleFiring
from beluga_graph.engine.schedules import Schedules
from beluga_graph.engine.serving import Serving
from beluga_graph.engine.settling import Settling
from beluga_graph.engine.store_poller import StorePoller
from beluga_graph.engine.wakeups import WakeupReader
from beluga_graph.engine.waking import Waker
from beluga_graph.errors import GraphChanged
from beluga_graph.events import Event
from beluga_graph.execution.approval import Answer
from beluga_graph.execution.attempt import ExecutionResources
from beluga_graph.execution.handed_over import HandedOver, HandOverCheck
from beluga_graph.execution.messages import Bus
from beluga_graph.execution.run_ids import check_run_id
from beluga_graph.execution.signal_checks import check_signal_name
from beluga_graph.execution.thread_pool import DaemonPool
from beluga_graph.inspection.flow_registry import FlowRegistry, compile_flow
from beluga_graph.inspection.inspector import Inspector
from beluga_graph.inspection.reading import info_of
from beluga_graph.inspection.views import RunInfo, RunStatus
from beluga_graph.kernel.triggers import RunForked
from beluga_graph.plan.plan import Compilable, Plan
from beluga_graph.policy import Limits, require_at_least_one
from beluga_graph.runtime.active_run import ActiveRun
from beluga_graph.runtime.scheduler import Scheduler
from beluga_graph.runtime.watcher import Watcher
from beluga_graph.storage.leases import Owner
from beluga_graph.storage.loading import RunReader
from beluga_graph.storage.pruning import finish_deletion, prune
from beluga_graph.storage.records import RunRecord
from stores import LMDBStore, MemoryStore
from stores.base import Durability, Store

if TYPE_CHECKING:
    from beluga_graph.draw.render import Theme
    from beluga_graph.inspection.why import Why

__all__ = ["EngineHost"]


class EngineHost:
    """Builds the parts of one engine and closes them.

    It implements `RunBackend` for the engine's handles.
    """

    def __init__(
        self,
        store: Store | str | os.PathLike[str] | None,
        *,
        durability: Durability,
        bus: Bus | None,
        clock: Clock | None,
        deps: Any,
        max_concurrency: int | None,
    ) -> None:
        if durability not in get_args(Durability):
            msg = f"durability {durability!r}: give one of {', '.join(get_args(Durability))}"
            raise ValueError(msg)
        require_at_least_one("max_concurrency", max_concurrency)
        self._owns_store = store is None or isinstance(store, str | os.PathLike)
        self.store = _open_store(store, durability)
        self.flows = FlowRegistry(self.store)
        self.inspector = Inspector(self.store, self.flows)
        self._pool = DaemonPool()
        self.owner = Owner(self.store)
        resources = ExecutionResources(check_clock(clock), self._pool, deps)
        self.scheduler = Scheduler(self.store, self.owner, durability, resources, max_concurrency)
        self.scheduler.outbox.serve(bus, self.owner)
        self.runs = RunRegistry(self.store)
        self.poller = StorePoller()
        self.admission = Admission(self.runs, self.scheduler, self.poller, self.flows.plan_for)
        self.waker = Waker(
            self.runs, self.scheduler, self.poller, self.flows.find, partial(self.admission.resume, revive=False)
        )
        self.parking = Parking(self.runs, self.scheduler, self.waker, self.poller)
        self.wakeups = WakeupReader(self.runs, self.scheduler, self.waker, self.poller)
        self.followed = FollowedRuns(self.runs, self.poller, self.flows.plan_or_shape)
        self.firing = ScheduleFiring(
            self.runs, self.scheduler, self.waker, self.poller, self.admission, self.flows.find
        )
        self.schedules = Schedules(self.scheduler, self.firing.look_soon)
        self.serving = Serving(self.runs, self.scheduler, self.waker, self.poller, self.firing)
        self.mover = Mover(self.runs, self.scheduler, self.waker)
        self.canceller = Canceller(
            self.runs, self.scheduler, self.poller, self.flows.plan_or_shape, self.admission.acquire_to_end
        )
        self.retention = Retention(self.runs, self.scheduler) if store is None else None
        self._is_closed = False
        self._detach: Callable[[], None] | None = None
        if isinstance(resources.clock, SteppedClock):
            self._detach = resources.clock.attach(Settling(self.scheduler, self.waker, self.firing, self._pool).settle)

    async def close(self) -> None:
        """Stop all tasks, commit the decided steps, and give every lease back. The runs stay in the store."""
        self.runs.closed = True
        self.poller.close()
        await self.firing.close()
        await self.waker.close()
        self.followed.close()
        actives = list(self.runs.actives.values())
        for active in actives:
            self.scheduler.halt_and_cancel(active)
        for active in actives:
            await self.scheduler.stop(active)
        if self._is_closed:
            return
        await self.runs.drain()
        await self.scheduler.committer.drain()
        await self.scheduler.outbox.close()
        if self.retention is not None:
            await self.retention.close()
        self._is_closed = True
        if self._detach is not None:
            self._detach()
        self.scheduler.committer.close()
        self._pool.close()
        self.owner.end()
        if self._owns_store:
            self.store.close()

    def ensure_open(self) -> None:
        """Raise `RunError` if the engine is closed. The first call begins to publish messages left in the store."""
        self.runs.check_open()
        self.scheduler.outbox.begin()

    def register(self, flow: Compilable) -> Plan:
        """Remember the plan of a flow, and its classes for the bus. Raises `GraphError`."""
        return self._remember(compile_flow(flow))

    async def start(
        self,
        flow: Compilable,
        value: Any,
        *,
        run_id: str | None,
        context: Any,
        session: str | None,
        limits: Limits | None,
        wait: bool,
        watcher: Watcher | None = None,
    ) -> tuple[ActiveRun, bool]:
        """Start a run or continue the one with this id. Return it, and whether this call began to drive it."""
        self.ensure_open()
        plan = compile_flow(flow)
        known = self.flows.find(plan.name)
        self._remember(plan)
        run_id = secrets.token_hex(16) if run_id is None else check_run_id(run_id)
        await finish_deletion(self.scheduler.committer, run_id)
        try:
            request = StartRequest(plan, value, context, limits, session)
            return await self.admission.start(run_id, request, wait=wait, watcher=watcher)
        except GraphChanged:  # the run goes on with the graph that is known
            if known is not None:
                self.flows.restore(known)
            raise

    async def stream(
        self,
        flow: Compilable,
        value: Any,
        *,
        run_id: str | None,
        context: Any,
        session: str | None,
        limits: Limits | None,
        wait: bool,
    ) -> AsyncGenerator[Event, None]:
        """Start a run and yield its events; see `Engine.stream`."""
        watcher = Watcher()
        began = False
        try:
            active, began = await self.start(
                flow, value, run_id=run_id, context=context, session=session, limits=limits, wait=wait, watcher=watcher
            )
            run = self.handle(active)
            async for event in replay_then_follow(active.plan, active.log.reader, watcher, 0):
                yield event
            await run.result()
        finally:
            if watcher.run_id is not None:
                await self.leave_stream(watcher.run_id, watcher, stop=began or watcher.began)

    async def resume(self, run_id: str, *, wait: bool, limits: Limits | None, rename: Mapping[str, str]) -> Run:
        """Continue a run of a registered flow; see `Engine.resume`."""
        self.ensure_open()
        plan = self._registered_plan(run_id)
        overrides = limits.overrides() if limits is not None else None
        renames = tuple(rename.items())
        return self.handle(await self.admission.resume(run_id, plan, wait=wait, limits=overrides, renames=renames))

    async def fork(
        self, run_id: str, seq: int, new_id: str | None, update: Mapping[str, Any], replace: Mapping[str, Any]
    ) -> Run:
        """Start a new run from the state of another one; see `Engine.fork`."""
        self.ensure_open()
        plan = self._registered_plan(run_id)
        new_id = check_run_id(new_id) if new_id is not None else secrets.token_hex(16)
        await finish_deletion(self.scheduler.committer, new_id)
        snapshot, log, ops = prepare_fork(self.store, plan, run_id, seq, new_id, update=update, replace=replace)
        trigger = RunForked(self.scheduler.clock.now_ms(), run_id, seq)
        return self.handle(await self.admission.fork(plan, (snapshot, log, ops, trigger)))

    async def hand_over(self, run_id: str, to: str, check: HandOverCheck | None) -> HandedOver:
        """Mark a run as moved, and return all that it needs to go on; see `Engine.hand_over`."""
        self.ensure_open()
        return await self.mover.hand_over(check_run_id(run_id), to, check)

    async def recover(self, max_runs: int | None) -> Recovery:
        """Continue every unfinished run that has no live owner; see `Engine.recover`."""
        self.ensure_open()
        self.waker.max_runs = require_at_least_one("max_runs", max_runs)
        return await recover(
            self.store, self.waker, self.flows.plan_of, lambda run_id: Run(self, self.runs.followers(run_id))
        )

    async def serve(self, max_runs: int | None, grace_s: float) -> None:
        """Drive every run that needs work until the process is asked to stop; see `Engine.serve`."""
        self.ensure_open()
        self.waker.max_runs = require_at_least_one("max_runs", max_runs)
        await self.serving.serve(grace_s)

    async def prune(self, older_than_s: float, status: Collection[str], *, dry_run: bool) -> tuple[RunInfo, ...]:
        """Delete the records of runs that have ended; see `Engine.prune`."""
        self.ensure_open()
        now_ms = self.scheduler.clock.now_ms()
        found = prune(self.scheduler.committer, self.owner, older_than_s, status, now_ms=now_ms, dry_run=dry_run)
        return tuple([info_of(record) async for record in found])

    def handle(self, active: ActiveRun) -> Run:
        """Return a handle on a run that this engine drives or has driven."""
        return Run(self, self.runs.followers(active.run_id, active))

    async def leave_stream(self, run_id: str, watcher: Watcher, *, stop: bool) -> None:
        """Detach the watcher of a stream that was closed. With `stop`, release the run, too."""
        self.runs.followers(run_id).detach(watcher)
        if stop:
            self.waker.unwatch_run(run_id)
            await self.waker.wait_woken()  # the run may be being woken
        active = self.runs.current(run_id)
        if active is not None:
            active.detach(watcher)
            if stop:
                await self.scheduler.stop(active)
                self.waker.unwatch_run(run_id)  # it may have been parked meanwhile

    async def answer(self, run_id: str, question_id: str, decision: str, value: Any, reason: str) -> None:
        """Answer a pending question; see `Engine.answer`."""
        self.ensure_open()
        head, plan, known = self._recipient(run_id)
        answer = Answer(decision, value, reason)
        signal = await give_answer(self.scheduler, head, plan, question_id, answer, known=known)
        self.wakeups.on_signal(run_id, signal)

    async def why(self, run_id: str) -> Why:
        """Return why a run does not go on; see `Engine.why`."""
        from beluga_graph.engine.driving import find_driving  # noqa: PLC0415 - loaded when it is needed
        from beluga_graph.inspection.commands import commands_for  # noqa: PLC0415 - loaded when it is needed

        head = self.runs.head(check_run_id(run_id))
        driving = find_driving(head, self.runs, self.waker, self.owner, self.flows.describe_missing(head.flow))
        now_ms = self.scheduler.clock.now_ms()
        return await self.inspector.why(run_id, driving, commands_for(self.store), now_ms=now_ms)

    # Used by handles.

    async def status(self, run_id: str) -> RunStatus:
        """Return the stored status of a run."""
        return await self.inspector.status(run_id)

    async def signal(self, run_id: str, name: str, payload: Any = None) -> None:
        """Send a signal to a run; see `Engine.signal`."""
        self.ensure_open()
        check_signal_name(run_id, name)
        head, plan, known = self._recipient(run_id)
        await self.scheduler.inbox.send(head, plan, name, payload, known=known)
        self.wakeups.on_signal(run_id, name)

    async def cancel(self, run_id: str) -> RunStatus:
        """End a run for good; see `Engine.cancel`."""
        self.ensure_open()
        return RunStatus(await self.canceller.cancel(check_run_id(run_id)))

    async def draw(self, run_id: str, *, depth: int | None = None, theme: Theme = "auto") -> str:
        """Draw a run as an SVG document."""
        return await self.inspector.draw(run_id, depth=depth, theme=theme)

    async def wait_ended(self, followers: Followers) -> ActiveRun:
        """Wait until a run has ended, here or elsewhere; return its final state."""
        return await self.followed.wait_ended(followers)

    def watch(self, followers: Followers, watcher: Watcher) -> tuple[Plan, RunReader]:
        """Show a watcher each step that is committed from now on. Return the plan and history of the earlier steps."""
        return self.followed.watch(followers, watcher)

    def _remember(self, plan: Plan) -> Plan:
        self.flows.remember(plan)
        self.scheduler.outbox.learn(plan)
        self.firing.on_registered(plan.name)
        return plan

    def _registered_plan(self, run_id: str) -> Plan:
        return self.flows.plan_of(self.runs.head(check_run_id(run_id)))

    def _recipient(self, run_id: str) -> tuple[RunRecord, Plan, bool]:
        """Return a run that something is sent to, its plan, and whether the plan has the user's code."""
        head = self.runs.head(check_run_id(run_id))
        return head, self.flows.plan_or_shape(head), self.flows.find(head.flow) is not None


def _open_store(store: Store | str | os.PathLike[str] | None, durability: Durability) -> Store:
    if store is None:
        return MemoryStore()
    return LMDBStore(store, durability=durability) if isinstance(store, str | os.PathLike) else store
