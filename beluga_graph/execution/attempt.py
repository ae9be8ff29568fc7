"""One attempt of one node: what it is given, what it sees, what it may write."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from beluga_graph.clock import Clock
from beluga_graph.codec.errors import NotData
from beluga_graph.errors import LimitReached, StateError
from beluga_graph.execution.decoded_cache import DecodedCache
from beluga_graph.execution.result import MESSAGES_MAX, PendingMessage
from beluga_graph.execution.state_view import AttemptState, StateView
from beluga_graph.execution.stored_values import StoredValues
from beluga_graph.execution.thread_pool import DaemonPool
from beluga_graph.kernel.rules import get_limit
from beluga_graph.kernel.snapshot import Snapshot, Token
from beluga_graph.kernel.types import EventFields, Value
from beluga_graph.plan.plan import Binding, Plan
from beluga_graph.topics import check_topic

__all__ = ["Attempt", "ExecutionResources", "RunSession", "TimeLimit"]


class RunSession(NamedTuple):
    """The session that a run continues, as it was when the run took it."""

    flow: str
    id: str
    version: int
    length: int
    """Number of messages."""
    generation: int
    """Grows by one each time an input filter replaces the history."""
    active: str
    """The agent that answered last."""
    run: str
    """The run that has the session."""


@dataclasses.dataclass(frozen=True, slots=True)
class ExecutionResources:
    """What the engine lends to every attempt."""

    clock: Clock
    pool: DaemonPool
    deps: Any
    recent: DecodedCache = dataclasses.field(default_factory=DecodedCache)
    """What attempts of any run have decoded and the next ones can use."""


class TimeLimit:
    """The time that the code of an attempt may take. What it waits for a free thread is not counted."""

    def __init__(self, clock: Clock, allowed_ms: int, on_expired: Callable[[], None]) -> None:
        self._clock, self._left_ms, self._on_expired = clock, allowed_ms, on_expired
        self._due_ms = 0
        self._take_back: Callable[[], None] | None = None

    def start(self) -> None:
        """Count from now on."""
        self._due_ms = self._clock.now_ms() + self._left_ms
        self._take_back = self._clock.call_at(self._due_ms, self._on_expired)

    def stop(self) -> None:
        """Count no more. Idempotent."""
        if self._take_back is not None:
            self._take_back()
            self._take_back = None
            self._left_ms = max(0, self._due_ms - self._clock.now_ms())


class Attempt:
    """One attempt under way. The context that a user's function gets is a face of this."""

    __slots__ = (
        "_loop",
        "_show",
        "_state",
        "binding",
        "blobs",
        "events",
        "hands",
        "make_sure",
        "messages",
        "plan",
        "reason",
        "run",
        "shown",
        "taken",
        "texts",
        "time_limit",
        "token",
        "usage",
        "values",
    )

    def __init__(
        self,
        plan: Plan,
        run: Snapshot,
        token: Token,
        values: StoredValues,
        hands: ExecutionResources,
        show: Callable[[Token, str], None] | None,
        make_sure: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.plan = plan
        self.run = run
        self.token = token
        self.values = values
        self.hands = hands
        self.binding: Binding = plan.bindings[token.node]
        self.texts: list[str] = []
        self.events: list[EventFields] = []
        self.shown: list[bytes] = []  # what the events refer to
        self.taken: Any = None  # the route that a body took, where choosing is a part of it
        self.usage: dict[str, int] = {}
        self.reason = ""  # why the loop ended that the run's flow is
        self.blobs: list[tuple[bytes, bytes]] = []
        self.messages: list[PendingMessage] = []
        self.make_sure = make_sure  # that the run is still this engine's: to be asked after a wait, before user code
        self.time_limit: TimeLimit | None = None
        self._show = show
        self._state: AttemptState | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def deps(self) -> Any:
        """The engine's live resources."""
        return self.hands.deps

    @property
    def context(self) -> Any:
        """The data given with the run, and what the state of the frames around the node adds, the innermost last."""
        given = {} if self.run.context is None else self.decode(self.run.context)
        added = self._added_context()
        if not added:
            return given
        whole = dict(given) if isinstance(given, dict) else {}
        for fields in reversed(added):
            whole.update(fields)
        return whole

    def _added_context(self) -> list[dict[str, Any]]:
        """Return what the state around the node adds to the context, the innermost first."""
        found: list[dict[str, Any]] = []
        node, place = self.token.node, self.token.place
        while True:
            binding, layers = self.plan.bindings[node].state, self.run.layers(place)
            for field in getattr(binding.model, "adds_to_context", ()) if binding is not None else ():
                held = [self.run.places[layer].fields.get(field) for layer in reversed(layers)]
                found += [self.decode(value) for value in held if value is not None]
            scope = self.run.places[layers[0]].scope
            if scope is None:
                return found
            node, place = self.run.scopes[scope].node, self.run.scopes[scope].place

    @property
    def state(self) -> AttemptState:
        """The state that the node reads and updates. Raises `StateError` if its graph has none."""
        if self._state is None:
            binding = self.binding.state
            if binding is None:
                frame = self.plan.shape.nodes[self.token.node].frame or self.plan.name
                raise StateError("", f"graph {frame!r} has no state: build it with state=<a pydantic model>")
            self._state = AttemptState(
                binding, self.run, self.token.place, self, self.values.source.known_items, node=self.token.node
            )
        return self._state

    @property
    def view(self) -> StateView:
        """The state as the node's function sees it. Raises `StateError` if its graph has none."""
        return StateView(self.state)

    @property
    def touched_state(self) -> AttemptState | None:
        """The state, if anything looked at it."""
        return self._state

    def decode(self, value: Value) -> Any:
        """Return a fresh copy of a value; a failure becomes a `Failure`."""
        return self.values.decode(value)

    def encode(self, value: Any) -> bytes:
        """Return a value's bytes. Raises `NotData`, `LimitReached`."""
        return self.plan.encode(value, self.limit("max_value_bytes") if self.run.limits else None)

    def keep(self, value: Any) -> bytes:
        """Encode a value for the trigger; a large one travels beside it."""
        return self.keep_encoded(self.encode(value))

    def keep_encoded(self, encoded: bytes) -> bytes:
        """Return what stands for an encoded value in the trigger."""
        kept = self.values.source.to_reference(encoded)
        if kept is not encoded:
            self.blobs.append((kept, encoded))
        return kept

    def read_items(self, place: str, field: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield encoded items of an append field's layer."""
        return self.values.source.read_items(place, field, start, stop)

    @property
    def in_run_itself(self) -> bool:
        """Whether the node's state is that of the run, not of a frame within it."""
        return self.run.layers(self.token.place)[0] == ""

    @property
    def session(self) -> RunSession | None:
        """The session that the node's conversation continues; a frame within the run has none."""
        return RunSession(*self.run.session) if self.run.session is not None and self.in_run_itself else None

    def read_session_items(self, start: int) -> Iterator[bytes]:
        """Yield the encoded items that the run's session began with, from `start` on, each whole."""
        source = self.values.source
        return map(source.load, source.read_session_items(self.run, start))

    def emit(self, kind: str, *, output: Any = None, **fields: Any) -> None:
        """Add a stored event to the step; a large `output` is stored once, wherever else it is used."""
        index = None
        if output is not None:
            index = len(self.shown)
            self.shown.append(self.keep(output))
        self.events.append((kind, self.token.node, self.token.name, fields, index))

    def publish(self, topic: str, data: Any) -> None:
        """Collect what is published once the step is committed. Raises `BadTopic`, `NotData`, `LimitReached`."""
        check_topic(topic)
        node = self.token.node
        if len(self.messages) >= MESSAGES_MAX:
            raise LimitReached(self.run.run_id, f"node {node!r} publishes more than {MESSAGES_MAX:,} messages at once")
        try:
            value = self.keep(data)
        except NotData as error:
            reason = f"{error.reason}; node {node!r} published it to {topic!r}"
            raise NotData(error.path, error.type_name, error.shown, reason) from None
        self.messages.append(PendingMessage(topic, self.plan.shape.nodes[node].agent or node, value))

    def take(self, route: Any) -> None:
        """Choose the way out of the node."""
        self.taken = route

    def add_usage(self, **amounts: int) -> None:
        """Count something against the run."""
        for name, amount in amounts.items():
            self.usage[name] = self.usage.get(name, 0) + amount

    def limit(self, name: str) -> int:
        """Return a limit in force."""
        return get_limit(self.plan.shape, self.run, name)

    async def in_thread(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a sync function in one of the engine's threads."""
        pool = self.hands.pool
        if not pool.take():
            await self._free_thread(pool)
        return await pool.call(partial(call, **kwargs) if kwargs else call, *args)

    async def _free_thread(self, pool: DaemonPool) -> None:
        """Wait for a thread; then the attempt's time goes on, if the run is still this engine's."""
        if self.time_limit is not None:
            self.time_limit.stop()
        await pool.wait()
        try:
            if self.make_sure is not None:
                await self.make_sure()
        except BaseException:
            pool.give_back()
            raise
        if self.time_limit is not None:
            self.time_limit.start()

    def emit_text(self, text: str) -> None:
        """Collect a piece of text and show it to watchers; callable from any thread."""
        self.texts.append(text)
        if self._show is None:
            return
        try:
            on_loop = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            on_loop = False
        if on_loop:
            self._show(self.token, text)
        else:
            self._loop.call_soon_threadsafe(self._show, self.token, text)
