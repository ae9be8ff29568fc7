"""The processes of a storm. Each is a fork of the controller, which has everything imported and nothing open."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any

from storm_flows import Effects, Run, answer_to, flow_of, payload_of

import beluga_graph.engine.serving
import beluga_graph.engine.waking
import beluga_graph.storage.leases
import stores.environment
from beluga_graph import BelugaError, Engine, EventBus, RunConflict, RunNotFound
from stores import LMDBStore
from stores.base import Durability, Op
from stores.transactions import apply

__all__ = ["POINTS", "Fuse", "Round", "forked", "sender", "server", "starter"]

POINTS = ("before_commit", "inside_commit", "after_commit")
_ENDED = ("completed", "failed", "cancelled")
_LOOK_S = 0.02
_LEASE_S, _RENEW_S, _TRY_AGAIN_S = 0.6, 0.1, 0.2  # so that a freeze is long enough to be taken over


@dataclass(frozen=True)
class Round:
    """One store, its runs, and how many processes drive them."""

    folder: Path
    seed: str
    durability: Durability
    processes: int
    runs: tuple[Run, ...]
    is_far: bool
    """Whether signals and answers come from a process that drives no runs, or from the driving processes."""

    @property
    def store(self) -> Path:
        """Return the path of the store."""
        return self.folder / "store"

    @property
    def over(self) -> Path:
        """Return the path of the file that exists when every run has ended."""
        return self.folder / "over"


class Fuse:
    """Kills its process when a point of a commit is passed for the `count`-th time."""

    def __init__(self, point: str = "", count: int = 0) -> None:
        self._point, self._left = point, count

    def passes(self, point: str) -> None:
        """Die here if it is time."""
        if point == self._point:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class _FusedStore:
    def __init__(self, inner: LMDBStore, fuse: Fuse) -> None:
        self._inner, self._fuse = inner, fuse

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def commit(self, *ops: Op) -> None:
        self._fuse.passes("before_commit")
        self._inner.commit(*ops)
        self._fuse.passes("after_commit")


class _FusedTransaction:
    def __init__(self, inner: Any, fuse: Fuse) -> None:
        self._inner, self._fuse = inner, fuse

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def commit(self) -> None:
        self._fuse.passes("inside_commit")  # everything is written, and nothing is committed
        self._inner.commit()


def forked(round_: Round, name: str, main: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Run a coroutine in a process of its own, whose output goes to a file of the round; return its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        output = os.open(round_.folder / f"{name}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout = sys.stderr = os.fdopen(output, "w", buffering=1)
        logging.basicConfig(level=logging.WARNING, stream=sys.stderr, force=True)
        beluga_graph.storage.leases.LEASE_S, beluga_graph.storage.leases.RENEW_S = _LEASE_S, _RENEW_S
        beluga_graph.engine.waking._TRY_AGAIN_S = beluga_graph.engine.serving._TRY_AGAIN_S = _TRY_AGAIN_S
        asyncio.run(main())
        code = 0
    except BaseException:  # noqa: BLE001  # the controller reports it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


async def starter(round_: Round) -> None:
    """Start the runs that may fail. To start a failed one again would resume it, so it is done once."""
    store = LMDBStore(round_.store, durability=round_.durability)
    effects = Effects(round_.folder / "effects", Random(round_.seed))
    async with Engine(store, durability=round_.durability, deps=effects) as engine:
        for run in round_.runs:
            if run.kind != "workflow":
                await engine.start(flow_of(run), 7, run_id=run.run_id)
    store.close()


async def server(round_: Round, seed: str, fuse: Fuse) -> None:
    """Drive the runs until SIGTERM, or until the process is killed."""
    chance = Random(seed)
    stores.environment.apply = lambda txn, ops: apply(_FusedTransaction(txn, fuse), ops)
    inner = LMDBStore(round_.store, durability=round_.durability)
    store: Any = _FusedStore(inner, fuse)
    effects = Effects(round_.folder / "effects", chance)
    async with (
        EventBus(store) as bus,
        Engine(store, durability=round_.durability, bus=bus, deps=effects) as engine,
    ):
        for run in round_.runs:
            engine.register(flow_of(run))
        serving = asyncio.create_task(engine.serve(grace=0.1))
        tending = asyncio.create_task(_tend(engine, round_, chance))
        await asyncio.wait({serving, tending}, return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            tending.result()
            await serving
        tending.cancel()
        serving.result()
    inner.close()


async def sender(round_: Round, seed: str) -> None:
    """Send the signals that the runs wait for, without driving them."""
    store = LMDBStore(round_.store, durability=round_.durability)
    async with Engine(store, durability=round_.durability) as engine:
        await _supply(engine, round_, Random(seed))
    store.close()


async def _tend(engine: Engine, round_: Round, chance: Random) -> None:
    """Start the workflows, and drive them unless another process does."""
    for run in round_.runs:
        if run.kind == "workflow":
            with suppress(BelugaError):  # another process of the storm drives it, or has ended it
                await engine.start(flow_of(run), 7, run_id=run.run_id)
    if not round_.is_far:
        await _supply(engine, round_, chance)
    while not await _are_over(engine, round_):  # noqa: ASYNC110  # other processes end runs, too
        await asyncio.sleep(_LOOK_S)
    round_.over.touch()


async def _supply(engine: Engine, round_: Round, chance: Random) -> None:
    """Answer every question and send every signal, until all runs have ended."""
    while not await _are_over(engine, round_):
        for question in await engine.pending():
            with suppress(RunConflict):  # another process was faster
                await engine.answer(question.run_id, question.id, answer_to(question.node))
        for run in round_.runs:
            with suppress(RunNotFound, RunConflict):
                await (_send_next if run.kind == "workflow" else _send_waited)(engine, round_, run, chance)
        await asyncio.sleep(_LOOK_S)


async def _are_over(engine: Engine, round_: Round) -> bool:
    try:
        return all([await engine.status(run.run_id) in _ENDED for run in round_.runs])
    except RunNotFound:
        return False


async def _send_waited(engine: Engine, round_: Round, run: Run, _: Random) -> None:
    """Send a random graph the signals that its tokens wait for."""
    if await engine.status(run.run_id) in _ENDED:
        return
    for token in (await engine.snapshot(run.run_id)).tokens:
        name = token.node.rpartition("/")[2]
        place = blake2b(token.name.encode()).hexdigest()[:32]
        if token.state == "wait" and name.startswith("await") and not _is_noted(round_, run, place):
            await engine.signal(run.run_id, name, payload_of(name))
            _note(round_, run, place)


async def _send_next(engine: Engine, round_: Round, run: Run, chance: Random) -> None:
    """Send a workflow its next payload, whether it waits for it or not."""
    await engine.status(run.run_id)  # a run that is not started yet cannot be sent anything
    for place in range(run.signals):
        if _is_noted(round_, run, f"accepted-{place}"):
            continue
        if chance.random() < 0.3:
            return
        try:
            _note(round_, run, f"tried-{place}", os.O_EXCL)
        except FileExistsError:  # another process sends it now, or died while it sent it
            if chance.random() < 0.8:
                return
            _note(round_, run, f"repeated-{place}")
        await engine.signal(run.run_id, "go", f"payload {place}")
        _note(round_, run, f"accepted-{place}")
        if chance.random() < 0.3:  # else the next one comes while nothing waits for it yet
            return


def _mark(round_: Round, run: Run, what: str) -> Path:
    return round_.folder / "sent" / f"{run.run_id} {what}"


def _note(round_: Round, run: Run, what: str, flags: int = 0) -> None:
    path = _mark(round_, run, what)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o600))


def _is_noted(round_: Round, run: Run, what: str) -> bool:
    return _mark(round_, run, what).exists()
