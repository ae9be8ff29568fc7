"""Flows that hear events: each event that one is handed starts a run of it."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from beluga_graph.bus.event import BusEvent
from beluga_graph.bus.subscription import Handler, handled_now
from beluga_graph.errors import BadRunId, BusError, RunBusy, RunNotFound
from beluga_graph.flows.flow import Flow
from beluga_graph.inspection.views import RunStatus
from beluga_graph.storage.keys import check_run_id
from beluga_graph.storage.outbox_records import STATUS_TOPICS

if TYPE_CHECKING:
    from beluga_graph.bus.bus import EventBus
    from beluga_graph.engine.engine import Engine

__all__ = ["FlowHandler", "handler_of", "run_id_of"]

_UNDER_WAY = (RunStatus.running, RunStatus.waiting)


def handler_of(
    bus: EventBus, handler: Handler | Flow, name: str | None, engine: Engine | None
) -> tuple[Handler, str | None]:
    """Return what handles the events of a subscription, and its name. A flow becomes known to the engine and the bus.

    Raises `TypeError` for what no event can be handed to, `GraphError` for a flow that cannot be compiled.
    """
    if isinstance(handler, Flow):
        if engine is None:
            msg = f"flow {handler.name!r} needs an engine to run on: bus.subscribe(pattern, flow, engine=engine)"
            raise TypeError(msg)
        bus.learn(engine.register(handler).codec.registry)
        name = handler.name if name is None else name
        return FlowHandler(handler, engine, name), name
    if engine is not None:
        msg = f"engine= is for a flow, and {handler!r:.100} is none: drop it, or wrap the function in a Graph"
        raise TypeError(msg)
    if not callable(handler):
        msg = f"{handler!r:.100} cannot be handed an event: give a function of the event, or a flow with engine="
        raise TypeError(msg)
    return handler, name


class FlowHandler:
    """Starts a run of a flow for each event, under an id made of the subscription's name and the event's id.

    The event is handled once its run is on disk. One that is delivered again finds that run, and goes on with it if
    its process has died. The status events of the flow's own runs (`run.started` and the like) start nothing.
    """

    def __init__(self, flow: Flow, engine: Engine, name: str) -> None:
        self._flow, self._engine, self._name = flow, engine, name

    async def __call__(self, event: BusEvent) -> None:
        """Start the run of an event, or leave it as it is if it has ended or is driven elsewhere."""
        if self._engine.is_closed:
            here = handled_now()
            assert here is not None
            here.subscription.cancel()  # it keeps its place: the event comes again, where an engine is open
            raise BusError(f"the engine on which flow {self._flow.name!r} hears {event.topic!r} is closed")
        if event.topic in STATUS_TOPICS and event.agent_id == self._flow.name:
            return  # its own run's status, which would start the next run, and so on
        run_id = run_id_of(self._name, event.id)
        try:
            if await self._engine.status(run_id) not in _UNDER_WAY:
                return
        except RunNotFound:
            pass  # the first delivery
        about = {"topic": event.topic, "id": event.id, "agent_id": event.agent_id}
        try:
            await self._engine.start(self._flow, event.data, run_id=run_id, context={"event": about})
        except RunBusy:
            return  # another process has got it, too


def run_id_of(name: str, event_id: str) -> str:
    """Return the id of the run that a subscription starts for an event: `name:event_id`, or a digest of the two."""
    plain = f"{name}:{event_id}"
    try:
        if ":" not in name:  # else two pairs could make one id
            return check_run_id(plain)
    except BadRunId:
        pass
    return sha256(repr((name, event_id)).encode("utf-8", "surrogatepass")).hexdigest()
