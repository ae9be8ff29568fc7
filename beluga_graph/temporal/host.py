"""The host: the parts of one `TemporalEngine`, put together, and the verbs that its handles use."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from temporalio.client import Client

from beluga_graph.codec.references import is_reference
from beluga_graph.events import Event
from beluga_graph.execution.messages import Bus
from beluga_graph.execution.stored_values import StoredValues
from beluga_graph.inspection.views import RunStatus
from beluga_graph.kernel.snapshot import CANCELLED, Snapshot
from beluga_graph.kernel.types import Value
from beluga_graph.plan.plan import Compilable, Plan
from beluga_graph.policy import Limits
from beluga_graph.temporal.claims.call_values import CallValues
from beluga_graph.temporal.claims.claims import ClaimsOption, open_claims
from beluga_graph.temporal.client.adopter import Adopter, LocalEngine
from beluga_graph.temporal.client.canceller import Canceller
from beluga_graph.temporal.client.follower import Follower
from beluga_graph.temporal.client.forker import Forker
from beluga_graph.temporal.client.node_queues import check_node_queues
from beluga_graph.temporal.client.sender import Sender
from beluga_graph.temporal.client.starter import Starter
from beluga_graph.temporal.client.temporary_workers import TemporaryWorkers
from beluga_graph.temporal.connection.connection import Connection
from beluga_graph.temporal.connection.new_execution import TemporalDurability
from beluga_graph.temporal.connection.workflow_client import WorkflowClient
from beluga_graph.temporal.live.subscriptions import LiveSubscription, LiveSubscriptions
from beluga_graph.temporal.mirror.cache import MirroredRuns
from beluga_graph.temporal.run import TemporalRun
from beluga_graph.temporal.run_ids import check_run_id

if TYPE_CHECKING:
    from beluga_graph.draw.render import Theme
    from beluga_graph.inspection.why import Why

__all__ = ["TemporalHost"]


class TemporalHost:
    """Builds the parts of one engine and closes them.

    It implements `TemporalBackend` for the engine's handles.
    """

    def __init__(
        self,
        address_or_client: str | Client,
        *,
        namespace: str,
        task_queue: str,
        durability: TemporalDurability,
        claims: ClaimsOption,
        node_queues: Mapping[str, str],
        bus: Bus | None,
        live: str | None,
    ) -> None:
        given = namespace if isinstance(address_or_client, str) or namespace != "default" else None
        self.connection = Connection(address_or_client, namespace=given, task_queue=task_queue)
        self.claims = open_claims(claims)
        self.bus, self._node_queues = bus, node_queues
        self.subscriptions = LiveSubscriptions(live)
        self.workflows = WorkflowClient(
            self.connection, durability, node_queues, self.subscriptions, announces=bus is not None
        )
        self.mirrored = MirroredRuns(self.connection, self.claims)
        self.flows = self.mirrored.flows
        temporary_workers = TemporaryWorkers(self.workflows)
        self.sender = Sender(
            self.workflows, self.flows, self.claims, temporary_workers, decode=self.decode, fetch=self._fetch
        )
        self._starter = Starter(self.workflows, self.flows, self.mirrored, self.claims, temporary_workers)
        self._adopter = Adopter(self.workflows, self.flows, self.claims)
        self._forker = Forker(self.workflows, self.flows, self.mirrored, self.claims)
        self._follower = Follower(self.workflows, self.mirrored, self.claims)
        self._canceller = Canceller(
            self.workflows, self.mirrored, temporary_workers, wait_ended=self._follower.wait_ended
        )

    async def close(self) -> None:
        """Close the listener, and the claims if this host opened them. Idempotent."""
        await self.subscriptions.close()
        if self.claims is not None:
            self.claims.close()

    def register(self, flow: Compilable) -> Plan:
        """Remember the plan of a flow, and its classes for the bus. Raises `GraphError`."""
        plan = self.flows.register(flow)
        if self.bus is not None:
            self.bus.learn(plan.codec.registry)
        return plan

    def register_all(self, flows: Iterable[Compilable]) -> list[Plan]:
        """Remember the plans of flows. Raises `GraphError`, also for a queue of a node that no known flow has."""
        plans = [self.register(flow) for flow in flows]
        check_node_queues(self._node_queues, self.flows.list_plans())
        return plans

    async def start(
        self, flow: Compilable, value: Any, run_id: str | None, context: Any, session: str | None, limits: Limits | None
    ) -> TemporalRun:
        """Start a run, or continue the one with this id; see `TemporalEngine.start`."""
        run_id = secrets.token_hex(16) if run_id is None else check_run_id(run_id)
        plan = await self._start(flow, value, run_id, context, session, limits)
        return TemporalRun(self, run_id, plan)

    async def stream(
        self, flow: Compilable, value: Any, run_id: str | None, context: Any, session: str | None, limits: Limits | None
    ) -> AsyncGenerator[Event, None]:
        """Start a run and yield its events; see `TemporalEngine.stream`."""
        run_id = secrets.token_hex(16) if run_id is None else run_id
        with self.subscriptions.watch(run_id) as subscription:  # before the start, so that no live event is missed
            plan = await self._start(flow, value, check_run_id(run_id), context, session, limits)
            async for event in self._follow(plan, run_id, 0, subscription):
                yield event
        await TemporalRun(self, run_id, plan).result()

    async def resume(self, run_id: str, limits: Limits | None, rename: Mapping[str, str]) -> TemporalRun:
        """Continue a run of a registered flow; see `TemporalEngine.resume`."""
        plan = await self._starter.resume(check_run_id(run_id), limits, rename)
        return TemporalRun(self, run_id, plan)

    async def follow(self, run_id: str) -> TemporalRun:
        """Return a handle on a run, without changing it; see `TemporalEngine.follow`."""
        known = await self.workflows.describe(check_run_id(run_id))
        plan = self.flows.find(known.flow) or await self.mirrored.plan_of(run_id)
        return TemporalRun(self, run_id, plan)

    async def fork(
        self, run_id: str, seq: int, run_id_new: str | None, update: Mapping[str, Any], replace: Mapping[str, Any]
    ) -> TemporalRun:
        """Start a new run from the state of another one; see `TemporalEngine.fork`."""
        new_id = secrets.token_hex(16) if run_id_new is None else check_run_id(run_id_new)
        plan = await self._forker.fork(check_run_id(run_id), seq, new_id, update=update, replace=replace)
        return TemporalRun(self, new_id, plan)

    async def adopt(self, local_engine: LocalEngine, run_id: str, rename: Mapping[str, str]) -> TemporalRun:
        """Continue a run of a local engine on the server; see `TemporalEngine.adopt`."""
        plan = await self._adopter.adopt(local_engine, check_run_id(run_id), rename)
        return TemporalRun(self, run_id, plan)

    async def why(self, run_id: str) -> Why:
        """Return why a run does not go on; see `TemporalEngine.why`."""
        from beluga_graph.temporal.client.explanation import explain_run  # noqa: PLC0415 - loaded when it is needed

        return await explain_run(self.workflows, self.mirrored, check_run_id(run_id))

    # Used by handles.

    async def status(self, run_id: str) -> RunStatus:
        """Return the status of a run. Raises `RunNotFound`, `TemporalUnavailable`."""
        return (await self.workflows.describe(check_run_id(run_id))).status

    async def signal(self, run_id: str, name: str, payload: Any = None) -> None:
        """Send a signal to a run; see `TemporalEngine.signal`."""
        await self.sender.signal(check_run_id(run_id), name, payload)

    async def cancel(self, run_id: str) -> RunStatus:
        """End a run for good; see `TemporalEngine.cancel`."""
        return await self._canceller.cancel(check_run_id(run_id))

    async def draw(self, run_id: str, *, depth: int | None = None, theme: Theme = "auto") -> str:
        """Draw a run as an SVG document."""
        return await (await self.mirrored.refresh(check_run_id(run_id))).draw(run_id, depth=depth, theme=theme)

    async def wait_ended(self, run_id: str) -> Snapshot:
        """Wait for the end of a run; return what results and outcomes need of it. Raises `RunCancelled`."""
        run = await self._follower.wait_ended(run_id)
        failed_input = run.error[-1] if isinstance(run.error, tuple) else None
        await self._fetch(run.output, failed_input)
        return run

    async def cancelled_snapshot(self, run_id: str) -> Snapshot:
        """Return a run that was cancelled, as it was then."""
        run = (await self.mirrored.replay(run_id)).run
        run.status = CANCELLED
        return run

    def decode(self, plan: Plan, value: Value | None) -> Any:
        """Return a value of a run of a flow."""
        is_known = bool(plan.bindings)
        return StoredValues(plan.codec, CallValues(self.claims, (), ()), lenient=not is_known).decode(value)

    async def events(self, plan: Plan, run_id: str, after: int) -> AsyncGenerator[Event, None]:
        """Yield the events of a run; see `TemporalRun.events`."""
        with self.subscriptions.watch(run_id) as subscription:
            async for event in self._follow(plan, run_id, after, subscription):
                yield event

    # Within.

    async def _start(
        self, flow: Compilable, value: Any, run_id: str, context: Any, session: str | None, limits: Limits | None
    ) -> Plan:
        """Start a run, or continue the one with this id; return the plan that it has."""
        (plan,) = self.register_all([flow])
        return await self._starter.start(plan, run_id, value, context, session, limits)

    def _follow(
        self, plan: Plan, run_id: str, after: int, subscription: LiveSubscription
    ) -> AsyncGenerator[Event, None]:
        return self._follower.events(plan, run_id, after, partial(self.decode, plan), subscription)

    async def _fetch(self, *values: Value | None) -> None:
        """Read large values ahead, so that decoding them does not block the loop."""
        digests = [value[1:] for value in values if isinstance(value, bytes) and is_reference(value)]
        if self.claims is not None and digests:
            await self.claims.get_all(digests)
