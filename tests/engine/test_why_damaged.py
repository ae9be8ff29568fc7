"""`Engine.why` and the list of waits report damage for a snapshot whose parts contradict each other."""

import pytest

from beluga_graph import Engine, Workflow, sleep, wait_signal
from beluga_graph.codec.errors import DamagedRecord
from beluga_graph.storage.keys import Keys, number_of
from beluga_graph.storage.loading import rebuild
from beluga_graph.storage.records import encode_record
from stores import MemoryStore
from stores.base import Put


async def store_with(flow: Workflow, change: dict[str, object]) -> MemoryStore:
    """Return a store with a run whose last snapshot has changed parts."""
    store = MemoryStore()
    async with Engine(store) as engine:
        await engine.start(flow, 1, run_id="r")
    last, _ = next(iter(store.scan(Keys("r").steps, reverse=True)))
    key = Keys("r").snapshot(number_of(last))
    store.commit(Put(key, encode_record(key, rebuild(store, "r").to_plain() | change)))
    return store


@pytest.mark.parametrize("change", [{"timers": {}}, {"timers": {"t:w#1": 10**17}}, {"waits": {"s": []}}])
async def test_why_reports_a_snapshot_that_contradicts_itself(change: dict[str, object]) -> None:
    async with Engine(await store_with(Workflow("pause", sleep("w", 3600)), change)) as engine:
        await engine.signal("r", "s")
        with pytest.raises(DamagedRecord, match="contradicts itself"):
            await engine.why("r")


async def test_the_list_of_waits_reports_a_snapshot_that_contradicts_itself() -> None:
    async with Engine(await store_with(Workflow("waits", wait_signal("s")), {"waits": {"s": []}})) as engine:
        await engine.signal("r", "s")
        with pytest.raises(DamagedRecord, match="contradicts itself"):
            await engine.pending(waits=True)
