"""`TemporalEngine`: the face of `Engine` for runs on a Temporal server."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncGenerator, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from temporalio.client import Client

from beluga_graph.codec.references import is_reference
from beluga_graph.errors import RunCancelled
from beluga_graph.events import Event
from beluga_graph.execution.approval import Answer
from beluga_graph.execution.messages import Bus
from beluga_graph.execution.stored_values import StoredValues
from beluga_graph.inspection.approvals import Question
from beluga_graph.inspection.views import RunInfo, RunSnapshot, RunStatus, StepInfo
from beluga_graph.kernel.snapshot import CANCELLED, Snapshot
from beluga_graph.kernel.types import Value
from beluga_graph.plan.declared import MISSING
from beluga_graph.plan.plan import Compilable, Plan
from beluga_graph.policy import Limits
from beluga_graph.temporal.claims.call_values import CallValues
from beluga_graph.temporal.claims.claims import ClaimsOption, open_claims
from beluga_graph.temporal.client.adopting import Adopter, LocalEngine
from beluga_graph.temporal.client.following import Follower
from beluga_graph.temporal.client.forking import Forker
from beluga_graph.temporal.client.sending import Sender
from beluga_graph.temporal.client.starting import Starter
from beluga_graph.temporal.connection.connection import Connection
from beluga_graph.temporal.connection.new_execution import Durability
from beluga_graph.temporal.connection.workflow_client import WorkflowClient
from beluga_graph.temporal.live.subscriptions import LiveSubscriptions
from beluga_graph.temporal.mirror.cache import MirroredRuns
from beluga_graph.temporal.run import TemporalRun
from beluga_graph.temporal.run_ids import check_run_id
from beluga_graph.temporal.worker import TemporalWorker
from stores.base import Store

if TYPE_CHECKING:
    from beluga_graph.draw.render import Format, Theme

__all__ = ["TemporalEngine"]


class TemporalEngine:
    """Runs flows on a Temporal server. The flows are those of `Engine`, unchanged.

    * `address_or_client`: the server's `host:port`, or a connected `temporalio.client.Client`, for TLS, an API key or a
      data converter.
    * `namespace` has the runs, which are workflows. Workers take them from `task_queue`: give workers the same queue.
    * `durability`: with `"commit"`, each node is an activity of its own. With `"batch"`, short nodes go ahead of the
      server for at most 50 ms. That is much faster, and only those nodes may run again after a crash.
    * `claims`: a place for values of more than 8 KiB, which workers and clients share: a folder, an LMDB store,
      `s3://bucket/prefix`, or an object with `put` and `get`. Without one, the history has them, each below 2 MB.
    * `node_queues`: by path of a node, another task queue, such as that of a worker in another language.
    * `bus` receives the events that nodes publish, once each if it is durable, from all runs of the task queue. Runs
      that this engine starts publish their status, too, as with `Engine`. Workers without a bus leave events on the
      server for a worker that has one.
    * `deps` are for the nodes of the workers that this engine makes.
    * `live`: the `host` or `host:port` where this process listens for the text of running nodes, by default on
      loopback. If workers elsewhere cannot reach it, heartbeats carry the text of runs of `stream`, which takes some
      200 ms. With `live="heartbeats"`, they carry that of all runs, for followers in any process.

    Raises `ValueError` for another durability or live address.

    Example:
        async with TemporalEngine("localhost:7233") as engine, engine.worker([flow]):
            print(await engine.execute(flow, "Ada"))
    """

    def __init__(
        self,
        address_or_client: str | Client = "localhost:7233",
        *,
        namespace: str = "default",
        task_queue: str = "beluga-graph",
        durability: Durability = "commit",
        claims: ClaimsOption = None,
        node_queues: Mapping[str, str] | None = None,
        bus: Bus | None = None,
        deps: Any = None,
        live: str | None = None,
    ) -> None:
        if durability not in ("commit", "batch"):
            msg = f"durability {durability!r}: give 'commit' or 'batch'; a Temporal server stores every step"
            raise ValueError(msg)
        given = namespace if isinstance(address_or_client, str) or namespace != "default" else None
        self._connection = Connection(address_or_client, namespace=given, task_queue=task_queue)
        self._task_queue, self._bus, self._deps = task_queue, bus, deps
        self._claims = open_claims(claims)
        self._subscriptions = LiveSubscriptions(live)
        self._workflows = WorkflowClient(
            self._connection, durability, node_queues or {}, self._subscriptions, announces=bus is not None
        )
        self._mirrored = MirroredRuns(self._connection, self._claims)
        self._flows = self._mirrored.flows
        self._starter = Starter(self._workflows, self._flows, self._mirrored, self._claims)
        self._sender = Sender(self._workflows, self._flows, self._claims, decode=self.decode, fetch=self._fetch)
        self._adopter = Adopter(self._workflows, self._flows, self._claims)
        self._forker = Forker(self._workflows, self._flows, self._mirrored, self._claims)
        self._follower = Follower(self._workflows, self._mirrored, self._claims)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the listener, and the claims if this engine opened them. Runs continue on the server. Idempotent."""
        await self._subscriptions.close()
        if self._claims is not None:
            self._claims.close()

    def register(self, flow: Compilable) -> Plan:
        """Make a flow known, so that its runs can be resumed by their id. Raises `GraphError`."""
        plan = self._flows.register(flow)
        if self._bus is not None:
            self._bus.learn(plan.codec.registry)
        return plan

    def worker(self, flows: Iterable[Compilable], *, grace: float = 10.0) -> TemporalWorker:
        """Return a worker that serves runs of some flows: enter it, or await its `run`.

        It serves runs by the names and graphs of its flows, so another process may build the same flows again. `grace`
        is the time in seconds that work under way gets to finish when the worker stops.

        Example:
            async with TemporalEngine() as engine:
                await engine.worker([flow]).run()
        """
        plans = [self.register(flow) for flow in flows]
        return TemporalWorker(
            self._connection,
            plans,
            task_queue=self._task_queue,
            claims=self._claims,
            bus=self._bus,
            deps=self._deps,
            grace_s=grace,
        )

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
    ) -> TemporalRun:
        """Start a run, or continue the one with this id. The run is on the server when this returns.

        `context`, `session` and `limits` are as for `Engine.start`. Each task queue has sessions of its own. A run that
        was terminated on the server loses its session. Without claims, a conversation must fit into a payload.

        Raises `GraphError`, `NotData`, `LimitReached`, `BadRunId`, `RunConflict`, `GraphChanged`;
        `TemporalUnavailable` if the server cannot be reached, or if no worker serves the flow within 5 seconds.
        """
        plan = self.register(flow)
        run_id = secrets.token_hex(16) if run_id is None else check_run_id(run_id)
        await self._starter.start(plan, run_id, value, context, session, limits)
        return TemporalRun(self, run_id, plan)

    async def execute(
        self,
        flow: Compilable,
        value: Any = None,
        *,
        run_id: str | None = None,
        context: Any = None,
        session: str | None = None,
        limits: Limits | None = None,
    ) -> Any:
        """Start a run, wait for its end and return its output. Raises as `start` and `TemporalRun.result` do."""
        run = await self.start(flow, value, run_id=run_id, context=context, session=session, limits=limits)
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
    ) -> AsyncGenerator[Event, None]:
        """Start a run and yield its events, also live ones. With a known id, yield its stored events first.

        The last event is `done`, or `error` and then the exception is raised. Closing the stream early does not stop
        the run, which continues on the server. If its workers are lost, the stream continues with the next ones.
        """
        run_id = secrets.token_hex(16) if run_id is None else run_id
        with self._subscriptions.watch(run_id) as subscription:
            run = await self.start(flow, value, run_id=run_id, context=context, session=session, limits=limits)
            plan = self.register(flow)
            async for event in self._follower.events(plan, run_id, 0, partial(self.decode, plan), subscription):
                yield event
        await run.result()

    async def resume(
        self, run_id: str, *, limits: Limits | None = None, rename: Mapping[str, str] | None = None
    ) -> TemporalRun:
        """Continue a run of a registered flow. A failed node is tried again, in a new execution of the same id.

        `limits` and `rename` are as for `Engine.resume`. A run that goes on adopts a changed graph: its nodes under way
        run again, with the new code. Raises `RunNotFound`, `GraphChanged`, `BadRename`, `TemporalUnavailable`;
        `RunBusy` if the run goes on too fast to be judged; `RunError` if the flow was never registered.
        """
        plan = await self._starter.resume(check_run_id(run_id), limits, rename or {})
        return TemporalRun(self, run_id, plan)

    async def follow(self, run_id: str) -> TemporalRun:
        """Return a handle on a run that any process has started, without changing it.

        If its flow was never registered, values of the flow's own classes are `Unregistered`. Raises `RunNotFound`.

        Example:
            run = await engine.follow("order-7")
            async for event in run.events(after=120):
                print(event)
        """
        known = await self._workflows.describe(check_run_id(run_id))
        plan = self._flows.find(known.flow) or await self._mirrored.plan_of(run_id)
        return TemporalRun(self, run_id, plan)

    async def fork(
        self,
        run_id: str,
        seq: int,
        *,
        run_id_new: str | None = None,
        update: Mapping[str, Any] | None = None,
        replace: Mapping[str, Any] | None = None,
    ) -> TemporalRun:
        """Start a new run from the state of another run after step `seq`, as `Engine.fork` does.

        Raises `RunNotFound`, also for a step that the server does not keep; `RunConflict`, `GraphChanged`,
        `StateError`, `NotData`, `LimitReached`, `TemporalUnavailable`.
        """
        new_id = secrets.token_hex(16) if run_id_new is None else check_run_id(run_id_new)
        edits = {"update": update or {}, "replace": replace or {}}
        plan = await self._forker.fork(check_run_id(run_id), seq, new_id, **edits)
        return TemporalRun(self, new_id, plan)

    async def adopt(
        self, local_engine: LocalEngine, run_id: str, *, rename: Mapping[str, str] | None = None
    ) -> TemporalRun:
        """Continue a run of a local `Engine` on the server: one that waits, or a failed one, which is then tried again.

        The local engine marks the run as moved, and no engine drives it any more. A second call returns the same run,
        as long as the server keeps it; after a crash, it completes the first one. If the graph of the flow has
        changed, the run adopts it, with `rename` as for `resume`. A session stays taken in the local store.

        Before the run is marked, raises `RunNotFound`; `RunBusy` while its nodes run; `RunConflict` if it has ended,
        or the server has another run of this id; `GraphChanged`, `BadRename`; `LimitReached` if this engine has no
        claims and the run is too large; `RunError` for an unknown flow; `TemporalUnavailable`.

        Example:
            async with Engine("runs.lmdb") as local, TemporalEngine() as engine, engine.worker([flow]):
                for info in await local.runs():
                    if info.status == "waiting":
                        await engine.adopt(local, info.run_id)
        """
        plan = await self._adopter.adopt(local_engine, check_run_id(run_id), rename or {})
        return TemporalRun(self, run_id, plan)

    async def signal(self, run_id: str, name: str, payload: Any = None) -> None:
        """Send a signal to a run. It is on the server when this returns, and is delivered once.

        Raises `RunNotFound`; `RunConflict` for a run that has ended or failed; `BadSignal`; `NotData`; `LimitReached`.
        """
        await self._sender.signal(check_run_id(run_id), name, payload)

    async def answer(
        self, run_id: str, question_id: str, decision: str, value: Any = MISSING, *, reason: str = ""
    ) -> None:
        """Answer a question of `pending()`, as `Engine.answer` does. It is on the server when this returns.

        Raises `ValueError` for an invalid decision, `BadSignal`, `NotData`, `RunNotFound`; `RunConflict` if the
        question is not pending.
        """
        await self._sender.answer(check_run_id(run_id), question_id, Answer(decision, value, reason))

    async def cancel(self, run_id: str) -> RunStatus:
        """End a run for good; return the status that was committed first. A finished run keeps its status."""
        await self._starter.end(check_run_id(run_id))
        try:
            return RunStatus((await self._follower.wait_ended(run_id)).status)
        except RunCancelled:
            return RunStatus.cancelled

    # Reading.

    async def status(self, run_id: str) -> RunStatus:
        """Return the status of a run. Raises `RunNotFound`, `TemporalUnavailable`."""
        return (await self._workflows.describe(check_run_id(run_id))).status

    async def runs(self) -> list[RunInfo]:
        """Return all runs of the namespace, the newest first. The server may list a new run a moment late."""
        return [
            RunInfo(
                run_id=found.run_id,
                flow=found.flow,
                status=found.status,
                created_ms=found.created_ms,
                updated_ms=found.updated_ms,
            )
            async for found in self._workflows.find_all()
        ]

    async def pending(self) -> list[Question]:
        """Return the questions that runs ask people, the oldest first. The server may list a run a moment late.

        A run that this engine cannot read, such as one with other claims, is left out with a warning in the log.
        """
        waiting = [found.run_id async for found in self._workflows.find_all() if found.status == RunStatus.waiting]
        return await self._mirrored.pending(waiting)

    async def history(self, run_id: str) -> list[StepInfo]:
        """Return the steps of a run, in order, as far as the server keeps its history. Raises `RunNotFound`."""
        return await (await self._mirrored.refresh(check_run_id(run_id))).history(run_id)

    async def snapshot(self, run_id: str, seq: int | None = None) -> RunSnapshot:
        """Return a run as of step `seq`, the last by default. Raises `RunNotFound`."""
        return await (await self._mirrored.refresh(check_run_id(run_id))).snapshot(run_id, seq)

    async def draw(
        self,
        run_id: str,
        *,
        format: Format | Literal["html"] = "svg",  # noqa: A002 - the face's word
        depth: int | None = None,
        seq: int | None = None,
        theme: Theme = "auto",
    ) -> str:
        """Draw a run over its graph, as `Engine.draw` does. Raises `RunNotFound`; `ValueError` for unknown options."""
        inspector = await self._mirrored.refresh(check_run_id(run_id))
        return await inspector.draw(run_id, format=format, depth=depth, seq=seq, theme=theme)

    async def html(self, run_id: str) -> str:
        """Return a page that replays a run, as `Engine.html` does. Raises `RunNotFound`."""
        return await (await self._mirrored.refresh(check_run_id(run_id))).html(run_id)

    async def mirror(self, run_id: str, store: Store | str | os.PathLike[str]) -> None:
        """Write a run into an ordinary store, up to its last step: every tool for stored runs then works on it.

        A path is that of an LMDB store, old or new. A run that goes on cannot be driven from there. If the run cannot
        be read, nothing is written or created. Raises `RunNotFound`; `SnapshotError`, such as
        `ClaimNotFound` with other claims; `RunConflict` if the store has another run of this id.

        Example:
            await engine.mirror("order-7", "copy.lmdb")
        """
        await self._mirrored.write(check_run_id(run_id), Path(store) if isinstance(store, str | os.PathLike) else store)

    # Used by handles.

    async def wait_ended(self, run_id: str) -> Snapshot:
        """Wait for the end of a run; return what results and outcomes need of it. Raises `RunCancelled`."""
        run = await self._follower.wait_ended(run_id)
        await self._fetch(run.output, run.error[4] if isinstance(run.error, tuple) else None)
        return run

    async def cancelled_snapshot(self, run_id: str) -> Snapshot:
        """Return a run that was cancelled, as it was then."""
        run = (await self._mirrored.replay(run_id)).run
        run.status = CANCELLED
        return run

    def decode(self, plan: Plan, value: Value | None) -> Any:
        """Return a value of a run of a flow."""
        is_known = bool(plan.bindings)
        return StoredValues(plan.codec, CallValues(self._claims, (), ()), lenient=not is_known).decode(value)

    async def events(self, plan: Plan, run_id: str, after: int) -> AsyncGenerator[Event, None]:
        """Yield the events of a run; see `TemporalRun.events`."""
        with self._subscriptions.watch(run_id) as subscription:
            async for event in self._follower.events(plan, run_id, after, partial(self.decode, plan), subscription):
                yield event

    # Within.

    async def _fetch(self, *values: Value | None) -> None:
        """Read large values ahead, so that decoding them does not block the loop."""
        digests = [value[1:] for value in values if isinstance(value, bytes) and is_reference(value)]
        if self._claims is not None and digests:
            await self._claims.get_all(digests)
