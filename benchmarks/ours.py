"""The workloads on the engine: at each durability, and without a store."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import cast

from beluga_graph import Engine, Graph
from benchmarks import flows
from benchmarks.workloads import BLOB_STEPS, CHAIN_STEPS
from stores.base import Durability, Store

__all__ = ["Ours"]


class Ours:
    """Runs workloads on an engine. `store` replaces the variant's own."""

    def __init__(self, variant: str, folder: Path, store: Store | None = None) -> None:
        self._durability = cast(Durability, "commit" if variant == "memory" else variant)
        self._store = folder / "store" if store is None and variant != "memory" else store
        self._engine: Engine | None = None
        self._blobs: dict[str, Graph] = {}

    async def open(self) -> None:
        """Open the engine."""
        self._engine = Engine(self._store, durability=self._durability)

    async def close(self) -> None:
        """Close the engine."""
        if self._engine is not None:
            await self._engine.close()

    async def prepare(self, workload: str, name: str, size: int) -> float | None:
        """Compile the graphs, which a program does once."""
        if workload in ("w1", "w5"):
            self.engine.register(flows.chain(CHAIN_STEPS if workload == "w5" else size))
        if workload == "w6":  # each run needs a new value: an equal one would already be stored
            text = random.Random(name).randbytes(size // 2).hex()
            self._blobs[name] = flows.blob_chain(BLOB_STEPS, text)
            self.engine.register(self._blobs[name])
        return None

    async def settle(self) -> None:
        """Do nothing: an ended run has no pending data."""

    async def run(self, workload: str, name: str, size: int) -> None:
        """Run the workload once."""
        work = {
            "w1": self.chain,
            "w2": self.loop,
            "w3": self.fan_out,
            "w4": self.loop_to,
            "w5": self.many,
            "w6": self.blob,
            "w8": self.stream,
            "w9": self.count,
        }[workload]
        await work(name, size)

    async def resume(self, name: str, size: int) -> None:
        """Resume the loop of W4."""
        self.engine.register(flows.loop(size // 2))
        run = await self.engine.resume(name)
        output = await run.result()
        assert output["n"] == size, output

    @property
    def engine(self) -> Engine:
        """The open engine."""
        assert self._engine is not None, "open the adapter first"
        return self._engine

    async def chain(self, name: str, steps: int) -> None:
        """W1."""
        output = await self.engine.execute(flows.chain(steps), flows.first_value(), run_id=name)
        assert output["n"] == steps, output

    async def loop(self, name: str, turns: int) -> None:
        """W2."""
        output = await self.engine.execute(flows.loop(turns), flows.first_value(), run_id=name)
        assert output["n"] == 2 * turns, output

    async def loop_to(self, name: str, executions: int) -> None:
        """W4, up to the kill."""
        await self.loop(name, executions // 2)

    async def fan_out(self, name: str, width: int) -> None:
        """W3."""
        output = await self.engine.execute(flows.fan_out(), width, run_id=name)
        assert output == width, output

    async def many(self, name: str, runs: int) -> None:
        """W5."""
        await asyncio.gather(*(self.chain(f"{name}-{index}", CHAIN_STEPS) for index in range(runs)))

    async def blob(self, name: str, size: int) -> None:
        """W6."""
        del size
        output = await self.engine.execute(self._blobs[name], flows.first_value(), run_id=name)
        assert output["n"] == BLOB_STEPS, output

    async def stream(self, name: str, count: int) -> None:
        """W8."""
        got = 0
        async for event in self.engine.stream(flows.speaker(), count, run_id=name):
            got += event.type == "text"
        assert got == count, got

    async def count(self, name: str, steps: int) -> None:
        """W9."""
        output = await self.engine.execute(flows.counter(steps), flows.first_value(), run_id=name)
        assert output["n"] == steps, output
