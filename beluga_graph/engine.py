"""`Engine`: what a user holds. Starts, continues, watches and inspects runs in one store."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Self, get_args

from beluga_graph.admission import Admission, Wanted
from beluga_graph.adoption import JudgedChange, broken_by, difference_for
from beluga_graph.attempt import Hands
from beluga_graph.clock import Clock, SystemClock
from beluga_graph.disk import Head, check_run_id
from beluga_graph.errors import RunError
from beluga_graph.events import Event
from beluga_graph.fork import forked
from beluga_graph.inspection import run_infos, snapshot_of, steps_of, stored_plan
from beluga_graph.kernel.triggers import CancelRequested, RunForked
from beluga_graph.lease import Owner
from beluga_graph.live import Live, Watch
from beluga_graph.plan import Compilable, Plan
from beluga_graph.policy import Limits
from beluga_graph.post import send
from beluga_graph.recovery import Recovery, recovered
from beluga_graph.run import Run, RunInfo, RunSnapshot, RunStatus, StepInfo, replay_then_follow
from beluga_graph.scheduler import Scheduler
from beluga_graph.threads import DaemonPool
from stores import LMDBStore, MemoryStore
from stores.base import Durability, Store

__all__ = ["Engine", "Recovery", "run_sync"]


class Engine:
    """Drives runs in one store.

    `store` is `None` for memory, a path for an LMDB store there, or a `Store`. `durability` says when a step
    counts as done:

    | durability | what a step entails begins    | lost by a crash of the process       | lost by a power loss         |
    |------------|-------------------------------|--------------------------------------|------------------------------|
    | `commit`   | after its synced commit       | nothing                              | nothing                      |
    | `batch`    | at once, ahead of the commit  | at most 50 ms; its nodes run again   | the same                     |
    | `none`     | after its commit, not synced  | nothing                              | maybe the file: verify tells |

    In every mode, `start`, `signal`, `cancel` and the end of a run wait for their commit.

    `deps` are live resources that nodes see as `ctx.deps`; they are never stored. `max_concurrency` bounds the
    attempts under way at a time. Use it as `async with Engine(…) as engine`; leaving stops what it drives,
    without ending the runs: they go on where they were, under any engine on the same store.
    """

    def __init__(
        self,
        store: Store | str | os.PathLike[str] | None = None,
        *,
        durability: Durability = "commit",
        clock: Clock | None = None,
        deps: Any = None,
        max_concurrency: int | None = None,
    ) -> None:
        if durability not in get_args(Durability):
            msg = f"durability {durability!r}: give one of {', '.join(get_args(Durability))}"
            raise ValueError(msg)
        if max_concurrency is not None and max_concurrency < 1:
            msg = f"max_concurrency={max_concurrency}: at least 1 attempt is under way at a time"
            raise ValueError(msg)
        self._opened_here = store is None or isinstance(store, str | os.PathLike)
        if store is None:
            self.store: Store = MemoryStore()
        elif isinstance(store, str | os.PathLike):
            self.store = LMDBStore(store, durability=durability)
        else:
            self.store = store
        self._pool = DaemonPool()
        self._scheduler = Scheduler(
            self.store, durability, Hands(clock or SystemClock(), self._pool, deps), max_concurrency
        )
        self._owner = Owner(self.store)
        self._runs = Admission(self.store, self._scheduler, self._owner)
        self._plans: dict[str, Plan] = {}
        self._is_closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop driving: end tasks, commit what is decided, give every lease back. The runs stay on disk."""
        self._runs.closed = True
        lives = list(self._runs.lives.values())
        for live in lives:
            self._scheduler.halt(live)
        for live in lives:
            await self._scheduler.rest(live)
        if self._is_closed:
            return
        await self._runs.turned_away()
        await self._scheduler.committer.drained()
        self._is_closed = True
        self._scheduler.close()
        self._pool.close()
        self._owner.end()
        if self._opened_here:
            self.store.close()

    # Running.

    def register(self, flow: Compilable) -> Plan:
        """Make a flow known, so that its runs can be resumed by their id. Raises `GraphError`."""
        if not hasattr(flow, "plan"):
            msg = f"{flow!r:.100} is no flow: build a Graph, or wrap the function in one"
            raise TypeError(msg)
        plan = flow.plan()
        self._plans[plan.name] = plan
        return plan

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

        `context` is plain data that every node sees as `ctx.context`, and is stored. `session` names a
        conversation that an agent goes on with, also in another process; one run at a time has it. `wait` waits
        for a run that another owner drives instead of raising `RunBusy`. Raises `GraphError`, `NotData`, `BadRunId`,
        `RunConflict`, `GraphChanged`, `StoreError`.
        """
        live, _ = await self._start(flow, value, run_id, context, session, limits, wait=wait)
        return Run(self, live)

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
        watch = Watch()
        live: Live | None = None
        began = False
        try:
            live, began = await self._start(flow, value, run_id, context, session, limits, wait=wait, watch=watch)
            async for event in replay_then_follow(live, watch, 0):
                yield event
            await Run(self, live).result()
        finally:
            live = live or watch.live
            if live is not None:
                live.detach(watch)
                if (began or watch.began) and not live.done.done():
                    await self._scheduler.rest(live)

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
        plan = self._plan_of(self._runs.head(check_run_id(run_id)))
        asked = limits.overrides() if limits is not None else None
        renames = tuple((rename or {}).items())
        return Run(self, await self._runs.resume(run_id, plan, wait=wait, limits=asked, renames=renames))

    async def recover(self) -> Recovery:
        """Go on with every unfinished run that nobody owns; tells what it could not take up, and why."""
        self._check_open()
        return await recovered(self._runs, self._plan_of, lambda live: Run(self, live))

    async def signal(self, run_id: str, name: str, payload: Any = None) -> None:
        """Send a signal to a run; on disk when this returns, and delivered once, also if nothing runs now.

        Where the flow is registered here and its wait names a type, a payload that does not fit is refused at
        once, and classes that the flow names may be sent. Raises `RunNotFound`; `RunConflict` for a run that has
        ended; `BadSignal`; `NotData`.
        """
        self._check_open()
        head = self._runs.head(check_run_id(run_id))
        known = head.flow in self._plans
        await send(self._scheduler, head, self._plan_or_shape(head), name, payload, known=known)
        live = self._runs.current(run_id)
        if live is not None:
            self._scheduler.inbox.look_for(live, name)

    async def cancel(self, run_id: str) -> RunStatus:
        """End a run for good; return the status that won, which a finished run keeps. Raises `RunBusy`."""
        self._check_open()
        head = self._runs.head(check_run_id(run_id))
        if RunStatus(head.status) in (RunStatus.completed, RunStatus.cancelled):
            return RunStatus(head.status)
        live = await self._runs.hold(run_id, self._plan_or_shape(head))
        step = self._scheduler.decide(live, CancelRequested(self._scheduler.clock.now_ms()))
        if step is not None:
            await self._scheduler.settled(step)
        if live.error is not None:
            raise live.error
        return await self.status(run_id)

    # Looking.

    async def status(self, run_id: str) -> RunStatus:
        """Return the status of a run that is on disk. Raises `RunNotFound`."""
        return RunStatus(self._runs.head(check_run_id(run_id)).status)

    async def runs(self) -> list[RunInfo]:
        """Return all runs of the store, in no particular order but always the same."""
        return run_infos(self.store)

    async def history(self, run_id: str) -> list[StepInfo]:
        """Return the committed steps of a run, in order. Raises `RunNotFound`, `DamagedRecord`."""
        head = self._runs.head(check_run_id(run_id))
        return steps_of(self.store, head, self._plan_or_shape(head))

    async def snapshot(self, run_id: str, seq: int | None = None) -> RunSnapshot:
        """Return a run as of step `seq`, the last by default. Raises `RunNotFound`, `DamagedRecord`."""
        head = self._runs.head(check_run_id(run_id))
        return snapshot_of(self.store, head, self._plan_or_shape(head), seq)

    async def difference(
        self, run_id: str, flow: Compilable | None = None, *, rename: Mapping[str, str] | None = None
    ) -> tuple[JudgedChange, ...]:
        """Return what is otherwise in a flow than in the graph that a run stands in, and what that means for the run.

        The flow is the one that is registered, by default. A run goes on with a flow in which every change is
        `safe` for it. Raises `RunNotFound`, `RunConflict` for another flow, `BadRename`.
        """
        head = self._runs.head(check_run_id(run_id))
        plan = flow.plan() if flow is not None else self._plan_of(head)
        return difference_for(self.store, head, plan, tuple((rename or {}).items()))

    async def check(self, flow: Compilable) -> dict[str, tuple[JudgedChange, ...]]:
        """Return for each unfinished run of a flow, failed ones too, what of the flow now it could not go on with.

        To be asked before a flow is put to use: a run without any such change goes on. Raises `DamagedRecord`.
        """
        return broken_by(self.store, flow.plan())

    async def fork(
        self, run_id: str, seq: int, *, run_id_new: str | None = None, update: dict[str, Any] | None = None
    ) -> Run:
        """Start a new run from where another one was after step `seq`; `update` goes to the graph's state.

        Unread signals are copied; timers that are overdue fire. The new run has keys of its own: what its
        nodes do outside happens again. Raises `RunNotFound`, `RunConflict`, `GraphChanged`, `StateError`.
        """
        self._check_open()
        plan = self._plan_of(self._runs.head(check_run_id(run_id)))
        new_id = check_run_id(run_id_new) if run_id_new is not None else secrets.token_hex(16)
        snapshot, history, ops = forked(self.store, plan, run_id, seq, new_id, update or {})
        trigger = RunForked(self._scheduler.clock.now_ms(), run_id, seq)
        return Run(self, await self._runs.fork(plan, (snapshot, history, ops, trigger)))

    def latest(self, known: Live) -> Live:
        """Return what is now known of a run that a handle has known: it may have gone on elsewhere since."""
        return self._runs.latest(known)

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
        watch: Watch | None = None,
    ) -> tuple[Live, bool]:
        self._check_open()
        plan = self.register(flow)
        name = secrets.token_hex(16) if run_id is None else check_run_id(run_id)
        return await self._runs.start(name, Wanted(plan, value, context, limits, session), wait=wait, watch=watch)

    def _check_open(self) -> None:
        self._runs.check_open()

    def _plan_or_shape(self, head: Head) -> Plan:
        """Return the flow's plan if it is known, else its stored shape without any code."""
        return self._plans.get(head.flow) or stored_plan(self.store, head)

    def _plan_of(self, head: Head) -> Plan:
        plan = self._plans.get(head.flow)
        if plan is None:
            known = ", ".join(sorted(self._plans)) or "none"
            message = f"its flow {head.flow!r} is not known here (known: {known}): call engine.register(flow) first"
            raise RunError(head.run_id, message)
        return plan


def run_sync(flow: Compilable, value: Any = None, **options: Any) -> Any:
    """Run a flow from plain code, on an engine in memory, and return its output; `options` as in `execute`.

    Raises `RuntimeError` in a running event loop (a notebook, a server), where `await flow.invoke(value)` does it.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        msg = "run_sync needs a thread without a running event loop: here, write `await flow.invoke(value)`"
        raise RuntimeError(msg)

    async def run() -> Any:
        async with Engine() as engine:
            return await engine.execute(flow, value, **options)

    return asyncio.run(run())
