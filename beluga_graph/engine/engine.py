"""`Engine`: the object that users hold. It starts, continues, watches and inspects runs in one store."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from beluga_graph.clock import Clock
from beluga_graph.engine.host import EngineHost
from beluga_graph.engine.recovery import Recovery
from beluga_graph.engine.run import Run
from beluga_graph.engine.schedule_methods import ScheduleMethods
from beluga_graph.events import Event
from beluga_graph.execution.handed_over import HandedOver, HandOverCheck
from beluga_graph.execution.messages import Bus
from beluga_graph.inspection.approvals import Question
from beluga_graph.inspection.inspector import Inspector
from beluga_graph.inspection.views import RunInfo, RunSnapshot, RunStatus, StepInfo
from beluga_graph.plan.compatibility import JudgedChange
from beluga_graph.plan.declared import MISSING
from beluga_graph.plan.plan import Compilable, Plan
from beluga_graph.policy import Limits
from stores.base import Durability, Store

if TYPE_CHECKING:
    from beluga_graph.draw.render import Format, Theme
    from beluga_graph.inspection.comparison import RunComparison
    from beluga_graph.inspection.signal_waits import SignalWait
    from beluga_graph.inspection.why import Why
    from beluga_graph.trace.trace import Trace

__all__ = ["Engine", "Recovery"]


class Engine(ScheduleMethods):
    """Drives runs in one store, and answers questions about them.

    `store` is `None` for memory, the path of a folder for an LMDB store, or a `Store`.
    `durability` defines when a step is done:

    | durability | the next work begins          | lost by a crash of the process     | lost by a power loss           |
    |------------|-------------------------------|------------------------------------|--------------------------------|
    | `commit`   | after its synced commit       | nothing                            | nothing                        |
    | `batch`    | at once, ahead of the commit  | at most 50 ms; its nodes run again | the same                       |
    | `none`     | after its commit, not synced  | nothing                            | maybe the file; see `verify`   |

    In every mode, `start`, `signal`, `cancel` and the end of a run wait for their commit.

    Without a store, the engine keeps the 1,000 runs that ended last and all runs with a `Run` in use. It deletes the
    others, failed ones too. Pass a `MemoryStore()` to keep them all.

    `deps` are live resources that nodes see as `ctx.deps`; they are never stored. `max_concurrency` limits the
    attempts under way at a time; by default there is no limit. `clock` is the system's by default.

    `bus` (an `EventBus`) receives the events that nodes publish with `ctx.publish`, and
    `run.started`, `run.waiting`, `run.completed`, `run.failed` and `run.cancelled`, once each if the bus is durable.
    Without a bus, published events stay in the store for an engine that has one.

    Use it as `async with Engine(…) as engine`. Leaving that block stops the engine's work but does not end the runs:
    any engine on the same store can continue them.

    Example:
        async with Engine("runs.db") as engine:
            print(await engine.execute(flow, "Ada", run_id="order-7"))
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
        self._host = EngineHost(
            store, durability=durability, bus=bus, clock=clock, deps=deps, max_concurrency=max_concurrency
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop all tasks, commit the decided steps, and give every lease back. The runs stay in the store."""
        await self._host.close()

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called. A closed engine begins no run."""
        return self._host.runs.closed

    @property
    def store(self) -> Store:
        """The store that holds the runs."""
        return self._host.store

    @property
    def inspector(self) -> Inspector:
        """The read-only queries of this engine, including those that only tools need."""
        return self._host.inspector

    def register(self, flow: Compilable) -> Plan:
        """Make a flow known, so that its runs can be resumed by their id. Raises `GraphError`.

        A later flow of the same name and version replaces the earlier one. The log warns if their graphs differ.
        """
        return self._host.register(flow)

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
        """Start a run, or continue that of this id in its version of the flow. It is in the store when this returns.

        `context` is plain data that every node sees as `ctx.context`. It is stored, so the flow must name the classes
        of its values, like those of the input, in annotations or `types=`. `session` names a conversation that an
        agent continues, also in another process. One run at a time uses it: another one is refused with `RunConflict`,
        also with `wait`. Another input for a known run id raises `RunConflict`, too. With `wait`, this waits for a run
        that another owner drives instead of raising `RunBusy`. Raises `GraphError`, `NotData`, `LimitReached`,
        `BadRunId`, `RunConflict`, `GraphChanged`, `StoreError`.
        """
        active, _ = await self._host.start(
            flow, value, run_id=run_id, context=context, session=session, limits=limits, wait=wait
        )
        return self._host.handle(active)

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
        """Start a run, wait for its end and return its output. Raises as `start` and `Run.result` do.

        With a known id it continues that run; if the run has completed, it returns the stored output. Raises
        `RunConflict` if that run had another input, or if another run uses the session.
        """
        run = await self.start(flow, value, run_id=run_id, context=context, session=session, limits=limits, wait=wait)
        return await run.result()

    def stream(
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
        """Start a run and yield its events, also live ones. With a known id, yield its stored events first.

        The last event is `done`, or `error` and then the exception is raised. Closing the stream early stops the run
        in this engine; it stays in the store and can be resumed.

        Example:
            async for event in engine.stream(flow, "Ada"):
                print(event.type, event.node)
        """
        return self._host.stream(flow, value, run_id=run_id, context=context, session=session, limits=limits, wait=wait)

    async def resume(
        self,
        run_id: str,
        *,
        wait: bool = False,
        limits: Limits | None = None,
        rename: Mapping[str, str] | None = None,
    ) -> Run:
        """Continue a run of a registered flow. A failed node is tried again.

        `limits` raise or lower the limits of the rest of the run. `rename` maps the old path of a node to its new
        path in a changed graph: `{"old": "new"}`. A node that the run is at keeps its idempotency key under the new
        name, and the contents of a renamed frame move with it.

        Raises `RunNotFound`, `RunBusy`, `GraphChanged`, `BadRename`; `RunError` if its flow, or its version of it, is
        not registered.
        """
        return await self._host.resume(run_id, wait=wait, limits=limits, rename=rename or {})

    async def recover(self, *, max_runs: int | None = None) -> Recovery:
        """Continue every unfinished run that has no live owner. Runs that cannot be continued are in `skipped`.

        A parked run is not loaded: this engine wakes it when it is due or something is sent to it. `max_runs` limits
        the runs with work under way at a time from now on; other runs wait.

        Example:
            recovery = await engine.recover()
            for run_id, error in recovery.skipped.items():
                print(run_id, error)
        """
        return await self._host.recover(max_runs)

    async def serve(self, *, max_runs: int | None = None, grace: float = 10.0) -> None:
        """Drive every run of the registered flows that needs work, whichever process started it, until stopped.

        It takes runs with a due timer or a new signal, those that a dead owner left, and those of schedules, at most
        `max_runs` with work under way at a time. SIGTERM or SIGINT (in the main thread) ends it: no more work begins,
        what is under way has `grace` seconds to finish, and unfinished runs are released for other engines.
        """
        await self._host.serve(max_runs, grace)

    async def signal(self, run_id: str, name: str, payload: Any = None) -> None:
        """Send a signal to a run. It is in the store when this returns, and is delivered once, even if nothing runs.

        If the flow is registered and its wait names a type, a payload that does not fit is refused at once, and the
        payload may contain the flow's classes. Raises `RunNotFound`; `RunConflict` for a run that has ended;
        `BadSignal`; `NotData`.

        Example:
            await engine.signal("order-7", "paid", {"amount": 12})
        """
        await self._host.signal(run_id, name, payload)

    async def answer(
        self, run_id: str, question_id: str, decision: str, value: Any = MISSING, *, reason: str = ""
    ) -> None:
        """Answer a question of `pending()`: `approve`, `reject`, or `modify` with a new value.

        The answer is in the store when this returns, and is taken once, even if nothing runs. A rejected step fails
        with `Rejected`; a rejected tool call is reported to the model. If the flow is registered, a value that does
        not fit is refused at once; otherwise the run asks again. Raises `ValueError` for an invalid decision,
        `BadSignal`, `NotData`, `RunNotFound`; `RunConflict` if the question is not pending, for example because it
        was answered.

        Example:
            for question in await engine.pending():
                await engine.answer(question.run_id, question.id, "approve")
        """
        await self._host.answer(run_id, question_id, decision, value, reason)

    async def cancel(self, run_id: str) -> RunStatus:
        """End a run for good; return the status that was committed first. A finished run keeps its status.

        If another process drives the run, that process ends it: this stores the request and waits.
        """
        return await self._host.cancel(run_id)

    async def fork(
        self,
        run_id: str,
        seq: int,
        *,
        run_id_new: str | None = None,
        update: Mapping[str, Any] | None = None,
        replace: Mapping[str, Any] | None = None,
    ) -> Run:
        """Start a new run from the state of another run after step `seq`.

        `replace` sets fields of the graph's state and discards their old values: an `append` field then holds only the
        given items. After that, `update` goes through the fields' reducers, as `ctx.update` does.

        Unread signals are copied; overdue timers fire. The nodes of the new run have idempotency keys of their own, so
        their effects outside happen again. Raises `RunNotFound`, `RunConflict`, `GraphChanged`, `StateError`.

        Example:
            again = await engine.fork("order-7", 3, update={"note": "second try"})
        """
        return await self._host.fork(run_id, seq, run_id_new, update or {}, replace or {})

    async def hand_over(self, run_id: str, to: str, check: HandOverCheck | None = None) -> HandedOver:
        """Mark a run as moved to a place, such as a Temporal namespace; return the data with which it goes on.

        From then on no engine drives the run. It can still be read and forked, and pruned by its status. A second call
        for the same place returns it again. `check` is awaited with the run before that; if it raises, the run stays.
        Raises `RunNotFound`; `RunBusy` while its nodes run; `RunConflict` if it has ended, or has moved elsewhere.
        """
        return await self._host.hand_over(run_id, to, check)

    async def prune(
        self, *, older_than: float = 0.0, status: Collection[str] = ("completed", "cancelled"), dry_run: bool = False
    ) -> tuple[RunInfo, ...]:
        """Delete all records of the runs that have had one of these statuses for `older_than` seconds; return them.

        `status` may also include `failed`. It keeps sessions, runs that are just being taken over, damaged runs
        (which the log reports), and runs with a message still to be published: open an engine with the bus first.
        After a crash, the next call finishes the deletion. `dry_run` only returns the runs. Raises `ValueError` for
        the status of an unfinished run: cancel such runs first.

        Example:
            pruned = await engine.prune(older_than=7 * 86_400)
        """
        return await self._host.prune(older_than, status, dry_run=dry_run)

    # Reading.

    async def status(self, run_id: str) -> RunStatus:
        """Return the stored status of a run. Raises `RunNotFound`."""
        return await self._host.inspector.status(run_id)

    async def runs(self) -> list[RunInfo]:
        """Return all runs of the store, in an unspecified but stable order."""
        return await self._host.inspector.runs()

    async def history(self, run_id: str) -> list[StepInfo]:
        """Return the committed steps of a run, in order. Raises `RunNotFound`, `DamagedRecord`."""
        return await self._host.inspector.history(run_id)

    async def snapshot(self, run_id: str, seq: int | None = None) -> RunSnapshot:
        """Return a run as of step `seq`, the last by default. Raises `RunNotFound`, `DamagedRecord`."""
        return await self._host.inspector.snapshot(run_id, seq)

    async def draw(
        self,
        run_id: str,
        *,
        format: Format | Literal["html"] = "svg",  # noqa: A002 - a public name
        depth: int | None = None,
        seq: int | None = None,
        theme: Theme = "auto",
    ) -> str:
        """Draw a run over its graph: visited nodes, how often and for how long they ran, and the nodes that wait.

        Draws step `seq`, the last by default; `depth` and `theme` as for a flow. Works without the flow's code.
        Raises `RunNotFound`, `DamagedRecord`; `ValueError` for an unknown format, depth or theme.

        Example:
            Path("run.svg").write_text(await engine.draw("order-7"))
        """
        return await self._host.inspector.draw(run_id, format=format, depth=depth, seq=seq, theme=theme)

    async def trail(self, run_id: str, seq: int | None = None) -> Trace:
        """Return each visit and each edge taken, up to a step, the last by default. Raises as `snapshot` does."""
        return await self._host.inspector.trail(run_id, seq)

    async def html(self, run_id: str) -> str:
        """Return a page that replays a run: one HTML file that needs no other file and no network.

        It shows the graph with a scrubber over all steps, values and state at each step, a timeline, the events and a
        search, up to the last committed step. A value is cut after 4,000 characters; beyond 6 million in total the
        page omits values and says so. Needs no code of the flow. Raises `RunNotFound`, `DamagedRecord`.
        """
        return await self._host.inspector.html(run_id)

    async def compare(self, first: str, second: str) -> RunComparison:
        """Compare two runs as of their last steps: where their paths diverge, and the results of each.

        It compares best a run with its fork (their history before the fork is the same) or two runs of one flow.
        Works without the flow's code. Raises `RunNotFound`, `DamagedRecord`.
        """
        return await self._host.inspector.compare(first, second)

    async def difference(
        self, run_id: str, flow: Compilable | None = None, *, rename: Mapping[str, str] | None = None
    ) -> tuple[JudgedChange, ...]:
        """Return the changes from a run's graph to a flow, the registered one by default, each with its effect.

        A run continues with a flow if every change is `safe` for it. Raises `RunNotFound`, `RunConflict` for another
        flow, `BadRename`.
        """
        return await self._host.inspector.difference(run_id, flow, rename=rename)

    async def check(self, flow: Compilable) -> dict[str, tuple[JudgedChange, ...]]:
        """Return the changes in a flow that would stop its unfinished and failed runs, by run id.

        Call it before you deploy a flow: a run that is not in the result continues. Raises `DamagedRecord`.
        """
        return await self._host.inspector.check(flow)

    async def why(self, run_id: str) -> Why:
        """Return why a run does not go on: what each token waits for, and the triggers that would move the run.

        Needs no code of the flow. Raises `RunNotFound`, `DamagedRecord`.

        Example:
            print(await engine.why("order-7"))
        """
        return await self._host.why(run_id)

    @overload
    async def pending(self, *, waits: Literal[False] = False) -> list[Question]: ...
    @overload
    async def pending(self, *, waits: bool) -> list[Question | SignalWait]: ...
    async def pending(self, *, waits: bool = False) -> list[Question] | list[Question | SignalWait]:
        """Return the questions that runs ask people, the oldest first. Raises `DamagedRecord`.

        With `waits`, return the waits for signals, too. That reads every unfinished run of the store.
        """
        inspector = self._host.inspector
        return await inspector.pending_and_waits() if waits else await inspector.pending()
