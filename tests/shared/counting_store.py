"""A store in memory that counts, and flows of any length and width to measure with it."""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BaseModel

from beluga_graph import END, START, Graph, Limits, append
from stores import MemoryStore

__all__ = ["PART", "PLENTY", "CountingStore", "Talk", "talking", "wide"]

PLENTY = Limits(max_visits=100_000)
PART = 200


class CountingStore:
    """A store in memory that counts what goes through it."""

    def __init__(self) -> None:
        self._inner = MemoryStore()
        self.commits = 0
        self.bytes_read = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def get(self, key: bytes) -> bytes | None:
        value = self._inner.get(key)
        self.bytes_read += len(value or b"")
        return value

    def scan(self, prefix: bytes, **options: Any) -> Iterator[tuple[bytes, bytes]]:
        for key, value in self._inner.scan(prefix, **options):
            self.bytes_read += len(value)
            yield key, value

    def commit(self, *ops: Any) -> None:
        self.commits += 1
        self._inner.commit(*ops)

    def size(self, kind: bytes = b"") -> int:
        return sum(len(key) + len(value) for key, value in self._inner.scan(kind))

    def records(self, kind: bytes) -> list[bytes]:
        return [value for _, value in self._inner.scan(kind)]


class Talk(BaseModel):
    said: Annotated[list[str], append] = []


def talking(turns: int) -> Graph:
    g = Graph("talking", state=Talk, limits=PLENTY)

    @g.node
    async def speak(ctx, value):
        ctx.update(said="x" * PART)
        return value + 1

    @g.node
    async def listen(ctx, value):
        return value if value == turns else len(ctx.state.said)

    g.edge(START, speak)
    g.edge(speak, listen)
    g.branch(listen, lambda value: value >= turns, {True: END, False: speak})
    return g


def wide(width: int) -> Graph:
    g = Graph("wide")

    @g.node
    async def instant(value):
        return value

    g.fan_out("out", to=instant, over=lambda value: range(width), join="in")
    g.join("in", len)
    g.edge(START, "out")
    g.edge("in", END)
    return g
