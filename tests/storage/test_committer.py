"""The committer: many entries in one transaction, a prefix of each run's steps, in the order of their `seq`."""

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, cast

import pytest

from beluga_graph import END, START, Engine, Graph, RunError
from beluga_graph.storage.committer import Commit, Committer, Line
from beluga_graph.storage.loading import read_steps
from beluga_graph.testing import VirtualClock
from stores import MemoryStore, Put
from stores.base import Check, Conflict, Durability, Op, Store, StoreError, StoreFull

DURABILITIES: tuple[Durability, ...] = ("commit", "batch", "none")


class Run(Line):
    """The line of a run's steps, and those of them that were rejected."""

    def __init__(self, run_id: str, seq: int = 0) -> None:
        super().__init__(run_id, seq)
        self.rejected: list[int] = []


class Numbered:
    """A step of a run, as the committer sees it; valid until a step of its line is rejected, as a run's steps are."""

    def __init__(self, line: Run, seq: int, *checks: Check) -> None:
        self.line, self.seq = line, seq
        self.key = b"%s %d" % (line.run_id.encode(), seq)
        self.ops: Sequence[Op] = (*checks, Put(self.key, b""))
        self.outcome: str | None = None
        self.error: Exception | None = None

    @property
    def is_valid(self) -> bool:
        return not self.line.rejected

    def on_committed(self) -> None:
        assert self.outcome is None
        self.outcome = "committed"

    def on_rejected(self, error: Exception) -> None:
        assert self.outcome is None
        self.outcome, self.error = "rejected", error
        self.line.rejected.append(self.seq)


class Recorded:
    """A store that keeps count of its commits, and fails when it is told to."""

    def __init__(self, *, shared: bool = False) -> None:
        self.inner = MemoryStore()
        self.private, self.shared = True, shared
        self.commits: list[list[bytes]] = []  # the keys that each commit was to write
        self.fails: Callable[[list[bytes]], Exception | None] = lambda _: None

    def commit(self, *ops: Op) -> None:
        keys = [op.key for op in ops if not isinstance(op, Check)]
        self.commits.append(keys)
        if (error := self.fails(keys)) is not None:
            raise error
        self.inner.commit(*ops)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self.inner.scan(prefix)


def queued(store: Recorded, *entries: Numbered) -> Committer:
    """Return a committer with these entries in its queue."""
    committer = Committer(cast("Store", store), "commit")
    for entry in entries:
        committer.put(entry)
    return committer


def outcomes(*entries: Numbered) -> list[str | None]:
    return [entry.outcome for entry in entries]


# One transaction for many.


@pytest.mark.parametrize("shared", [False, True], ids=["in place", "in the writer thread"])
async def test_entries_that_are_queued_in_one_pass_of_the_loop_are_one_transaction(shared: bool) -> None:
    store, a, b = Recorded(shared=shared), Run("a"), Run("b")
    steps = [Numbered(a, 1), Numbered(b, 1), Numbered(a, 2)]
    await queued(store, *steps).drain()
    assert outcomes(*steps) == ["committed"] * 3
    assert store.commits == [[b"a 1", b"b 1", b"a 2"]]


@pytest.mark.parametrize("shared", [False, True], ids=["in place", "in the writer thread"])
async def test_after_a_conflict_each_entry_is_committed_alone(shared: bool) -> None:
    store, a, b = Recorded(shared=shared), Run("a"), Run("b")
    steps = [Numbered(a, 1), Numbered(b, 1, Check(b"lease", b"mine")), Numbered(a, 2)]
    await queued(store, *steps).drain()
    assert outcomes(*steps) == ["committed", "rejected", "committed"]
    assert isinstance(steps[1].error, Conflict)
    assert store.commits[:4] == [[b"a 1", b"b 1", b"a 2"], [b"a 1"], [b"b 1"], [b"a 2"]]
    assert stored(store) == [b"a 1", b"a 2"]


