"""A run that fails while another engine is about to wake it stays failed: only a resume tries it again."""

import asyncio

import pytest
from wrapped_store import RUN, Held, WrappedStore, owns, park, stepping, until

from beluga_graph import Engine, RunConflict, RunFailed, RunStatus
from stores import MemoryStore


class Broken:
    """A replacement for the event that a node waits for."""

    async def wait(self) -> None:
        raise ValueError


@pytest.mark.parametrize("how", ["recover", "serve"])
async def test_a_run_that_fails_while_it_is_being_resumed_is_not_tried_again(how: str) -> None:
    disk, calls = MemoryStore(), []
    await park(disk)
    held = Held(owns)
    quick = Engine(WrappedStore(disk, shared=True), deps={"b": Broken()})
    late = Engine(WrappedStore(disk, shared=True, before=held))
    async with quick, late:
        quick.register(stepping(calls))
        late.register(stepping(calls))
        taking_up = asyncio.create_task(late.recover() if how == "recover" else late.serve())
        await held.reached()  # it has seen that the run has no owner, and has not read the run yet
        with pytest.raises(RunFailed):
            await (await quick.resume(RUN)).result(60)
        held.let_go()
        if how == "recover":
            recovery = await taking_up
            assert len(recovery) == 0
            assert isinstance(recovery.skipped[RUN], RunConflict)
        else:
            await until(lambda: late._host.owner.begun and not late._host.waker._waking)
            taking_up.cancel()
            await asyncio.gather(taking_up, return_exceptions=True)
        assert await late.status(RUN) is RunStatus.failed
        assert [step.trigger for step in await late.history(RUN)].count("RunResumed") == 0
    assert calls == ["a", "b"]
