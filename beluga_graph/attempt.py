"""One attempt of one node: what it is given, what it sees, what it may write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from beluga_graph.clock import Clock
from beluga_graph.codec import TooLarge
from beluga_graph.errors import StateError
from beluga_graph.events import revive
from beluga_graph.kernel.snapshot import Snapshot, Token
from beluga_graph.kernel.triggers import NodeFailed, NodeFinished
from beluga_graph.kernel.words import Value
from beluga_graph.plan import Binding, Plan
from beluga_graph.state import StateView
from beluga_graph.threads import DaemonPool

__all__ = ["Attempt", "Ended", "Hands", "Items", "Memory"]


class Items(NamedTuple):
    """New items of one append field."""

    place: str
    field: str
    items: list[bytes]


class Ended(NamedTuple):
    """How an attempt ended: the trigger, and what travels beside it to the store."""

    trigger: NodeFinished | NodeFailed
    blobs: tuple[tuple[bytes, bytes], ...] = ()
    """Large values: what stands for each in the trigger, and its bytes."""
    items: tuple[Items, ...] = ()
    error: BaseException | None = None


class Memory(Protocol):
    """What an attempt reads of its run's stored data."""

    def load(self, value: bytes) -> bytes:
        """Return an encoded value whole; large ones are stored apart."""
        ...

    def put_away(self, encoded: bytes) -> bytes:
        """Return what stands for a value: itself, or a reference if it is large."""
        ...

    def items(self, place: str, field: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield encoded items of an append field's layer."""
        ...


class Hands(NamedTuple):
    """What the engine lends to every attempt."""

    clock: Clock
    pool: DaemonPool
    deps: Any


class Attempt:
    """One attempt under way. The context that a user's function gets is a face of this."""

    __slots__ = (
        "_loop",
        "_show",
        "_state",
        "binding",
        "blobs",
        "hands",
        "memory",
        "plan",
        "run",
        "texts",
        "token",
    )

    def __init__(
        self,
        plan: Plan,
        run: Snapshot,
        token: Token,
        memory: Memory,
        hands: Hands,
        show: Callable[[Token, str], None] | None,
    ) -> None:
        self.plan = plan
        self.run = run
        self.token = token
        self.memory = memory
        self.hands = hands
        self.binding: Binding = plan.bindings[token.node]
        self.texts: list[str] = []
        self.blobs: list[tuple[bytes, bytes]] = []
        self._show = show
        self._state: StateView | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def deps(self) -> Any:
        """The engine's live resources."""
        return self.hands.deps

    @property
    def state(self) -> StateView:
        """The state that the node sees. Raises `StateError` if its graph has none."""
        if self._state is None:
            binding = self.binding.state
            if binding is None:
                frame = self.plan.shape.nodes[self.token.node].frame or self.plan.name
                raise StateError("", f"graph {frame!r} has no state: build it with state=<a pydantic model>")
            self._state = StateView(binding, self.run, self.token.place, self)
        return self._state

    @property
    def touched_state(self) -> StateView | None:
        """The state view, if anything looked at it."""
        return self._state

    def decode(self, value: Value) -> Any:
        """Return a fresh copy of a value; a failure becomes a `Failure`."""
        return revive(self.plan.codec, self.memory.load, value)

    def encode(self, value: Any) -> bytes:
        """Return a value's bytes."""
        return self.plan.codec.encode(value)

    def keep(self, value: Any) -> bytes:
        """Encode a value for the trigger; a large one travels beside it."""
        encoded = self.plan.codec.encode(value)
        if self.run.limits and len(encoded) > self.run.limits["max_value_bytes"]:
            raise TooLarge(len(encoded), self.run.limits["max_value_bytes"])
        kept = self.memory.put_away(encoded)
        if kept is not encoded:
            self.blobs.append((kept, encoded))
        return kept

    def items(self, place: str, field: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield encoded items of an append field's layer."""
        return self.memory.items(place, field, start, stop)

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
