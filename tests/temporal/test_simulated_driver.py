"""Properties of the Temporal driver: they hold for every graph, every order of events and every loss of a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any

import pytest
from effort import examples
from graph_specs import Spec, racy_specs, settled_specs
from graphs import build
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from simulated_host import Activity, Host
from simulation import Disk, RunOutcome, Simulation, Tape, outcome_of, tapes
from temporalio.exceptions import CancelledError

from beluga_graph import END, START, Context, Graph, Limits, Retry, append
from beluga_graph.codec import references
from beluga_graph.execution.result import NewItems
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, FAILED
from beluga_graph.kernel.triggers import CancelRequested
from beluga_graph.temporal.claims.call_values import CallValues
from beluga_graph.temporal.claims.claims import CachedClaims, open_claims
from beluga_graph.temporal.workflow import dispatch
from beluga_graph.temporal.workflow.run_options import RunOptions
from beluga_graph.temporal.workflow.wire import pack, pack_calls, unpack

INPUT = 7
COMMIT = RunOptions(queue="q", engine_queue="e")
BATCH = RunOptions(queue="q", engine_queue="e", ahead_ms=50, batch=100)


def options() -> st.SearchStrategy[RunOptions]:
    """Return a strategy for the options of a run: narrow windows, small batches and short executions among them."""
    return st.builds(
        RunOptions,
        queue=st.just("q"),
        engine_queue=st.just("e"),
        ahead_ms=st.sampled_from([0, 50]),
        batch=st.sampled_from([1, 2, 100]),
        window=st.sampled_from([1, 2, 300]),
        cap=st.sampled_from([1, 2, 500]),
        continue_events=st.sampled_from([10, 60, 10_000]),
    )


def losses() -> st.SearchStrategy[list[int]]:
    """Return a strategy for losses of workers, as many as one node may survive: the points that pass before each."""
    return st.lists(st.integers(0, 30), max_size=Limits().max_interruptions)


def driven(
    spec: Spec, options: RunOptions, tape: list[int], losses: Sequence[int] = (), claims: CachedClaims | None = None
) -> Host:
    host = Host(options, Tape(tape), losses, claims)
    host.drive(build(spec, host.probe).plan(), INPUT)
    return host


def local(spec: Spec) -> RunOutcome:
    disk = Disk()
    simulation = Simulation(build(spec, disk.probe).plan(), disk, Tape())
    asyncio.run(simulation.whole(INPUT))
    return outcome_of(simulation.plan, disk.store)


@examples(120)
@given(settled_specs(), options(), tapes(), losses())
def test_a_run_has_the_outcome_of_the_local_engine(
    spec: Spec, options: RunOptions, tape: list[int], losses: list[int]
) -> None:
    assert driven(spec, options, tape, losses).outcome() == local(spec)


class Shelf(dict[bytes, bytes]):
    """A place for large values."""

    def put(self, digest: bytes, data: bytes) -> None:
        self[digest] = data


def test_a_run_with_large_values_in_claims_has_the_outcome_of_the_local_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "INLINE_BYTES", references.REFERENCE_BYTES)
    claims = open_claims(Shelf())
    assert claims is not None

    @examples(60)
    @given(settled_specs(), options(), tapes(), losses())
    def holds(spec: Spec, options: RunOptions, tape: list[int], losses: list[int]) -> None:
        assert driven(spec, options, tape, losses, claims).outcome() == local(spec)

    holds()
    claims.close()


@examples(120)
@given(racy_specs(), options(), tapes(), losses())
def test_no_attempt_is_made_again_once_the_server_has_its_reply(
    spec: Spec, options: RunOptions, tape: list[int], losses: list[int]
) -> None:
    host = driven(spec, options, tape, losses)
    assert host.again == []
    assert host.status in ("complete", "fail")


def wide(probe: Any) -> Graph:
    """Return a fan-out whose branches go into batches."""
    graph = Graph("wide")

    async def count(ctx: Context, value: int) -> int:
        await probe(ctx)
        return value + 1

    each, then = graph.node(name="each")(count), graph.node(name="then")(count)
    out, join = graph.fan_out("out", to=each, over=lambda _: range(12), join="in"), graph.join("in", sum)
    for source, target in pairwise([each, then, join, END]):
        graph.edge(source, target)
    graph.edge(START, out)
    return graph


@examples(60)
@given(options(), tapes(), losses())
def test_batches_lose_and_repeat_nothing(options: RunOptions, tape: list[int], losses: list[int]) -> None:
    host = Host(options, Tape(tape), losses)
    host.drive(wide(host.probe).plan(), INPUT)
    assert (host.run.status, host.run.steps, host.again) == (COMPLETED, 26, [])
    assert host.plan.codec.decode(host.run.output) == sum(range(12)) + 24


@examples(80)
@given(racy_specs(), options(), tapes(), losses(), st.integers(0, 30))
def test_a_cancelled_run_ends_at_once_or_had_ended(
    spec: Spec, options: RunOptions, tape: list[int], losses: list[int], tasks: int
) -> None:
    host = Host(options, Tape(tape), losses, cancelled_at=tasks)
    host.drive(build(spec, host.probe).plan(), INPUT)
    assert (host.status, host.run.status) in (("complete", COMPLETED), ("fail", FAILED), ("cancel", CANCELLED))
    if host.run.status == CANCELLED:
        assert type(host.steps[-1].trigger) is CancelRequested
    assert host.again == []


# Faults that random graphs do not find.


def drive(graph: Graph, options: RunOptions, value: Any = INPUT, **given: Any) -> Host:
    host = Host(options, Tape(), **given)
    host.drive(graph.plan(), value)
    return host


def chain(name: str, *nodes: Any) -> Graph:
    """Return a graph of functions and graphs, one after another."""
    graph = Graph(name)
    made = [graph.add(node) if isinstance(node, Graph) else graph.node(node) for node in nodes]
    for source, target in pairwise([START, *made, END]):
        graph.edge(source, target)
    return graph


def fanned_out(*, handled: bool) -> Graph:
    """Return a fan-out over five texts, each larger than the value."""
    graph = Graph("fanned")
    each = graph.node(name="each")(same)
    out = graph.fan_out("out", to=each, over=lambda value: [value * 3] * 5, join="in")
    join = graph.join("in", len)
    graph.edge(START, out)
    graph.edge(each, join)
    graph.edge(join, END)
    if handled:
        mended = graph.timer("mended", 0)  # no worker has to read the failure, which is as large
        graph.on_error(join, mended)
        graph.edge(mended, END)
    return graph


async def same(value: Any) -> Any:
    return value


@pytest.mark.parametrize("options", [COMMIT, BATCH])
@pytest.mark.parametrize(
    ("handled", "status"),
    [
        (False, FAILED),  # the others are stopped while they are begun
        (True, COMPLETED),  # their tokens are removed
    ],
)
def test_calls_that_are_too_large_fail_their_nodes_one_by_one(
    monkeypatch: pytest.MonkeyPatch, options: RunOptions, handled: bool, status: str
) -> None:
    monkeypatch.setattr(dispatch, "PAYLOAD_BYTES", 3000)
    host = drive(fanned_out(handled=handled), options, "x" * 1000)
    assert host.run.status == status
    if status == FAILED:
        assert host.run.error[1] == "TooLarge"


def test_a_node_whose_surroundings_are_too_large_goes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "PAYLOAD_BYTES", 8000)

    async def shrink(value: str) -> int:
        return len(value)

    graph = chain("inmost", shrink, same)
    for name in ("inner", "outer"):  # each keeps its own copy of the value that it was given
        graph = chain(name, graph)
    for options in (COMMIT, BATCH):
        host = drive(graph, options, "x" * 3000)
        assert (host.run.status, host.run.error) == (COMPLETED, None)


class Ledger(BaseModel):
    trail: Annotated[list[Any], append] = []


@pytest.mark.parametrize("options", [COMMIT, BATCH])
def test_items_of_a_refused_fan_out_are_not_kept(options: RunOptions) -> None:
    def over(ctx: Context, value: int) -> list[int]:
        ctx.update(trail=["refused"])
        return [1, 2]

    async def note(ctx: Context, value: Any) -> str:
        ctx.update(trail=["kept"])
        return "noted"

    async def read(ctx: Context, value: Any) -> list[Any]:
        return list(ctx.state.trail)

    graph = Graph("refusing", state=Ledger)
    each, noted, shown = graph.node(name="each")(same), graph.node(note), graph.node(read)
    out, join = graph.fan_out("out", to=each, over=over, join="in"), graph.join("in", wait=3)
    graph.edge(START, out)
    graph.edge(each, join)
    graph.edge(join, END)
    graph.on_error(out, noted)
    graph.edge(noted, shown)
    graph.edge(shown, END)
    host = drive(graph, options)
    assert graph.plan().codec.decode(host.run.output) == ["kept"]


def test_an_activity_that_another_cancels_is_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    work, given = Host._work, []

    def cancel_first(host: Host, activity: Activity) -> None:
        given.append(activity.id)
        if len(given) == 1:
            activity.result = CancelledError("an operator has cancelled it")
        else:
            work(host, activity)

    monkeypatch.setattr(Host, "_work", cancel_first)
    assert drive(chain("chain", same), COMMIT).run.status == COMPLETED
    assert given == ["same#1@1"] * 2


@pytest.mark.parametrize("options", [COMMIT, BATCH])
def test_no_time_limit_of_a_node_ends_an_activity(options: RunOptions) -> None:
    graph = Graph("limited")
    first, then = graph.node(name="first", timeout=1)(same), graph.node(name="then")(same)
    for source, target in pairwise([START, first, then, END]):
        graph.edge(source, target)
    host = drive(graph, options)  # it goes on with `then`, which may take longer; and threads may not be free
    assert {limit.total_seconds() for limit in host.time_limits} == {24 * 3600}


@pytest.mark.parametrize("options", [COMMIT, BATCH])
def test_names_that_are_no_valid_text_are_carried(options: RunOptions) -> None:
    graph = Graph("half")
    node = graph.node(name="half \ud800")(same)
    graph.edge(START, node)
    graph.edge(node, END)
    assert drive(graph, options).run.status == COMPLETED


def test_large_numbers_are_carried_in_every_place() -> None:
    assert unpack(pack({"n": [2**64, -(2**70), 7]})) == {"n": (2**64, -(2**70), 7)}
    assert unpack(pack_calls({"n": 2**100}, [])) == {"n": 2**100, "calls": ()}
    with pytest.raises(ValueError, match="extension"):
        unpack(b"\xc7\x01\x05\x00")
    with pytest.raises(TypeError, match="object"):
        pack({"n": object()})


def test_a_pause_that_no_record_can_hold_is_cut() -> None:
    class Later(Exception):
        retry_after = 1e300

    async def fail(value: Any) -> None:
        raise Later("busy")

    graph = Graph("later")
    node = graph.node(retry=Retry(attempts=2))(fail)
    graph.edge(START, node)
    graph.edge(node, END)
    host = drive(graph, COMMIT)
    assert host.run.error[1:4] == ("Later", "busy", 2)


@pytest.mark.parametrize("options", [COMMIT, BATCH])
def test_items_that_a_worker_reports_and_does_not_send_fail_those_who_read_them(
    monkeypatch: pytest.MonkeyPatch, options: RunOptions
) -> None:
    async def note(ctx: Context, value: int) -> int:
        ctx.update(trail=["one", "two"])
        return value

    async def read(ctx: Context, value: int) -> list[Any]:
        return list(ctx.state.trail)

    add = CallValues.add_items

    def add_fewer(values: CallValues, new: NewItems) -> Any:
        return add(values, new._replace(items=new.items[:1]))

    monkeypatch.setattr(CallValues, "add_items", add_fewer)
    graph = Graph("short", state=Ledger)
    first, then = graph.node(note), graph.node(read)
    for source, target in pairwise([START, first, then, END]):
        graph.edge(source, target)
    host = drive(graph, options)
    assert host.run.status == FAILED
    assert host.run.error[:2] == ("read", "DamagedRecord")


def test_a_worker_without_the_version_of_a_run_says_so() -> None:
    graph = chain("chain", same)
    host = Host(COMMIT, Tape())
    host.drive(graph.plan(), INPUT, served=chain("other", same).plan())
    assert host.run.error[:2] == ("same", "GraphChanged")
    assert host.run.error[2].startswith("this worker has no version")


@pytest.mark.parametrize("options", [COMMIT, BATCH])
def test_a_fan_out_over_nothing_is_reached_ahead(options: RunOptions) -> None:
    graph = Graph("empty")
    first, each = graph.node(name="first")(same), graph.node(name="each")(same)
    out, join = graph.fan_out("out", to=each, over=lambda _: [], join="in"), graph.join("in")
    for source, target in pairwise([START, first, out]):
        graph.edge(source, target)
    graph.edge(each, join)
    graph.edge(join, END)
    host = drive(graph, options)
    assert (host.run.status, host.run.error) == (COMPLETED, None)
