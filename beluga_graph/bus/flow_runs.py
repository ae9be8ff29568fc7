"""Flows as handlers: each event that a flow gets starts one run of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Protocol, TypeGuard

from beluga_graph.bus.delivery import Handler, current_delivery
from beluga_graph.bus.event import BusEvent
from beluga_graph.codec.registry import Registry
from beluga_graph.errors import BadRunId, BusError, RunBusy, RunNotFound
from beluga_graph.execution.run_ids import check_run_id
from beluga_graph.inspection.views import RunStatus
from beluga_graph.kernel.status_topics import STATUS_TOPICS
from beluga_graph.plan.plan import Compilable, Plan

__all__ = ["FlowEngine", "FlowHandler", "handler_of", "run_id_of"]

_UNDER_WAY = (RunStatus.running, RunStatus.waiting)


class FlowEngine(Protocol):
    """The engine that runs a flow; `Engine` is one."""

    @property
    def is_closed(self) -> bool:
        """Whether it begins no runs any more."""

    def register(self, flow: Compilable) -> Plan:
        """Make a flow known. Raises `GraphError`."""

    async def status(self, run_id: str) -> RunStatus:
        """Return the status of a run. Raises `RunNotFound`."""

    async def start(
        self, flow: Compilable, value: Any = None, *, run_id: str | None = None, context: Any = None
    ) -> object:
        """Start a run, or continue the one with this id; it is on disk when this returns. Raises `RunBusy`."""


def handler_of(
    handler: Handler | Compilable, name: str | None, engine: FlowEngine | None, learn: Callable[[Registry], None]
) -> tuple[Handler, str | None]:
    """Return the function that handles the events of a subscription, and the subscription's name.

    A flow is registered with the engine; `learn` gets the classes that it names. Raises `TypeError` for an object that
    is neither a function nor a flow with its engine, `GraphError` for a flow that cannot be compiled.
    """
    if _is_flow(handler):
        if engine is None:
            msg = f"flow {handler.name!r} needs an engine to run on: bus.subscribe(pattern, flow, engine=engine)"
            raise TypeError(msg)
        plan = engine.register(handler)
        learn(plan.codec.registry)
        name = handler.name if name is None else name
        return FlowHandler(handler, plan.name, engine, name), name
    if engine is not None:
        msg = f"engine= is for a flow, and {handler!r:.100} is not one: drop it, or wrap the function in a Graph"
        raise TypeError(msg)
    if not callable(handler):
        msg = f"{handler!r:.100} cannot be handed an event: give a function of the event, or a flow with engine="
        raise TypeError(msg)
    return handler, name


def _is_flow(handler: object) -> TypeGuard[Compilable]:
    # Look at the class: a mock has any attribute, and is a function.
    return callable(getattr(type(handler), "plan", None)) and callable(getattr(type(handler), "declare", None))


class FlowHandler:
    """Starts a run of a flow for each event. The run's id consists of the subscription's name and the event's id.

    The event is handled once its run is on disk. If the event is delivered again, it finds that run and continues it
    if the process that ran it has died. Status events of the flow's own runs (such as `run.started`) start no run.
    """

    def __init__(self, flow: Compilable, flow_id: str, engine: FlowEngine, name: str) -> None:
        self._flow, self._flow_id, self._engine, self._name = flow, flow_id, engine, name

    async def __call__(self, event: BusEvent) -> None:
        """Start the run of an event, unless the run has ended or another process drives it."""
        if self._engine.is_closed:
            delivery = current_delivery()
            assert delivery is not None
            # The name keeps its position, so the event comes again where an engine is open.
            delivery.subscriber.cancel()
            raise BusError(f"the engine on which flow {self._flow.name!r} hears {event.topic!r} is closed")
        if event.topic in STATUS_TOPICS and event.agent_id == self._flow_id:
            return  # the status of one of its own runs, which would start the next run, and so on
        run_id = run_id_of(self._name, event.id)
        try:
            if await self._engine.status(run_id) not in _UNDER_WAY:
                return
        except RunNotFound:
            pass  # the first delivery
        about: Mapping[str, str] = {"topic": event.topic, "id": event.id, "agent_id": event.agent_id}
        try:
            await self._engine.start(self._flow, event.data, run_id=run_id, context={"event": about})
        except RunBusy:
            return  # another process got the event, too


def run_id_of(name: str, event_id: str) -> str:
    """Return the id of the run that a subscription starts for an event: `name:event_id`, or a digest of the two."""
    plain = f"{name}:{event_id}"
    try:
        if ":" not in name:  # with one, two pairs could make the same id
            return check_run_id(plain)
    except BadRunId:
        pass
    return sha256(repr((name, event_id)).encode("utf-8", "surrogatepass")).hexdigest()
