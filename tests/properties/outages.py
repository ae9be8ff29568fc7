"""The real engine under outages: a tape decides the order in which bodies end, and the store fails on schedule."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from graph_specs import Spec
from graphs import build
from simulation import INTERRUPTS_MAX, RUN_ID, Crash, Disk, Tape, interrupts_of, payload_of

from beluga_graph import Context, Engine, Outcome, Run, RunConflict, RunNotFound
from beluga_graph.kernel.rules import is_answer
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, FAILED
from beluga_graph.storage.keys import Keys
from beluga_graph.storage.loading import read_steps, rebuild
from stores.base import Delete, Durability, Op, StoreError

__all__ = ["Machine", "Outage", "Wire"]

SPINS_MAX = 200_000


class Outage(StoreError):
    """The store is unreachable, as after a power failure."""


class Wire:
    """An engine's connection to the disk. Once it is cut, it reads and writes no more."""

    shared = False
    private = True
    folder: Path | None = None

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.is_cut = False

    def get(self, key: bytes) -> bytes | None:
        self._check()
        return self._disk.store.get(key)

    def scan(self, prefix: bytes, **options: Any) -> Iterator[tuple[bytes, bytes]]:
        self._check()
        return self._disk.store.scan(prefix, **options)

    def commit(self, *ops: Op) -> None:
        self._check()
        try:
            self._disk.commit(ops)
        except Crash as crash:
            self.is_cut = True
            raise Outage from crash

    def close(self) -> None:
        """Leave the disk as it is."""

    def _check(self) -> None:
        if self.is_cut:
            raise Outage


class Machine:
    """Runs one graph on engine after engine, each on the store that the previous one left."""

    def __init__(
        self, spec: Spec, disk: Disk, tape: Tape, durability: Durability = "commit", *, early: bool = False
    ) -> None:
        self.early = early  # signals may be sent while no node waits for them yet
        self.disk = disk
        self.tape = tape
        self.durability = durability
        self.flow = build(spec, self._probe)
        self._interrupts = interrupts_of(self.flow.plan())
        self._sent: dict[str, int] = {}
        self.engine: Engine
        self.wire: Wire
        self.prefixes: list[list[Any]] = []
        self._held: list[asyncio.Future[None]] = []

    async def _probe(self, ctx: Context) -> None:
        assert not self.wire.is_cut, f"{ctx.idempotency_key} was begun by an engine that is cut off"
        await self.disk.probe(ctx)
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._held.append(gate)
        await gate

    async def whole(self, until: Callable[[Run], Awaitable[Any]] | None = None) -> str:
        """Begin or continue the run through every outage until it ends or fails; return its status on disk.

        `until` is called and awaited at some point before the end.
        """
        while True:
            self.boot()
            try:
                run = await self.engine.start(self.flow, 7, run_id=RUN_ID)
                outcome = await self.driven(run, until)
                assert outcome.status == self.status() or until is not None  # which may have changed it since
            except Outage:
                assert self.wire.is_cut
            finally:
                await self.cut()
            status = self.status()
            if status in (COMPLETED, CANCELLED, FAILED):  # to start a failed run again is to resume it
                return status

    def status(self) -> str | None:
        """Return the run's status on disk."""
        try:
            return rebuild(self.disk.store, RUN_ID).status
        except RunNotFound:
            return None

    def boot(self) -> None:
        """Connect a new engine. The previous owner of the run is dead."""
        store = self.disk.store
        store.commit(*(Delete(key) for key, _ in list(store.scan(b"O"))))
        self._held = []
        self.wire = Wire(self.disk)
        self.engine = Engine(self.wire, durability=self.durability)

    async def cut(self) -> None:
        """Cut the power: unwritten data is lost, and no lease is given back."""
        self.wire.is_cut = True
        await self.engine.close()
        self.prefixes.append(list(read_steps(self.disk.store, RUN_ID)))

    async def driven(self, run: Run, until: Callable[[Run], Awaitable[Any]] | None = None) -> Outcome:
        """Let bodies end in the order of the tape, and send the signals that nodes wait for."""
        ended = asyncio.ensure_future(run.outcome())
        try:
            for _ in range(SPINS_MAX):
                for _ in range(self.tape.choose(5)):
                    await asyncio.sleep(0)
                if until is not None and self.disk.commits and self.tape.choose(9) == 8:
                    await until(run)
                    until = None
                if self._interrupts and self.tape.choose(6) == 5:
                    await self._interrupt(run)
                if self.early and self.tape.choose(4) == 3:
                    await self._signal_early(run)
                self._held = [gate for gate in self._held if not gate.done()]
                if ended.done():
                    return ended.result()
                if self._held:
                    self._held.pop(self.tape.choose(len(self._held))).set_result(None)
                elif not await self._signalled(run):
                    await asyncio.sleep(0)
        finally:
            ended.cancel()
        raise AssertionError("the run makes no progress")

    async def _signal_early(self, run: Run) -> None:
        """Send a signal that a node may wait for later."""
        nodes = self.flow.plan().shape.nodes.values()
        names = sorted(node.signal for node in nodes if node.signal is not None and not node.asks and not node.received)
        if names:
            with contextlib.suppress(RunConflict):  # the run may have ended
                await run.signal(names[self.tape.choose(len(names))], 5)

    async def _interrupt(self, run: Run) -> None:
        """Send an interrupting signal, whether or not the run listens to it now."""
        name = self._interrupts[self.tape.choose(len(self._interrupts))]
        sent = self._sent.get(name, 0)
        if sent < INTERRUPTS_MAX:
            self._sent[name] = sent + 1
            with contextlib.suppress(RunConflict):  # the run may have ended
                await run.signal(name, payload_of(name, sent))

    async def _signalled(self, run: Run) -> bool:
        live = self.engine._host.runs.current(run.id)
        for name in live.snapshot.waits if live is not None else ():
            if name in self._interrupts:
                continue
            position = live.snapshot.inbox.get(name, 0) if live is not None else 0
            if self.disk.store.get(Keys(run.id).signal(name, position)) is None:
                payload = payload_of(name, position)
                if is_answer(name):  # also before the question is on disk, which `Engine.answer` refuses
                    head = self.engine._host.runs.head(run.id)
                    plan = self.engine._host.flows.plan_or_shape(head)
                    await self.engine._host.scheduler.inbox.send(head, plan, name, payload, known=True)
                    self.engine._host.wakeups.on_signal(run.id, name)
                else:
                    await run.signal(name, payload)
                return True
        return False
