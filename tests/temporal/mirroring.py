"""Runs on a real server for the tests of mirrors: their flows, and the steps that the tests share."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from secrets import token_hex
from typing import Annotated, Any

from crash_flows import INPUT
from pydantic import BaseModel
from servers import Server
from temporalio.api.common.v1 import Payload, WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.converter import PayloadCodec
from temporalio.service import RPCError

from beluga_graph import END, START, Context, Engine, Event, Graph, append
from beluga_graph.inspection.flow_registry import FlowRegistry
from beluga_graph.inspection.inspector import Inspector
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.triggers import RunStarted, Trigger
from beluga_graph.plan.plan import Compilable
from beluga_graph.storage.verify import verify_store
from beluga_graph.temporal.claims.claims import open_claims
from beluga_graph.temporal.connection.connection import Connection
from beluga_graph.temporal.connection.new_execution import pack_input, queue_of
from beluga_graph.temporal.mirror.recording import mirror_run
from beluga_graph.temporal.worker import TemporalWorker
from beluga_graph.temporal.workflow.run_options import RunOptions
from beluga_graph.temporal.workflow.wire import SIGNAL, WORKFLOW, unpack
from stores import MemoryStore, Put
from stores.base import Op

PATIENCE_S = 120
SIGNALS = {"waits": ("go", 40), "parks": ("go", 40)}
OPTIONS: list[dict[str, Any]] = [{}, {"ahead_ms": 50, "batch": 100}, {"continue_events": 1}]


class Deps:
    pause = 0.0

    def happen(self, ctx: Context) -> None:
        pass


class HeldClaims(dict[bytes, bytes]):
    """Large values in memory."""

    put = dict.__setitem__


class LateStore(MemoryStore):
    """A store to which another process writes everything just before the first commit."""

    def __init__(self, ahead: MemoryStore) -> None:
        super().__init__()
        self.ahead: MemoryStore | None = ahead

    def commit(self, *ops: Op) -> None:
        ahead, self.ahead = self.ahead, None
        if ahead is not None:
            super().commit(*(Put(key, value) for key, value in ahead.scan(b"")))
        super().commit(*ops)


class Place:
    """A server with a worker for one flow."""

    def __init__(self, client: Client, flow: Compilable, claims: HeldClaims | None) -> None:
        self.client, self.flow, self.plan = client, flow, flow.plan()
        self.claims = open_claims(claims)
        self.queue = token_hex(4)

    def worker(self, *more: Compilable) -> TemporalWorker:
        plans = [self.plan, *(flow.plan() for flow in more)]
        connection = Connection(self.client, task_queue=self.queue)
        return TemporalWorker(connection, plans, task_queue=self.queue, deps=Deps(), claims=self.claims)

    def input_of(self, run: Snapshot, *triggers: Trigger, previous: str = "", **options: Any) -> bytes:
        known = RunOptions(queue=queue_of(self.plan, self.queue), engine_queue=self.queue, **options)
        return pack_input(self.plan, run, triggers or [RunStarted(0)], known, previous=previous)

    async def start(self, value: Any, **options: Any) -> WorkflowHandle[Any, bytes]:
        run_id = token_hex(4)
        started_ms = time.time_ns() // 1_000_000
        run = Snapshot(run_id=run_id, plan=self.plan.fingerprint, started_ms=started_ms, value=self.plan.encode(value))
        return await self.begin(run_id, self.input_of(run, **options))

    async def begin(self, run_id: str, packed: bytes) -> WorkflowHandle[Any, bytes]:
        queue = queue_of(self.plan, self.queue)
        return await self.client.start_workflow(WORKFLOW, packed, id=run_id, task_queue=queue, result_type=bytes)

    async def signal(self, handle: WorkflowHandle[Any, bytes], name: str, value: Any) -> None:
        await handle.signal(SIGNAL, args=[name, self.plan.encode(value)])

    async def mirror(self, run_id: str, store: MemoryStore) -> Inspector:
        await mirror_run(self.client, run_id, store, self.claims)
        assert verify_store(store).damage == ()
        flows = FlowRegistry(store)
        flows.register(self.flow)
        return Inspector(store, flows)


@asynccontextmanager
async def serving(server: Server, flow: Compilable, claims: HeldClaims | None = None) -> AsyncIterator[Place]:
    place = Place(await server.connect(), flow, claims)
    async with asyncio.timeout(PATIENCE_S), place.worker():
        yield place


async def ended(handle: WorkflowHandle[Any, bytes]) -> None:
    with contextlib.suppress(WorkflowFailureError):
        await handle.result()


async def run_locally(flow: Compilable, store: MemoryStore, *signals: tuple[str, Any]) -> str:
    async with Engine(store, deps=Deps()) as engine:
        run = await engine.start(flow, INPUT)
        for name, value in signals:
            await run.signal(name, value)
        await run.outcome()
        return run.id


async def delete_execution(client: Client, run_id: str, execution_id: str) -> None:
    execution = WorkflowExecution(workflow_id=run_id, run_id=execution_id)
    request = DeleteWorkflowExecutionRequest(namespace=client.namespace, workflow_execution=execution)
    await client.workflow_service.delete_workflow_execution(request)
    async with asyncio.timeout(PATIENCE_S):
        with contextlib.suppress(RPCError):
            while True:
                await client.get_workflow_handle(run_id, run_id=execution_id).describe()
                await asyncio.sleep(0.05)


async def events_of(inspector: Inspector, run_id: str) -> dict[str, list[Event]]:
    """Return the stored events by token, without times, ids and the order among branches."""
    found: defaultdict[str, list[Event]] = defaultdict(list)
    for step in await inspector.history(run_id):
        for event in step.events:
            found[event.token].append(replace(event, run_id="", seq=0, due_ms=None))
    return dict(found)


async def state_of(handle: WorkflowHandle[Any, bytes]) -> dict[str, Any]:
    run: dict[str, Any] = unpack(await handle.query("state", result_type=bytes))["run"]
    return run


async def until_waiting(handle: WorkflowHandle[Any, bytes]) -> list[str]:
    """Return the signals that the run waits for, once there is one."""
    while not (waits := (await state_of(handle))["waits"]):  # noqa: ASYNC110 - a wait is not announced
        await asyncio.sleep(0.02)
    return [*waits]


def records(store: MemoryStore) -> dict[bytes, bytes]:
    return dict(store.scan(b""))


async def expect_repeatable(place: Place, run_id: str, store: MemoryStore) -> None:
    """Expect that a mirror changes nothing in a store that has the run, and writes the same to an empty one."""
    once = records(store)
    await place.mirror(run_id, store)
    assert records(store) == once
    again = MemoryStore()
    await place.mirror(run_id, again)
    assert records(again) == once


class Shelf(BaseModel):
    books: Annotated[list[str], append] = []


def shelving() -> Graph:
    """Return a flow whose nodes append large and small items to one field, also in branches."""
    g = Graph("shelving", state=Shelf)

    @g.node
    async def put(ctx: Context, value: int) -> int:
        ctx.update(books=[str(value), "x" * 9_000 + str(value)])
        return value

    @g.node
    async def one(ctx: Context, value: list[int]) -> int:
        ctx.update(books=["one"])
        return len(ctx.state.books)

    @g.node
    async def two(ctx: Context, value: int) -> int:
        ctx.update(books=["two"])
        return len(ctx.state.books)

    g.fan_out("out", to=put, over=lambda _: [1, 2, 3], join="in")
    g.join("in")
    for source, target in ((START, "out"), ("in", one), (one, two), (two, END)):
        g.edge(source, target)
    return g


def saying() -> Graph:
    """Return a flow that waits for a text and returns its length."""
    g = Graph("saying")

    @g.node
    async def measure(ctx: Context, value: str) -> int:
        return len(value)

    g.wait("hear", "go", type=str)
    for source, target in ((START, "hear"), ("hear", measure), (measure, END)):
        g.edge(source, target)
    return g


def failing(*, more: bool = False) -> Graph:
    """Return a flow whose second node fails while a door is closed. The changed one has another node at its end."""
    g = Graph("failing")

    @g.node
    async def good(ctx: Context, value: int) -> int:
        return value + 1

    @g.node
    async def bad(ctx: Context, value: int) -> int:
        if not DOORS["open"]:
            raise ValueError("closed")
        return value * 2

    g.edge(START, good)
    g.edge(good, bad)
    if more:
        g.node(name="more")(lambda value: value)
        g.edge(bad, "more")
    g.edge("more" if more else bad, END)
    return g


DOORS = {"open": False}


class ReversingCodec(PayloadCodec):
    """Makes payloads unreadable without it."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [Payload(metadata=payload.metadata, data=payload.data[::-1]) for payload in payloads]

    decode = encode
