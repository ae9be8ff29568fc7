"""One attempt of one node: the values that it reads, and the results that it collects."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

from beluga_graph.clock import Clock
from beluga_graph.codec.errors import NotData
from beluga_graph.errors import LimitReached, StateError
from beluga_graph.execution.decoded_cache import DecodedCache
from beluga_graph.execution.result import MESSAGES_MAX, PendingMessage
from beluga_graph.execution.state_view import AttemptState, StateView
from beluga_graph.execution.stored_values import StoredValues
from beluga_graph.execution.thread_pool import DaemonPool
from beluga_graph.kernel.rules import get_limit
from beluga_graph.kernel.run_session import RunSession
from beluga_graph.kernel.snapshot import Snapshot, Token
from beluga_graph.kernel.types import EventFields, Value
from beluga_graph.plan.plan import Binding, Plan
from beluga_graph.topics import check_topic

__all__ = ["Attempt", "ExecutionResources", "TimeLimit"]


@dataclasses.dataclass(frozen=True, slots=True)
class ExecutionResources:
    """The resources of an engine that all attempts share."""

    clock: Clock
    pool: DaemonPool
    deps: Any
    shared_cache: DecodedCache = dataclasses.field(default_factory=DecodedCache)
    """Objects that an attempt of any run has decoded, for later attempts."""


class TimeLimit:
    """The time that the code of an attempt may take. Waiting for a free thread does not count."""

    def __init__(self, clock: Clock, allowed_ms: int, on_expired: Callable[[], None]) -> None:
        self._clock, self._left_ms, self._on_expired = clock, allowed_ms, on_expired
        self._due_ms = 0
        self._cancel_timer: Callable[[], None] | None = None

    def start(self) -> None:
        """Start, or continue, to count the time."""
        self._due_ms = self._clock.now_ms() + self._left_ms
        self._cancel_timer = self._clock.call_at(self._due_ms, self._on_expired)

    def stop(self) -> None:
        """Stop counting. Idempotent."""
        if self._cancel_timer is not None:
            self._cancel_timer()
            self._cancel_timer = None
            self._left_ms = max(0, self._due_ms - self._clock.now_ms())


class Attempt:
    """One attempt in progress. The `Context` of a user's function is a view of it."""

    __slots__ = (
        "_loop",
        "_on_text",
        "_state",
        "binding",
        "blobs",
        "chosen_route",
        "ensure_lease",
        "event_values",
        "events",
        "messages",
        "plan",
        "reason",
        "resources",
        "run",
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
        resources: ExecutionResources,
        on_text: Callable[[Token, str], None] | None,
        ensure_lease: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.plan = plan
        self.run = run
        self.token = token
        self.values = values
        self.resources = resources
        self.binding: Binding = plan.bindings[token.node]
        self.texts: list[str] = []
        self.events: list[EventFields] = []
        self.event_values: list[bytes] = []  # the outputs of the events
        self.chosen_route: Any = None  # the route of a body that also chooses it
        self.usage: dict[str, int] = {}
        self.reason = ""  # why the loop around the node ended
        self.blobs: list[tuple[bytes, bytes]] = []
        self.messages: list[PendingMessage] = []
        # Raises if this engine has lost the run. Called after a wait, before user code begins.
        self.ensure_lease = ensure_lease
        self.time_limit: TimeLimit | None = None
        self._on_text = on_text
        self._state: AttemptState | None = None
        self._loop = asyncio.get_running_loop()

    # Reading.

    @property
    def deps(self) -> Any:
        """The engine's live resources."""
        return self.resources.deps

    @property
    def context(self) -> Any:
        """The data given with the run, and the additions from the state of the frames around the node.

        The additions of an inner frame win over those of an outer one.
        """
        given = {} if self.run.context is None else self.decode(self.run.context)
        added = self._context_additions()
        if not added:
            return given
        merged = dict(given) if isinstance(given, dict) else {}
        for fields in reversed(added):
            merged.update(fields)
        return merged

    def _context_additions(self) -> list[dict[str, Any]]:
        """Return the additions to the context from the state around the node, innermost frame first."""
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
            known_items = self.values.source.known_items
            self._state = AttemptState(binding, self.run, self.token.place, self, known_items, node=self.token.node)
        return self._state

    @property
    def view(self) -> StateView:
        """The state as the node's function sees it. Raises `StateError` if its graph has none."""
        return StateView(self.state)

    @property
    def touched_state(self) -> AttemptState | None:
        """The state, if the attempt has used it."""
        return self._state

    @property
    def in_run_itself(self) -> bool:
        """Whether the node's state belongs to the run itself, not to a frame within it."""
        return self.run.layers(self.token.place)[0] == ""

    @property
    def session(self) -> RunSession | None:
        """The session that the node's conversation continues; `None` in a frame within the run."""
        return RunSession(*self.run.session) if self.run.session is not None and self.in_run_itself else None

    def decode(self, value: Value) -> Any:
        """Return a new copy of a value; a failure becomes a `Failure`."""
        return self.values.decode(value)

    def read_items(self, place: str, field: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield encoded items of an append field's layer."""
        return self.values.source.read_items(place, field, start, stop)

    def read_session_items(self, start: int) -> Iterator[bytes]:
        """Yield the encoded items that the run's session began with, from `start` on, with references followed."""
        source = self.values.source
        return map(source.load, source.read_session_items(self.run, start))

    def limit(self, name: str) -> int:
        """Return a limit in force."""
        return get_limit(self.plan.shape, self.run, name)

    # Collecting results.

    def encode(self, value: Any) -> bytes:
        """Return a value's bytes. Raises `NotData`, `LimitReached`."""
        return self.plan.encode(value, self.limit("max_value_bytes") if self.run.limits else None)

    def store_value(self, value: Any) -> bytes:
        """Encode a value for the trigger, as `store_encoded` does. Raises `NotData`, `LimitReached`."""
        return self.store_encoded(self.encode(value))

    def store_encoded(self, encoded: bytes) -> bytes:
        """Return an encoded value for the trigger, or a reference to a large one, which is stored beside it."""
        stored = self.values.source.to_reference(encoded)
        if stored is not encoded:
            self.blobs.append((stored, encoded))
        return stored

    def emit(self, kind: str, *, output: Any = None, **fields: Any) -> None:
        """Add a stored event to the step. A large `output` is stored once, even if other values equal it."""
        index = None
        if output is not None:
            index = len(self.event_values)
            self.event_values.append(self.store_value(output))
        self.events.append((kind, self.token.node, self.token.name, fields, index))

    def publish(self, topic: str, data: Any) -> None:
        """Collect a message to publish once the step is committed. Raises `BadTopic`, `NotData`, `LimitReached`."""
        check_topic(topic)
        node = self.token.node
        if len(self.messages) >= MESSAGES_MAX:
            raise LimitReached(self.run.run_id, f"node {node!r} publishes more than {MESSAGES_MAX:,} messages at once")
        try:
            value = self.store_value(data)
        except NotData as error:
            reason = f"{error.reason}; node {node!r} published it to {topic!r}"
            raise NotData(error.path, error.type_name, error.shown, reason) from None
        self.messages.append(PendingMessage(topic, self.plan.shape.nodes[node].agent or node, value))

    def choose_route(self, route: Any) -> None:
        """Choose the route out of the node."""
        self.chosen_route = route

    def add_usage(self, **amounts: int) -> None:
        """Count amounts against the usage of the run."""
        for name, amount in amounts.items():
            self.usage[name] = self.usage.get(name, 0) + amount

    def emit_text(self, text: str) -> None:
        """Collect a piece of text and show it to watchers. Thread-safe."""
        self.texts.append(text)
        if self._on_text is None:
            return
        try:
            on_loop = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            on_loop = False
        if on_loop:
            self._on_text(self.token, text)
        else:
            self._loop.call_soon_threadsafe(self._on_text, self.token, text)

    # Calling.

    async def in_thread(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a sync function in one of the engine's threads."""
        pool = self.resources.pool
        if not pool.try_acquire():
            await self._acquire_thread(pool)
        return await pool.call(partial(call, **kwargs) if kwargs else call, *args)

    async def _acquire_thread(self, pool: DaemonPool) -> None:
        """Wait for a thread, with the time limit stopped. Raises if this engine has lost the run meanwhile."""
        if self.time_limit is not None:
            self.time_limit.stop()
        await pool.acquire()
        try:
            if self.ensure_lease is not None:
                await self.ensure_lease()
        except BaseException:
            pool.release()
            raise
        if self.time_limit is not None:
            self.time_limit.start()
