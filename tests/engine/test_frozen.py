"""A process that was frozen for longer than its lease begins no node that another process has finished."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import frozen_flow
import pytest
from frozen_flow import FLOWS, OUTPUTS, RUN_ID, Outside, at_once, given
from test_ownership import Other, wait_until

import beluga_graph
import beluga_graph.storage.leases
from beluga_graph import END, START, Engine, Graph, LeaseLost, RunBusy
from beluga_graph.clock import SystemClock
from beluga_graph.engine.takeover import wait_free_lease
from beluga_graph.runtime.active_run import ActiveRun
from beluga_graph.storage.keys import Keys
from beluga_graph.storage.leases import Lease, Owner
from stores import LMDBStore, Op, Put, StoreFull

LEASE_S = 0.4


@contextmanager
def frozen(tmp_path: Path, kind: str, durability: str) -> Iterator[Other]:
    """Start another process and wait until it has frozen itself."""
    job = {
        "store": str(tmp_path / "store"),
        "effects": str(tmp_path / "effects"),
        "kind": kind,
        "durability": durability,
        "lease_s": LEASE_S,
    }
    root = Path(beluga_graph.__file__).parent.parent
    with subprocess.Popen(
        [sys.executable, frozen_flow.__file__, json.dumps(job)],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(root)},
    ) as process:
        try:
            other = Other(process)
            wait_until(other.stands_still)
            yield other
        finally:
            process.kill()


@pytest.mark.parametrize("durability", ["commit", "batch", "none"])
@pytest.mark.parametrize("kind", list(FLOWS))
async def test_an_owner_that_wakes_up_begins_no_node_that_another_owner_has_finished(
    kind: str, durability: str, tmp_path: Path
) -> None:
    effects = tmp_path / "effects"
    with frozen(tmp_path, kind, durability) as owner:
        deps = Outside(effects)
        async with Engine(tmp_path / "store", deps=deps, max_concurrency=at_once(kind)) as engine:
            assert await engine.execute(FLOWS[kind](), given(kind), run_id=RUN_ID, wait=True) == OUTPUTS[kind]
            before = effects.read_text()
            owner.wake()
            assert owner.hear() == "LeaseLost"
            assert owner.process.wait() == 0
    assert effects.read_text() == before


class Pause:
    """The clocks of an owner, which stand still. A test sets them forward as if the process had been frozen."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.s = 0.0
        start_ms = SystemClock().now_ms()
        monkeypatch.setattr(beluga_graph.storage.leases.time, "clock_gettime", lambda clock: self.s)
        monkeypatch.setattr(SystemClock, "now_ms", lambda clock: start_ms + round(self.s * 1000))
        monkeypatch.setattr(beluga_graph.storage.leases, "RENEW_S", 600.0)  # only the renewals that the test makes


def stepping(then: Callable[[], None], seen: list[str]) -> Graph:
    """Return a flow of two nodes that calls a function while the first one runs."""
    g = Graph("g")

    @g.node
    async def first(value: int) -> int:
        seen.append("first")
        then()
        return value

    @g.node
    async def second(value: int) -> int:
        seen.append("second")
        return value

    g.edge(START, first)
    g.edge(first, second)
    g.edge(second, END)
    return g


@pytest.mark.parametrize("renewed", ["before the look", "by the look"])
@pytest.mark.parametrize("taken", [True, False])
async def test_after_a_pause_an_owner_checks_that_it_still_holds_its_lease(
    taken: bool, renewed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause, seen, key = Pause(monkeypatch), [], Keys(RUN_ID).lease
    async with Engine(tmp_path / "store", durability="batch") as engine:

        def sleep() -> None:
            pause.s += 3600
            if taken:
                engine.store.commit(Put(key, Lease(b"another", 2).encode(key)))
            if renewed == "before the look":  # for example by the renewing thread
                engine._host.owner.renew()

        if taken:
            with pytest.raises(LeaseLost):
                await engine.execute(stepping(sleep, seen), 1, run_id=RUN_ID)
        else:
            assert await engine.execute(stepping(sleep, seen), 1, run_id=RUN_ID) == 1
            assert engine._host.owner.term is not None
    assert seen == (["first"] if taken else ["first", "second"])


async def test_a_run_begins_nothing_after_a_pause_if_the_lease_cannot_be_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause, seen = Pause(monkeypatch), []
    async with Engine(tmp_path / "store", durability="batch") as engine:

        def sleep() -> None:
            pause.s += 3600
            monkeypatch.setattr(engine._host.owner, "renew", refuse)

        with pytest.raises(StoreFull):
            await engine.execute(stepping(sleep, seen), 1, run_id=RUN_ID)
    assert seen == ["first"]


def refuse() -> None:
    raise StoreFull("store", "no room")


async def test_an_owner_that_renews_while_it_is_judged_dead_keeps_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause, seen = Pause(monkeypatch), []
    store = LMDBStore(tmp_path / "store")
    async with Engine(store) as owner, Engine(store) as other:
        other.register(stepping(lambda: None, []))

        async def too_late(*args, **kwargs):
            held = await wait_free_lease(*args, **kwargs)
            owner._host.owner.renew()
            return held

        async def attack() -> None:
            pause.s += 3600
            with monkeypatch.context() as patched:
                patched.setattr("beluga_graph.engine.admission.wait_free_lease", too_late)
                with pytest.raises(RunBusy):
                    await other.resume(RUN_ID)

        g = Graph("g")

        @g.node
        async def first(value: int) -> int:
            await attack()
            return value

        @g.node
        async def second(value: int) -> int:
            seen.append(value)
            return value

        g.edge(START, first)
        g.edge(first, second)
        g.edge(second, END)
        assert await owner.execute(g, 1, run_id=RUN_ID) == 1
    assert seen == [1]
    store.close()


def test_the_term_of_an_owner_lasts_while_its_record_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pause, store = Pause(monkeypatch), LMDBStore(tmp_path / "store")
    owner = Owner(store)
    owner.begin()
    term = owner.term
    assert term is not None
    for _ in range(10):
        pause.s += beluga_graph.storage.leases.LEASE_S / 4
        assert owner.term == term
        owner.renew()
    pause.s += beluga_graph.storage.leases.LEASE_S
    assert owner.term is None
    owner.renew()
    assert owner.term == term + 1
    owner.end()
    store.close()


async def test_a_pause_during_a_check_makes_the_owner_check_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause, seen, key = Pause(monkeypatch), [], Keys(RUN_ID).lease
    async with Engine(tmp_path / "store", durability="batch") as engine:
        scheduler = engine._host.scheduler
        commit = scheduler.commit

        async def freeze_behind(live: ActiveRun, ops: list[Op]) -> None:
            await commit(live, ops)
            monkeypatch.setattr(scheduler, "commit", commit)
            pause.s += 3600
            engine.store.commit(Put(key, Lease(b"another", 2).encode(key)))

        def freeze() -> None:
            pause.s += 3600
            monkeypatch.setattr(scheduler, "commit", freeze_behind)

        with pytest.raises(LeaseLost):
            await engine.execute(stepping(freeze, seen), 1, run_id=RUN_ID)
    assert seen == ["first"]
