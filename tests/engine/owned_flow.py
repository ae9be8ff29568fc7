"""A flow of three nodes and a program that runs it, for the tests of ownership.

As a program it takes one JSON object: `store`, `effects`, `stop` (where the process freezes: `""`, `"node"` or
`"commit"`), `lease_s`. It reports each event on a line of its standard output.
"""

import asyncio
import json
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import beluga_graph.storage.leases
import stores.environment
from beluga_graph import END, START, BelugaError, Context, Engine, Graph
from stores import LMDBStore
from stores.transactions import apply

RUN_ID = "owned"


@dataclass
class Outside:
    """The resources of the nodes: a file of effects, a gate, a way to freeze."""

    folder: Path
    stop: str = ""
    store: "OneAtATime | None" = None

    def happen(self, ctx: Context) -> None:
        with (self.folder / "effects").open("a") as file:
            file.write(f"{ctx.node}\n")

    @property
    def open(self) -> bool:
        return (self.folder / "open").exists()

    def effects(self) -> list[str]:
        return (self.folder / "effects").read_text().split()


def flow() -> Graph:
    g = Graph("owned")

    @g.node
    async def first(ctx, value):
        ctx.deps.happen(ctx)
        return value + 1

    @g.node
    async def gate(ctx, value):
        ctx.deps.happen(ctx)
        if ctx.deps.stop == "node":
            with ctx.deps.store.turn:  # no other thread may be inside a commit here
                freeze_process()
            return value + 1
        while not ctx.deps.open:  # noqa: ASYNC110  # what is waited for is another process
            await asyncio.sleep(0.005)
        return value + 1

    @g.node
    async def last(ctx, value):
        ctx.deps.happen(ctx)
        return value + 1

    g.edge(START, first)
    g.edge(first, gate)
    g.edge(gate, last)
    g.edge(last, END)
    return g


class OneAtATime:
    """A store whose process is never frozen inside a commit."""

    def __init__(self, inner: LMDBStore) -> None:
        self._inner, self.turn = inner, threading.Lock()

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def commit(self, *ops) -> None:
        with self.turn:
            self._inner.commit(*ops)


class FreezingTransaction:
    """An LMDB transaction that freezes the process after the last write."""

    def __init__(self, inner) -> None:
        self._inner = inner

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def commit(self) -> None:
        freeze_process()
        self._inner.commit()


wakings = 0  # how often this process was woken


def count_wakings() -> None:
    """Count the wakings of this process from now on, which `freeze_process` needs."""

    def on_woken(*_) -> None:
        global wakings  # noqa: PLW0603
        wakings += 1

    signal.signal(signal.SIGCONT, on_woken)


def freeze_process() -> None:
    """Stop this process until another one wakes it.

    The kernel stops one thread after the other, so this one may continue for a while after it has sent the signal.
    """
    before = wakings
    os.kill(os.getpid(), signal.SIGSTOP)
    while wakings == before:
        time.sleep(0.001)


def say(word: str) -> None:
    print(word, flush=True)


async def main() -> None:
    job = json.loads(sys.argv[1])
    count_wakings()
    beluga_graph.storage.leases.LEASE_S, beluga_graph.storage.leases.RENEW_S = job["lease_s"], job["lease_s"] / 4
    if job["stop"] == "commit":
        stores.environment.apply = lambda txn, ops: apply(FreezingTransaction(txn), ops)
    store = OneAtATime(LMDBStore(job["store"]))
    outside = Outside(Path(job["effects"]), job["stop"], store)
    async with Engine(store, deps=outside) as engine:
        run = await engine.start(flow(), 0, run_id=RUN_ID)
        say("started")
        try:
            say(f"output {await run.result()}")
        except BelugaError as error:
            say(type(error).__name__)
    store.close()


if __name__ == "__main__":
    asyncio.run(main())
