"""`Engine`: what a user holds. Starts, continues, watches and inspects runs in one store."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncGenerator, Collection, Mapping
from typing import Any, Self, get_args

from beluga_graph.clock import Clock, check_clock
from beluga_graph.engine.admission import Admission
from beluga_graph.engine.approvals import give_answer
from beluga_graph.engine.cancel import cancelled, send
from beluga_graph.engine.followers import Followers
from beluga_graph.engine.fork import prepare_fork
from beluga_graph.engine.parking import Parking
from beluga_graph.engine.recovery import Recovery, recovered
from beluga_graph.engine.requests import StartRequest, check_signal
from beluga_graph.engine.retention import Forgetting
from beluga_graph.engine.run import Run, replay_then_follow
from beluga_graph.engine.serving import served
from beluga_graph.errors import GraphChanged
from beluga_graph.events import Event
from beluga_graph.execution.approval import Answer
from beluga_graph.execution.attempt import ExecutionResources
from beluga_graph.execution.thread_pool import DaemonPool
from beluga_graph.inspection.flow_registry import FlowRegistry
from beluga_graph.inspection.inspector import Inspector
from beluga_graph.inspection.views import RunInfo, RunStatus
from beluga_graph.kernel.triggers import RunForked
from beluga_graph.plan import Compilable, Plan
from beluga_graph.plan.declared import MISSING
from beluga_graph.policy import Limits, require_at_least_one
from beluga_graph.runtime.active_run import ActiveRun
from beluga_graph.runtime.outbox_relay import Bus
from beluga_graph.runtime.scheduler import Scheduler
from beluga_graph.runtime.watcher import Watcher
from beluga_graph.storage.keys import check_run_id
from beluga_graph.storage.leases import Owner
from beluga_graph.storage.pruning import cleared, pruned
from beluga_graph.storage.run_log import History
from stores import LMDBStore, MemoryStore
from stores.base import Durability, Store

__all__ = ["Engine", "Recovery"]


class Engine(Inspector):
    """Drives runs in one store, and tells what can be asked of them.

    `store` is `None` for memory, a path for an LMDB store there, or a `Store`. `durability` says when a step
    counts as done:

    | durability | what a step entails begins    | lost by a crash of the process       | lost by a power loss         |
    |------------|-------------------------------|--------------------------------------|------------------------------|
    | `commit`   | after its synced commit       | nothing                              | nothing                      |
    | `batch`    | at once, ahead of the commit  | at most 50 ms; its nodes run again   | the same                     |
    | `none`     | after its commit, not synced  | nothing                              | maybe the file: verify tells |

    In every mode, `start`, `signal`, `cancel` and the end of a run wait for their commit.

    Without a store, the engine keeps the 1,000 runs that ended last and those of which a `Run` is in use; it forgets
    the others, failed ones too. Give it a `MemoryStore()` to keep them all.

    `deps` are live resources that nodes see as `ctx.deps`; they are never stored. `max_concurrency` bounds the
    attempts under way at a time. `bus` (an `EventBus`) is given what nodes publish by `ctx.publish`, and
    `run.started`, `run.waiting`, `run.completed`, `run.failed` and `run.cancelled`, once each if it is durable;
    without a bus, what nodes publish is kept in the store for an engine that has one.

    Use it as `async with Engine(…) as engine`; leaving stops what it drives, without ending the runs: they go on
    where they were, under any engine on the same store.
    """

    def __init__(
        self,
        store: Store | str | os.PathLike[str] | None = None,
        *,
        durability: Durability = "commit",
        bus: Bus | None = None,
        clock: Clock | None = None,
        deps: Any = None,
        max_concurrency: int | None = None,
    ) -> None:
        if durability not in get_args(Durability):
            msg = f"durability {durability!r}: give one of {', '.join(get_args(Durability))}"
            raise ValueError(msg)
        require_at_least_one("max_concurrency", max_concurrency)
        is_kept_here = store is None
        self._opened_here = store is None or isinstance(store, str | os.PathLike)
        if store is None:
            store = MemoryStore()
        elif isinstance(store, str | os.PathLike):
            store = LMDBStore(store, durability=durability)
        super().__init__(store, FlowRegistry(store))
        self._pool = DaemonPool()
        self._owner = Owner(self.store)
        hands = ExecutionResources(check_clock(clock), self._pool, deps)
        self._scheduler = Scheduler(self.store, self._owner, durability, hands, max_concurrency)
        self._scheduler.outbox.serve(bus, self._owner)
        self._runs = Admission(self.store, self._scheduler, self._owner)
        self._parking = Parking(self._runs, lambda head: self._flows.find(head.flow))
        self._forgetting = Forgetting(self._runs) if is_kept_here else None
        self._is_closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop driving: end tasks, commit what is decided, give every lease back. The runs stay on disk."""
        self._runs.closed = True
        await self._parking.close()
        for live in (lives := list(self._runs.lives.values())):
            self._scheduler.halt(live)
        for live in lives:
            await self._scheduler.rest(live)
        if self._is_closed:
            return
        await self._runs.turned_away()
        await self._scheduler.committer.drained()
        await self._scheduler.outbox.close()
        if self._forgetting is not None:
            await self._forgetting.close()
        self._is_closed = True
        self._scheduler.committer.close()
        self._pool.close()
        self._owner.end()
        if self._opened_here:
            self.store.close()

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called: then no run is begun any more."""
        return self._runs.closed

    def register(self, flow: Compilable) -> Plan:
        """Make a flow known, so that its runs can be resumed by their id. Raises `GraphError`.

        A later flow of the same name replaces the earlier one. The log warns if their graphs differ.
        """
        plan = self._flows.register(flow)
        self._scheduler.outbox.learn(plan)
        return plan

    # Running.

    async def start(
        self,
        flow: Compilable,
        value: Any = None,
        *,
        run_id: str | None = None,
        context: Any = None,
        session: str | None = None,
        limits: Limits | None = None,
        wait: bool = False,
    ) -> Run:
        """Start a run, or go on with the one of this id; it is on disk before this returns.

        `context` is plain data that every node sees as `ctx.context`, and is stored; the flow names the classes of
        its values, as those of the input, in annotations or `types=`. `session` names a conversation that an agent
        goes on with, also in another process; one run at a time has it. `wait` waits for a run that another owner
        drives instead of raising `RunBusy`. Raises `GraphError`, `NotData`, `LimitReached`, `BadRunId`,
        `RunConflict`, `GraphChanged`, `StoreError`.
        """
        live, _ = await self._start(flow, value, run_id, context, session, limits, wait=wait)
        return self._handle(live)

    async def execute(
        self,
        flow: Compilable,
        value: Any = None,
        *,
        run_id: str | None = None,
        context: Any = None,
        session: str | None = None,
        limits: Limits | None = None,
        wait: bool = False,
    ) -> Any:
        """Start a run, wait for its end and return its output; raises as `start` and `Run.result` do.

        A known id goes on with its run; of a run that completed, the stored output is returned.
        """
        run = await self.start(flow, value, run_id=run_id, context=context, session=session, limits=limits, wait=wait)
        return await run.result()

    async def stream(
        self,
        flow: Compilable,
        value: Any = None,
        *,
        run_id: str | None = None,
        context: Any = None,
        session: str | None = None,
        limits: Limits | None = None,
        wait: bool = False,
    ) -> AsyncGenerator[Event, None]:
        """Start a run and yield its events, live ones too; of a known id, first those that are stored.

        The last event is `done`, or `error` and then the exception. Closing the stream early stops the run in
        this engine and leaves it on disk, to be resumed.
        """
        watch = Watcher()
        began = False
        try:
            live, began = await self._start(flow, value, run_id, context, session, limits, wait=wait, watch=watch)
            run = self._handle(live)
            async for event in replay_then_follow(live.plan, live.history, watch, 0):
                yield event
            await run.result()
        finally:
            if watch.live is not None:
                await self._leave(watch.live.run_id, watch, stop=began or watch.began)

    async def resume(
        self,
        run_id: str,
        *,
        wait: bool = False,
        limits: Limits | None = None,
        rename: Mapping[str, str] | None = None,
    ) -> Run:
        """Go on with a run of a flow that this engine knows; a failed node is armed again.

        `limits` widen or narrow what the run may still do. `rename` names nodes, by their paths, that are called
        otherwise in the graph now: `{"old": "new"}`. A renamed node keeps its idempotency key where the run
        stands at it, and what stands in a renamed frame goes with it.

        Raises `RunNotFound`, `RunBusy`, `GraphChanged`, `BadRename`, or `RunError` for a flow that was never
        registered.
        """
        self._check_open()
        plan = self._flows.plan_of(self._runs.head(check_run_id(run_id)))
        asked = limits.overrides() if limits is not None else None
        renames = tuple((rename or {}).items())
        return self._handle(await self._runs.resume(run_id, plan, wait=wait, limits=asked, renames=renames))

    async def recover(self, *, max_runs: int | None = None) -> Recovery:
        """Go on with every unfinished run that nobody owns; tells what it could not take up, and why.

        A parked run is not loaded: this engine wakes it when it is due or something is sent to it. `max_runs`
        bounds the runs with work under way at a time, from now on; the others wait for their turn.
        """
        self._check_open()
        self._parking.max_runs = require_at_least_one("max_runs", max_runs)
        return await recovered(
            self._runs, self._parking, self._flows.plan_of, lambda run_id: Run(self, self._runs.seat(run_id))
        )

    async def serve(self, *, max_runs: int | None = None, grace: float = 10.0) -> None:
        """Drive every run of the registered flows that needs it, whoever started it, until told to stop.

        What is due, what something was sent to, and what a dead owner left is taken up, at most `max_runs` with
        work under way at a time. SIGTERM or SIGINT (in the main thread) ends it: nothing more is begun, what is
        under way has `grace` seconds to finish, and the rest is handed back for others to go on with.
        """
        self._check_open()
        self._parking.max_runs = require_at_least_one("max_runs", max_runs)
        await served(self._scheduler, self._parking, grace)

    async def signal(self, run_id: str, name: str, payload: Any = None) -> None:
        """Send a signal to a run; on disk when this returns, and delivered once, also if nothing runs now.

        Where the flow is registered here and its wait names a type, a payload that does not fit is refused at
        once, and classes that the flow names may be sent. Raises `RunNotFound`; `RunConflict` for a run that has
        ended; `BadSignal`; `NotData`.
        """
        self._check_open()
        check_signal(run_id, name)
        head = self._runs.head(check_run_id(run_id))
        known = self._flows.find(head.flow) is not None
        await send(self._scheduler, head, self._flows.plan_or_shape(head), name, payload, known=known)
        self._parking.rung(self._runs.current(run_id), run_id, name)

    async def answer(
        self, run_id: str, question_id: str, decision: str, value: Any = MISSING, *, reason: str = ""
    ) -> None:
        """Answer a question of `pending()`: `approve`, `reject`, or `modify` with the value to go on with instead.

        On disk when this returns, and taken once, also if nothing runs now. A rejected step fails with `Rejected`; of
        a rejected tool call the model is told. Where the flow is registered here, a value that does not fit is refused
        at once; else the run puts the question anew. Raises `ValueError` for what is no answer, `BadSignal`, `NotData`,
        `RunNotFound`; `RunConflict` if the question is not pending: it may have been answered.
        """
        self._check_open()
        head = self._runs.head(check_run_id(run_id))
        given, known = Answer(decision, value, reason), self._flows.find(head.flow) is not None
        signal = await give_answer(
            self._scheduler, head, self._flows.plan_or_shape(head), question_id, given, known=known
        )
        self._parking.rung(self._runs.current(run_id), run_id, signal)

    async def cancel(self, run_id: str) -> RunStatus:
        """End a run for good; return the status that won, which a finished run keeps.

        A run that another process drives is ended by that process: the request is on disk, and this waits.
        """
        self._check_open()
        check_run_id(run_id)
        return RunStatus(await cancelled(self._runs, run_id, self._flows.plan_or_shape))

    async def fork(
        self,
        run_id: str,
        seq: int,
        *,
        run_id_new: str | None = None,
        update: Mapping[str, Any] | None = None,
        replace: Mapping[str, Any] | None = None,
    ) -> Run:
        """Start a new run from where another one was after step `seq`.

        `replace` sets fields of the graph's state to values, whatever they held: an `append` field has the given
        items and no others. `update` then goes through the fields' reducers, as `ctx.update` does.

        Unread signals are copied; timers that are overdue fire. The new run has keys of its own: what its nodes do
        outside happens again. Raises `RunNotFound`, `RunConflict`, `GraphChanged`, `StateError`.
        """
        self._check_open()
        plan = self._flows.plan_of(self._runs.head(check_run_id(run_id)))
        new_id = check_run_id(run_id_new) if run_id_new is not None else secrets.token_hex(16)
        await cleared(self._scheduler.committer, new_id)
        snapshot, history, ops = prepare_fork(
            self.store, plan, run_id, seq, new_id, update=update or {}, replace=replace or {}
        )
        trigger = RunForked(self._scheduler.clock.now_ms(), run_id, seq)
        return self._handle(await self._runs.fork(plan, (snapshot, history, ops, trigger)))

    async def prune(
        self, *, older_than: float = 0.0, status: Collection[str] = ("completed", "cancelled"), dry_run: bool = False
    ) -> tuple[RunInfo, ...]:
        """Delete all records of the runs that have had one of these statuses for `older_than` seconds; return them.

        `failed` may be named, too. Left are sessions; runs that somebody is just taking up; what is damaged, which the
        log tells; and runs of which a message is still to be published: open an engine with the bus first. A crash
        leaves nothing that the next call would not finish. `dry_run` only tells. Raises `ValueError` for a status of
        runs that go on: cancel them first.
        """
        self._check_open()
        return await pruned(self._runs, older_than, status, dry_run=dry_run)

    # What handles ask for.

    async def ended(self, seat: Followers) -> ActiveRun:
        """Wait for a run's end, here or in another process; return it as it is then."""
        return await self._parking.ended(seat, self._flows.plan_or_shape(self._runs.head(seat.run_id)))

    def watched(self, seat: Followers, watch: Watcher) -> tuple[Plan, History]:
        """Let a watch see a run from now on; return what reads the steps before."""
        return self._parking.watch(seat, watch, self._flows.plan_or_shape(self._runs.head(seat.run_id)))

    # What the verbs share.

    async def _start(
        self,
        flow: Compilable,
        value: Any,
        run_id: str | None,
        context: Any,
        session: str | None,
        limits: Limits | None,
        *,
        wait: bool,
        watch: Watcher | None = None,
    ) -> tuple[ActiveRun, bool]:
        self._check_open()
        known = self._flows.find(getattr(flow, "name", ""))
        plan = self.register(flow)
        name = secrets.token_hex(16) if run_id is None else check_run_id(run_id)
        await cleared(self._scheduler.committer, name)
        try:
            return await self._runs.start(
                name, StartRequest(plan, value, context, limits, session), wait=wait, watch=watch
            )
        except GraphChanged:  # the run goes on with the graph that is known
            if known is not None:
                self._flows.restore(known)
            raise

    def _handle(self, live: ActiveRun) -> Run:
        return Run(self, self._runs.seat(live.run_id, live))

    async def _leave(self, run_id: str, watch: Watcher, *, stop: bool) -> None:
        """End a stream: take its watch away, and stop the run if the stream began it."""
        self._runs.seat(run_id).detach(watch)
        if stop:
            self._parking.disown(run_id)
            await self._parking.woken()  # it may be just being woken
        live = self._runs.current(run_id)
        if live is not None:
            live.detach(watch)
            if stop:
                await self._scheduler.rest(live)
                self._parking.disown(run_id)  # it may have been just being parked

    def _check_open(self) -> None:
        self._runs.check_open()
        self._scheduler.outbox.begin()
