"""A store that several engines share, with commits that wait or fail exactly where a test needs it."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from beluga_graph import END, START, Context, Engine, Graph
from stores import Delete, MemoryStore, Put
from stores.base import Op

__all__ = ["RUN", "Held", "Refused", "WrappedStore", "ends", "owns", "park", "stepping", "steps", "takes", "until"]

RUN = "r"
PATIENCE_S = 60.0

Fits = Callable[[Sequence[Op]], bool]


class WrappedStore:
    """One engine's access to a store in memory. `shared` makes the engine commit in its writer thread."""

    private = True
    folder: Path | None = None

    def __init__(
        self,
        disk: MemoryStore,
        *,
        shared: bool = False,
        before: Callable[[Sequence[Op]], None] | None = None,
        reading: Callable[[bytes], None] | None = None,
    ) -> None:
        self.disk = disk
        self.shared = shared
        self.before = before
        self.reading = reading  # called with each key and prefix after the read

    def get(self, key: bytes) -> bytes | None:
        found = self.disk.get(key)
        if self.reading is not None:
            self.reading(key)
        return found

    def scan(self, prefix: bytes, **options: Any) -> Iterator[tuple[bytes, bytes]]:
        found = list(self.disk.scan(prefix, **options))
        if self.reading is not None:
            self.reading(prefix)
        return iter(found)

    def commit(self, *ops: Op) -> None:
        if self.before is not None:
            self.before(ops)
        self.disk.commit(*ops)

    def close(self) -> None:
        """Keep the underlying store open."""


def _puts(ops: Sequence[Op], kind: bytes) -> bool:
    return any(type(op) is Put and op.key[:1] == kind for op in ops)


def owns(ops: Sequence[Op]) -> bool:
    """Return whether a commit writes an owner's record."""
    return _puts(ops, b"O")


def takes(ops: Sequence[Op]) -> bool:
    """Return whether a commit writes a lease."""
    return _puts(ops, b"L")


def steps(ops: Sequence[Op]) -> bool:
    """Return whether a commit writes a step."""
    return _puts(ops, b"S")


def ends(ops: Sequence[Op]) -> bool:
    """Return whether a commit ends or fails a run."""
    return any(type(op) is Delete and op.key[:1] == b"A" for op in ops)


class Held:
    """The first matching commit waits in its thread until it is released."""

    def __init__(self, fits: Fits, error: Exception | None = None) -> None:
        self._fits, self._error = fits, error
        self._reached, self._open = threading.Event(), threading.Event()

    def __call__(self, ops: Sequence[Op]) -> None:
        if not self._reached.is_set() and self._fits(ops):
            self._reached.set()
            assert self._open.wait(PATIENCE_S)
            if self._error is not None:
                raise self._error

    async def reached(self) -> None:
        await until(self._reached.is_set)

    def let_go(self) -> None:
        self._open.set()


class Refused:
    """The first matching commit is refused."""

    def __init__(self, fits: Fits, error: Exception) -> None:
        self._fits = fits
        self._errors = [error]

    def __call__(self, ops: Sequence[Op]) -> None:
        if self._errors and self._fits(ops):
            raise self._errors.pop()


async def until(holds: Callable[[], Any]) -> None:
    """Wait until a condition holds that no event announces."""
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, "what the test waits for never came"
        await asyncio.sleep(0.001)


def stepping(calls: list[str]) -> Graph:
    """Return a flow of `a`, `b` and `c`. Each records that it began, and waits for its event in `deps`."""
    g = Graph("stepping")

    def node(name: str) -> None:
        @g.node(name=name)
        async def body(ctx: Context, value: int) -> int:
            calls.append(name)
            if name in (ctx.deps or {}):
                await ctx.deps[name].wait()
            return value

    for name in "abc":
        node(name)
    for source, target in zip([START, *"abc"], [*"abc", END], strict=True):
        g.edge(source, target)
    return g


async def park(disk: MemoryStore) -> None:
    """Store a run that is at node `a` and has no owner."""
    calls: list[str] = []
    async with Engine(WrappedStore(disk), deps={"a": asyncio.Event()}) as engine:
        await engine.start(stepping(calls), 1, run_id=RUN)
        await until(lambda: calls)
