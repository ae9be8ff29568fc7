"""A worker that cannot read the large values of a run leaves the attempt to others; the run fails if there are none."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from secrets import token_hex
from typing import Any, Self

import pytest
from servers import Server
from sessions_flows import Gate, make_desk
from wrapped_store import until

from beluga_graph import Limits, RunFailed, Workflow, step
from beluga_graph.temporal import TemporalEngine

PATIENCE_S = 120.0
LARGE = "x" * 20_000


class Served:
    """An engine with the claims of a run, and another one without them, on one task queue."""

    def __init__(self, server: Server, place: Path, durability: str, *, has_other_claims: bool) -> None:
        options: dict[str, Any] = {"task_queue": token_hex(4), "durability": durability}
        self.engine = TemporalEngine(server.address, claims=place / "claims", **options)
        self.other = TemporalEngine(server.address, claims=place / "others" if has_other_claims else None, **options)
        self._server, self._stack = server, AsyncExitStack()

    async def until_refused(self, run_id: str) -> None:
        """Wait until an activity of a run was refused more often than its worker may be lost."""
        handle = (await self._server.connect()).get_workflow_handle(run_id)
        while not any(each.attempt > 3 for each in (await handle.describe()).raw_description.pending_activities):  # noqa: ASYNC110 - the server has no event
            await asyncio.sleep(0.05)

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(asyncio.timeout(PATIENCE_S))
        for engine in (self.engine, self.other):
            await self._stack.enter_async_context(engine)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.__aexit__(*exc)


@pytest.mark.parametrize("durability", ["commit", "batch"])
@pytest.mark.parametrize("has_other_claims", [False, True], ids=["no claims", "other claims"])
async def test_an_attempt_is_left_to_the_worker_that_has_the_claims(
    temporal_server: Server, tmp_path: Path, durability: str, has_other_claims: bool
) -> None:
    made: Counter[str] = Counter()

    @step("first")
    async def first(value: str) -> str:
        made["first", len(value)] += 1
        return value + "!"

    @step("second")
    async def second(value: str) -> int:
        made["second", len(value)] += 1
        return len(value)

    flow = Workflow("sizes", first, second)
    async with Served(temporal_server, tmp_path, durability, has_other_claims=has_other_claims) as served:
        async with served.other.worker([flow]):
            run = await served.engine.start(flow, LARGE, limits=Limits(max_interruptions=1))
            await served.until_refused(run.id)
        async with served.engine.worker([flow]):
            assert await run.result() == len(LARGE) + 1
            attempts = {each.token: each.attempt for each in await served.engine.history(run.id) if each.attempt}
    assert made == {("first", len(LARGE)): 1, ("second", len(LARGE) + 1): 1}
    assert set(attempts.values()) == {1}


async def test_a_run_whose_claims_no_worker_has_fails_and_names_the_location_and_can_be_resumed(
    temporal_server: Server, tmp_path: Path
) -> None:
    flow = Workflow("sizes", step("measure", len))
    async with Served(temporal_server, tmp_path, "commit", has_other_claims=True) as served:
        async with served.other.worker([flow]):
            run = await served.engine.start(flow, LARGE)
            with pytest.raises(RunFailed) as caught:
                await run.result()
        for part in ("ClaimNotFound", "workers tried 10 times", str(tmp_path / "others"), "the same claims"):
            assert part in str(caught.value)
        async with served.engine.worker([flow]):
            assert await (await served.engine.resume(run.id)).result() == len(LARGE)


async def test_the_end_of_a_session_is_left_to_the_worker_that_has_the_claims(
    temporal_server: Server, tmp_path: Path
) -> None:
    gate = Gate()
    gate.opened = asyncio.Event()
    desk = make_desk(gate, padding=10)  # two messages together are a large value
    async with Served(temporal_server, tmp_path, "commit", has_other_claims=True) as served:
        worker = await served.engine.worker([desk], grace=3_600).__aenter__()
        run = await served.engine.start(desk, "o" * 5_000, session="s")
        await until(lambda: gate.calls == 1)
        stopping = asyncio.create_task(worker.__aexit__(None, None, None))
        await until(lambda: worker._workers[0].is_shutdown)
        gate.opened.set()  # the attempt ends, and the worker takes nothing more
        await stopping
        async with served.other.worker([desk]):
            await served.until_refused(run.id)
        async with served.engine.worker([desk]):
            assert len(await run.result()) == len("saw ") + 5_010
            assert "|(5014)|two" in await served.engine.execute(desk, "two", session="s")
    assert gate.calls == 2