@pytest.mark.parametrize("shared", [False, True], ids=["in place", "in the writer thread"])
async def test_behind_a_rejected_step_no_step_of_its_run_is_committed(shared: bool) -> None:
    store, a, b = Recorded(shared=shared), Run("a"), Run("b")
    steps = [Numbered(a, 1), Numbered(a, 2, Check(b"lease", b"mine")), Numbered(a, 3), Numbered(b, 1), Numbered(a, 4)]
    committer = queued(store, *steps)
    await committer.drain()
    late = Numbered(a, 5)
    committer.put(late)
    await committer.drain()
    assert outcomes(*steps, late) == ["committed", "rejected", "rejected", "committed", "rejected", "rejected"]
    assert stored(store) == [b"a 1", b"b 1"], "a prefix of each run's steps"
    assert [str(step.error) for step in (steps[2], steps[4], late)] == ["an earlier step of the run was rejected"] * 3


async def test_where_the_store_is_full_the_entries_that_find_room_are_committed() -> None:
    store, a, b = Recorded(), Run("a"), Run("b")
    store.fails = lambda keys: StoreFull("here", "no room") if b"a 1" in keys else None
    steps = [Numbered(a, 1), Numbered(b, 1)]
    await queued(store, *steps).drain()
    assert outcomes(*steps) == ["rejected", "committed"]


@pytest.mark.parametrize("shared", [False, True], ids=["in place", "in the writer thread"])
async def test_any_other_error_of_the_store_rejects_the_whole_transaction(shared: bool) -> None:
    store, a, b = Recorded(shared=shared), Run("a"), Run("b")
    store.fails = lambda keys: StoreError("the disk is gone") if len(keys) > 1 else None
    steps = [Numbered(a, 1), Numbered(b, 1)]
    await queued(store, *steps).drain()
    assert outcomes(*steps) == ["rejected", "rejected"]
    assert store.commits[0] == [b"a 1", b"b 1"]
    assert len(store.commits) <= 2, "nothing was tried again"


async def test_an_entry_that_checks_a_key_of_an_earlier_entry_is_committed_after_it() -> None:
    store, a = Recorded(), Run("a")
    steps = [Numbered(a, 1), Numbered(a, 2, Check(b"a 1", b""))]
    await queued(store, *steps).drain()
    assert outcomes(*steps) == ["committed", "committed"]
    assert store.commits[:2] == [[b"a 1"], [b"a 2"]]


# Commits that are not steps.


async def test_a_commit_calls_back_once_with_its_outcome() -> None:
    store, said = Recorded(), []
    committer = queued(store)
    for name, ops in (("good", [Put(b"x", b"")]), ("bad", [Check(b"y", b"1"), Put(b"z", b"")])):
        note = partial(said.append, f"{name} committed")
        committer.put(Commit(ops, on_committed=note, on_rejected=lambda error, name=name: said.append((name, error))))
    await committer.drain()
    assert said[0] == "good committed"
    assert said[1][0] == "bad"
    assert isinstance(said[1][1], Conflict)
    assert len(said) == 2


@pytest.mark.parametrize("others", [0, 1])
async def test_a_commit_that_is_not_valid_any_more_is_rejected_unwritten(others: int) -> None:
    store, said = Recorded(), []
    committer = queued(store, *(Numbered(Run("a"), 1) for _ in range(others)))
    committer.put(Commit([Put(b"x", b"")], is_valid=lambda: False, on_rejected=said.append))
    await committer.drain()
    assert len(said) == 1
    assert b"x" not in stored(store)


async def test_each_of_several_commits_returns_its_own_error() -> None:
    store = Recorded()
    committer = queued(store)
    good, bad = [Put(b"x", b"")], [Check(b"y", b"1"), Put(b"z", b"")]
    errors = await committer.commit_all([good, bad, good])
    assert [type(error) for error in errors] == [type(None), Conflict, type(None)]
    assert await committer.commit(good) is None
    assert isinstance(await committer.commit(bad), Conflict)


async def test_a_commit_whose_caller_was_cancelled_is_made_nevertheless() -> None:
    store = Recorded()
    committer = queued(store)
    waiting = asyncio.ensure_future(committer.commit([Put(b"x", b"")]))
    await asyncio.sleep(0)
    waiting.cancel()
    await committer.drain()
    assert stored(store) == [b"x"]


# The order of a run's steps.


def stored(store: MemoryStore | Recorded) -> list[bytes]:
    return [key for key, _ in store.scan(b"")]


