"""`TemporalEngine`: the API of `Engine`, for runs on a Temporal server."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from temporalio.client import Client

from beluga_graph.events import Event
from beluga_graph.execution.approval import Answer
from beluga_graph.execution.messages import Bus
from beluga_graph.inspection.approvals import Question
from beluga_graph.inspection.views import RunInfo, RunSnapshot, RunStatus, StepInfo
from beluga_graph.plan.declared import MISSING
from beluga_graph.plan.plan import Compilable, Plan
from beluga_graph.policy import Limits
from beluga_graph.temporal.claims.claims import ClaimsOption
from beluga_graph.temporal.client.adopter import LocalEngine
from beluga_graph.temporal.connection.new_execution import TemporalDurability
from beluga_graph.temporal.host import TemporalHost
from beluga_graph.temporal.run import TemporalRun
from beluga_graph.temporal.run_ids import check_run_id
from beluga_graph.temporal.worker import TemporalWorker
from stores.base import Store

if TYPE_CHECKING:
    from beluga_graph.draw.render import Format, Theme
    from beluga_graph.inspection.signal_waits import SignalWait
    from beluga_graph.inspection.why import Why

__all__ = ["TemporalEngine"]


class TemporalEngine:
    """Runs flows on a Temporal server. The flows are those of `Engine`, unchanged.

    * `address_or_client`: the server's `host:port`, or its `host` for port 7233, or a connected
      `temporalio.client.Client`, for TLS, an API key or a data converter.
    * `namespace` has the runs, which are workflows. Workers take them from task queues of their versions, whose names
      begin with `task_queue`: give workers the same one.
    * `durability`: with `"commit"`, each node is an activity of its own. With `"batch"`, short nodes go ahead of the
      server for at most 50 ms. That is much faster, and only those nodes may run again after a crash.
    * `claims`: a place for values of more than 8 KiB, which workers and clients share: a folder, an LMDB store,
      `s3://bucket/prefix`, or an object with `put` and `get`. Without one, the history has them, each below 2 MB.
    * `node_queues`: by path of a node, another task queue, such as that of a worker in another language. A path that no
      known flow has is refused with `UnknownNode` when a run or a worker starts.
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
        durability: TemporalDurability = "commit",
        claims: ClaimsOption = None,
        node_queues: Mapping[str, str] | None = None,
        bus: Bus | None = None,
        deps: Any = None,
        live: str | None = None,
    ) -> None:
        if durability not in ("commit", "batch"):
            msg = f"durability {durability!r}: give 'commit' or 'batch'; a Temporal server stores every step"
            raise ValueError(msg)
        self._task_queue, self._deps = task_queue, deps
        self._host = TemporalHost(
            address_or_client,
            namespace=namespace,
            task_queue=task_queue,
            durability=durability,
            claims=claims,
            node_queues=node_queues or {},
            bus=bus,
            live=live,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the listener, and the claims if this engine opened them. Runs continue on the server. Idempotent."""
        await self._host.close()

    def register(self, flow: Compilable) -> Plan:
        """Make a flow known, so that its runs can be resumed by their id. Raises `GraphError`."""
        return self._host.register(flow)

    def worker(self, flows: Iterable[Compilable], *, grace: float = 10.0) -> TemporalWorker:
        """Return a worker that serves runs of some flows: enter it, or await its `run`.

        It serves runs by the names and graphs of its flows, so another process may build the same flows again. `grace`
        is the time in seconds that work under way gets to finish when the worker stops.

        Example:
            async with TemporalEngine() as engine:
                await engine.worker([flow]).run()
        """
        plans = self._host.register_all(flows)
        return TemporalWorker(
            self._host.connection,
            plans,
            task_queue=self._task_queue,
            claims=self._host.claims,
            bus=self._host.bus,
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
        return await self._host.start(flow, value, run_id, context, session, limits)

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

    def stream(
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
        return self._host.stream(flow, value, run_id, context, session, limits)

    async def resume(
        self, run_id: str, *, limits: Limits | None = None, rename: Mapping[str, str] | None = None
    ) -> TemporalRun:
        """Continue a run of a registered flow. A failed node is tried again, in a new execution of the same id.

        `limits` and `rename` are as for `Engine.resume`. A run that goes on adopts a changed graph: its nodes under way
        run again, with the new code. Raises `RunNotFound`, `GraphChanged`, `BadRename`, `TemporalUnavailable`;
        `RunBusy` if the run goes on too fast to be judged; `RunError` if this version of its flow is not registered.
        """
        return await self._host.resume(run_id, limits, rename or {})

    async def follow(self, run_id: str) -> TemporalRun:
        """Return a handle on a run that any process has started, without changing it.

        If its flow was never registered, values of the flow's own classes are `Unregistered`. Raises `RunNotFound`.

        Example:
            run = await engine.follow("order-7")
            async for event in run.events(after=120):
                print(event)
        """
        return await self._host.follow(run_id)

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
        return await self._host.fork(run_id, seq, run_id_new, update or {}, replace or {})

    async def adopt(
        self, local_engine: LocalEngine, run_id: str, *, rename: Mapping[str, str] | None = None
    ) -> TemporalRun:
        """Continue a run of a local `Engine` on the server: one that waits, or a failed one, which is then tried again.

        The local engine marks the run as moved, and no engine drives it any more. A second call returns the same run,
        as long as the server keeps it; after a crash, it completes the first one. If the graph of the flow has
        changed, the run adopts it, with `rename` as for `resume`. A session is free in the local store.

        Before the run is marked, raises `RunNotFound`; `RunBusy` while its nodes run; `RunConflict` if it has ended,
        or the server has another run of this id; `GraphChanged`, `BadRename`; `LimitReached` if this engine has no
        claims and the run is too large; `RunError` for an unknown flow; `TemporalUnavailable`.

        Example:
            async with Engine("runs.lmdb") as local, TemporalEngine() as engine, engine.worker([flow]):
                for info in await local.runs():
                    if info.status == "waiting":
                        await engine.adopt(local, info.run_id)
        """
        return await self._host.adopt(local_engine, run_id, rename or {})

    async def signal(self, run_id: str, name: str, payload: Any = None) -> None:
        """Send a signal to a run. It is on the server when this returns, and is delivered once.

        Raises `RunNotFound`; `RunConflict` for a run that has ended or failed; `BadSignal`; `NotData`; `LimitReached`.
        """
        await self._host.signal(run_id, name, payload)

    async def answer(
        self, run_id: str, question_id: str, decision: str, value: Any = MISSING, *, reason: str = ""
    ) -> None:
        """Answer a question of `pending()`, as `Engine.answer` does. It is on the server when this returns.

        It needs no worker: if none answers for the run, this engine walks it for a moment. Raises `ValueError` for an
        invalid decision, `BadSignal`, `NotData`, `RunNotFound`; `RunConflict` if the question is not pending;
        `TemporalUnavailable`, also while the server keeps work of the run for a worker that was lost: try again then.
        """
        await self._host.sender.answer(check_run_id(run_id), question_id, Answer(decision, value, reason))

    async def cancel(self, run_id: str) -> RunStatus:
        """End a run for good; return the status that was committed first. A finished run keeps its status.

        If no worker answers for the run, this engine walks it for a moment. Raises `RunNotFound`;
        `TemporalUnavailable`, also if the run cannot end within 5 seconds so: cancel it again then.
        """
        return await self._host.cancel(run_id)

    # Reading.

    async def status(self, run_id: str) -> RunStatus:
        """Return the status of a run. Raises `RunNotFound`, `TemporalUnavailable`."""
        return await self._host.status(run_id)

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
            async for found in self._host.workflows.find_all()
        ]

    async def why(self, run_id: str) -> Why:
        """Return why a run does not go on, as `Engine.why` does, and on which worker its attempts are.

        It is computed from the history, so it needs no worker. Raises `RunNotFound`, `TemporalUnavailable`,
        `SnapshotError`.
        """
        return await self._host.why(run_id)

    @overload
    async def pending(self, *, waits: Literal[False] = False) -> list[Question]: ...
    @overload
    async def pending(self, *, waits: bool) -> list[Question | SignalWait]: ...
    async def pending(self, *, waits: bool = False) -> list[Question] | list[Question | SignalWait]:
        """Return the questions that runs ask people, the oldest first; with `waits`, also their waits for signals.

        The server may list a run a moment late. A run that this engine cannot read, such as one with other claims, is
        left out with a warning in the log.
        """
        waiting = [found.run_id async for found in self._host.workflows.find_all() if found.status == RunStatus.waiting]
        return await self._host.mirrored.pending(waiting, waits=waits)

    async def history(self, run_id: str) -> list[StepInfo]:
        """Return the steps of a run, in order, as far as the server keeps its history. Raises `RunNotFound`."""
        return await (await self._host.mirrored.refresh(check_run_id(run_id))).history(run_id)

    async def snapshot(self, run_id: str, seq: int | None = None) -> RunSnapshot:
        """Return a run as of step `seq`, the last by default. Raises `RunNotFound`."""
        return await (await self._host.mirrored.refresh(check_run_id(run_id))).snapshot(run_id, seq)

    async def draw(
        self,
        run_id: str,
        *,
        format: Format | Literal["html"] = "svg",  # noqa: A002 - a public name
        depth: int | None = None,
        seq: int | None = None,
        theme: Theme = "auto",
    ) -> str:
        """Draw a run over its graph, as `Engine.draw` does. Raises `RunNotFound`; `ValueError` for unknown options."""
        inspector = await self._host.mirrored.refresh(check_run_id(run_id))
        return await inspector.draw(run_id, format=format, depth=depth, seq=seq, theme=theme)

    async def html(self, run_id: str) -> str:
        """Return a page that replays a run, as `Engine.html` does. Raises `RunNotFound`."""
        return await (await self._host.mirrored.refresh(check_run_id(run_id))).html(run_id)

    async def mirror(self, run_id: str, store: Store | str | os.PathLike[str]) -> None:
        """Write a run into an ordinary store, up to its last step: every tool for stored runs then works on it.

        A path is that of an LMDB store, old or new. A run that goes on cannot be driven from there. If the run cannot
        be read, nothing is written or created. Raises `RunNotFound`; `SnapshotError`, such as
        `ClaimNotFound` with other claims; `RunConflict` if the store has another run of this id.

        Example:
            await engine.mirror("order-7", "copy.lmdb")
        """
        place = Path(store) if isinstance(store, str | os.PathLike) else store
        await self._host.mirrored.write(check_run_id(run_id), place)
