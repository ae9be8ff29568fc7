"""The records of an engine in memory are bounded: runs that have ended are deleted, unless they are still in use."""

from typing import Any

import pytest
from flows_for_tests import chain
from wrapped_store import until

import beluga_graph.engine.retention
import beluga_graph.runtime.watcher
from beluga_graph import END, START, Context, Engine, Graph, RunFailed, RunNotFound, RunStatus
from stores import MemoryStore

KEPT, AT_ONCE = 20, 5


@pytest.fixture
def few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beluga_graph.engine.retention, "ENDED_MAX", KEPT)
    monkeypatch.setattr(beluga_graph.engine.retention, "_AT_ONCE", AT_ONCE)


async def large(ctx: Context, value: int) -> str:
    ctx.publish("told", value)
    return str(value) * 10_000


async def failing(value: int) -> int:
    raise ValueError(value)


def records(engine: Engine) -> int:
    return sum(1 for _ in engine.store.scan(b""))


@pytest.mark.usefixtures("few_runs")
@pytest.mark.parametrize("node", [large, failing])
async def test_the_records_of_an_engine_without_a_store_do_not_grow_with_its_runs(node: Any) -> None:
    sizes = []
    async with Engine() as engine:
        for count in (2 * KEPT, 4 * KEPT):
            for number in range(count):
                await (await engine.start(chain(node), number)).outcome()
            await until(lambda: len(list(engine.store.scan(b"H"))) <= KEPT + 2 * AT_ONCE and no_more(engine))
            sizes.append(records(engine) / len(list(engine.store.scan(b"H"))))
        assert len(engine._host.retention._ended) <= KEPT + 2 * AT_ONCE
        assert len(await engine.runs()) >= KEPT
    assert sizes[1] <= 1.2 * sizes[0]


def no_more(engine: Engine) -> bool:
    return engine._host.retention._task is None


@pytest.mark.usefixtures("few_runs")
async def test_a_run_is_kept_while_a_handle_is_in_use_and_deleted_afterwards() -> None:
    async with Engine() as engine:
        held = await engine.start(chain(large), 7, run_id="held")
        broken = await engine.start(chain(failing), 7, run_id="broken")
        with pytest.raises(RunFailed):
            await broken.result()
        for number in range(4 * KEPT):
            await engine.execute(chain(large), number)
        await until(lambda: no_more(engine))
        assert await held.result() == "7" * 10_000
        assert [event.type async for event in held.events()][-1] == "done"
        assert await broken.status() == RunStatus.failed
        await engine.resume("broken")
        del held, broken
        for number in range(4 * KEPT):
            await engine.execute(chain(large), number)
        await until(lambda: no_more(engine) and len(list(engine.store.scan(b"H"))) <= KEPT + 2 * AT_ONCE)
        with pytest.raises(RunNotFound):
            await engine.status("held")


@pytest.mark.usefixtures("few_runs")
async def test_a_store_that_the_caller_passes_keeps_every_run() -> None:
    async with Engine(MemoryStore()) as engine:
        for number in range(3 * KEPT):
            await engine.execute(chain(large), number)
        assert len(await engine.runs()) == 3 * KEPT


@pytest.mark.usefixtures("few_runs")
async def test_an_unfinished_run_is_never_deleted() -> None:
    g = Graph("waits")
    g.wait("w", "go")
    g.edge(START, "w")
    g.edge("w", END)
    async with Engine() as engine:
        await engine.start(g, 0, run_id="waits")
        for number in range(3 * KEPT):
            await engine.execute(chain(large), number)
        await until(lambda: no_more(engine))
        await engine.signal("waits", "go", 3)
        assert await engine.execute(g, 0, run_id="waits") == 3