@pytest.mark.parametrize("urgent", [True, False])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("order", [order for order in itertools.permutations([3, 4, 5]) if order != (3, 4, 5)])
async def test_steps_that_are_out_of_order_are_refused(order: tuple[int, ...], last: bool, urgent: bool) -> None:
    store, line, other = MemoryStore(), Run("r", 2), Run("other")
    committer = Committer(store, "batch")
    accepted = []
    for place, seq in enumerate(order, 1):
        committer.put(Numbered(other, place), urgent=urgent, last=last)  # other runs have orders of their own
        if seq == 3 + len(accepted):
            accepted.append(seq)
            committer.put(Numbered(line, seq), urgent=urgent, last=last)
        else:
            with pytest.raises(RunError, match=f"run 'r': step {seq} was to be committed after step {line.seq}"):
                committer.put(Numbered(line, seq), urgent=urgent, last=last)
    await committer.drain()
    assert len(accepted) < 3
    assert stored(store) == [b"other %d" % place for place in (1, 2, 3)] + [b"r %d" % seq for seq in accepted]


async def test_a_step_is_not_accepted_twice() -> None:
    committer, line = Committer(MemoryStore(), "commit"), Run("r")
    committer.put(Numbered(line, 1))
    with pytest.raises(RunError, match="step 1 was to be committed after step 1"):
        committer.put(Numbered(line, 1))
    await committer.drain()


def then_waits(kind: str, *, beside: bool) -> Graph:
    """Return a flow that waits, after a node that runs; `beside` other branches that end in the same pass."""
    g = Graph("flow")

    async def work(ctx: Any, value: int) -> int:
        ctx.deps["runs"].set()
        await ctx.deps["go on"].wait()
        return value

    g.node(work)
    if kind == "typed":
        g.wait("wait", "s", type=str)
    elif kind == "default":
        g.wait("wait", "s", timeout=60, default="none")
    else:
        g.wait("wait", "s")
    if beside:
        g.fan_out("out", to=["work", "work2"], join="join")
        g.node(name="work2")(work)
        g.join("join", lambda values: values[0])
        g.edge(START, "out")
        g.edge("work", "join")
        g.edge("work2", "join")
        g.edge("join", "wait")
    else:
        g.edge(START, "work")
        g.edge("work", "wait")
    g.wait("wait2", "s")
    g.edge("wait", "wait2")
    g.edge("wait2", END)
    return g


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside others"])
@pytest.mark.parametrize("kind", ["plain", "typed", "default"])
@pytest.mark.parametrize("durability", DURABILITIES)
async def test_signals_that_are_sent_before_the_wait_are_delivered(
    durability: Durability, kind: str, beside: bool
) -> None:
    store, deps = MemoryStore(), {"runs": asyncio.Event(), "go on": asyncio.Event()}
    async with Engine(store, durability=durability, deps=deps, clock=VirtualClock()) as engine:
        run = await engine.start(then_waits(kind, beside=beside), 1, run_id="r")
        await deps["runs"].wait()
        await run.signal("s", "one")
        await run.signal("s", "two")
        deps["go on"].set()
        assert await run.result(60) == "two"
    assert [step.seq for step in read_steps(store, "r")] == list(range(1, len(list(read_steps(store, "r"))) + 1))


@pytest.mark.parametrize("durability", DURABILITIES)
async def test_a_step_out_of_order_stops_the_run_and_damages_nothing_on_disk(durability: Durability) -> None:
    store, go_on = MemoryStore(), asyncio.Event()
    deps = {"runs": asyncio.Event(), "go on": go_on}
    async with Engine(store, durability=durability, deps=deps) as engine:
        run = await engine.start(then_waits("plain", beside=False), 1, run_id="r")
        await deps["runs"].wait()
        live = engine._host.runs.current("r")
        assert live is not None
        live.line.seq -= 1  # as if a step had been lost on the way
        go_on.set()
        with pytest.raises(RunError, match="a defect of the engine: resume the run"):
            await run.result(60)
    async with Engine(store, durability=durability, deps=deps) as engine:
        run = await engine.start(then_waits("plain", beside=False), 1, run_id="r")
        await run.signal("s", "one")
        await run.signal("s", "two")
        assert await run.result(60) == "two"
