"""Mirrored runs: the runs that an engine was asked about, in stores in memory, where the inspector reads them."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import ExitStack, closing
from pathlib import Path
from weakref import WeakValueDictionary

from beluga_graph.codec.registry import Registry
from beluga_graph.codec.values import Codec
from beluga_graph.errors import RunConflict, RunError, SnapshotError
from beluga_graph.execution.handed_over import HandedOver
from beluga_graph.inspection.approvals import Question
from beluga_graph.inspection.exported import read_exported
from beluga_graph.inspection.flow_registry import FlowRegistry
from beluga_graph.inspection.inspector import Inspector
from beluga_graph.inspection.signal_waits import SignalWait, sort_pending
from beluga_graph.inspection.views import StepInfo
from beluga_graph.plan.plan import Plan
from beluga_graph.temporal.claims.claims import CachedClaims
from beluga_graph.temporal.connection.connection import Connection
from beluga_graph.temporal.connection.history import find_current, read_input
from beluga_graph.temporal.connection.sdk_errors import translate_errors
from beluga_graph.temporal.mirror.recording import check_readable, mirror_run
from beluga_graph.temporal.mirror.replay import ReplayedRun, replay_run
from beluga_graph.temporal.workflow.pieces import Piece
from stores import LMDBStore, MemoryStore
from stores.base import Store

__all__ = ["MirroredRuns"]

_log = logging.getLogger("beluga_graph.temporal.mirror.cache")

_KEPT = 16  # mirrors of the runs that were read last


class MirroredRuns:
    """Mirrors of runs, refreshed when they are read. Only those read last are kept.

    Attributes:
        flows: The flows that the engine knows.
    """

    def __init__(self, connection: Connection, claims: CachedClaims | None) -> None:
        self._connection, self._claims = connection, claims
        self._stores: OrderedDict[str, MemoryStore] = OrderedDict()  # by run id
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # one writer of a store at a time
        self.flows = FlowRegistry(MemoryStore())

    async def refresh(self, run_id: str) -> Inspector:
        """Bring the mirror of a run up to date; return its inspector. Raises `RunNotFound`, `SnapshotError`."""
        store = await self._refresh_store(run_id)
        return Inspector(store, self.flows.over(store))

    async def write(self, run_id: str, target: Store | Path) -> None:
        """Write a run to a store; see `mirror_run`. A new LMDB store is created only if the run can be read."""
        client = await self._connection.client()
        with translate_errors(run_id, self._connection.address), ExitStack() as stack:
            if isinstance(target, Path):
                if not (target / "data.mdb").exists():
                    await check_readable(client, run_id, self._claims)
                target = stack.enter_context(closing(LMDBStore(target)))
            await mirror_run(client, run_id, target, self._claims)

    async def export(self, run_id: str, seq: int) -> HandedOver:
        """Return all that a run needs to go on from step `seq`, except for the messages of its session.

        Raises as `refresh` and `read_exported` do.
        """
        store = await self._refresh_store(run_id)
        return await asyncio.to_thread(read_exported, store, run_id, seq, has_session=False)

    async def read_session(self, run_id: str) -> list[Piece]:
        """Return the pieces of the conversation that a run began with. Raises `RunNotFound`, `SnapshotError`."""
        client = await self._connection.client()
        with translate_errors(run_id, self._connection.address):
            given, _ = await read_input(client, run_id, await find_current(client, run_id))
        return [Piece(*piece) for piece in given["session"]]

    async def replay(self, run_id: str) -> ReplayedRun:
        """Return a run as of its last complete workflow task. Raises `RunNotFound`, `SnapshotError`."""
        client = await self._connection.client()
        with translate_errors(run_id, self._connection.address):
            return await replay_run(client, run_id)

    async def plan_of(self, run_id: str) -> Plan:
        """Return the graph of a run without the code of its flow. Raises as `replay` does."""
        return Plan((await self.replay(run_id)).shape, {}, Codec(Registry()))

    async def pending(self, run_ids: Iterable[str], *, waits: bool) -> list[Question | SignalWait]:
        """Return the questions of runs, the oldest first; with `waits`, also their waits for signals.

        Those of a run that cannot be mirrored are left out, and a warning in the log names it.
        """
        found: list[Question | SignalWait] = []
        for run_id in run_ids:
            try:
                inspector = await self.refresh(run_id)
                found += await inspector.pending()
                found += await inspector.signal_waits(run_id) if waits else ()
            except (RunError, SnapshotError) as error:  # such as claims that this engine does not have
                _log.warning("questions of run %r are left out: %s", run_id, error)
        return sort_pending(found)

    async def steps(self, run_id: str, after: int, until: int | None = None) -> list[StepInfo]:
        """Return the steps `after` < seq <= `until` of a run."""
        steps = await (await self.refresh(run_id)).history(run_id)
        return [step for step in steps if after < step.seq and (until is None or step.seq <= until)]

    async def _refresh_store(self, run_id: str) -> MemoryStore:
        async with self._locks.setdefault(run_id, asyncio.Lock()):
            store = self._stores.get(run_id) or MemoryStore()
            try:
                await self.write(run_id, store)
            except RunConflict:  # the server has deleted the run that was mirrored, and has another one of this id
                store = MemoryStore()
                await self.write(run_id, store)
            self._stores[run_id] = store
            self._stores.move_to_end(run_id)
            if len(self._stores) > _KEPT:
                self._stores.popitem(last=False)
            return store
