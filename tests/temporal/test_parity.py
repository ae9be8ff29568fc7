"""A flow goes the same way on every engine: output or failure, usage, steps, and the stored events of each branch."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import Any

import pytest
from parity_flows import ENTRIES, ENTRY_BY_NAME, Deps, Entry
from recording import Recorded, record
from worker_processes import change_options

from beluga_graph import Engine
from beluga_graph.temporal import TemporalEngine
from stores import LMDBStore, MemoryStore

LOCAL_ENGINES = ("batch-memory", "commit-lmdb", "batch-lmdb")
PATTERNS_MIN = 40

# Stored events, and triggers of runs that no process takes over and nobody forks, resumes or changes.
STORED_TYPES = {
    "run_started", "node_finished", "tool_call", "tool_result", "handoff", "loop_finished", "retry", "waiting",
    "signal", "timer", "error", "done",
}  # fmt: skip
TRIGGERS = {"RunStarted", "NodeFinished", "NodeFailed", "TimerFired", "SignalReceived", "CancelRequested"}

_references: dict[str, Recorded] = {}


@asynccontextmanager
async def open_engine(kind: str, entries: Iterable[Entry], request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """Open a new engine with the given durability and place, such as `batch-lmdb` or `commit-temporal`."""
    durability, _, where = kind.partition("-")
    if where == "temporal":
        address, queue = request.getfixturevalue("temporal_server").address, token_hex(4)
        claims = request.getfixturevalue("tmp_path") / "claims" if durability == "batch" else None
        options = {"task_queue": queue, "durability": durability, "claims": claims, "deps": Deps()}
        async with TemporalEngine(address, **options) as engine, engine.worker(entry.flow() for entry in entries):
            yield engine
        return
    store = MemoryStore() if where == "memory" else LMDBStore(request.getfixturevalue("tmp_path") / kind)
    async with Engine(store, durability=durability, deps=Deps()) as engine:
        yield engine


async def record_on(kind: str, entry: Entry, request: pytest.FixtureRequest) -> Recorded:
    """Return the record of an entry on a new engine."""
    async with open_engine(kind, [entry], request) as engine:
        return await record(engine, entry)


async def reference(entry: Entry, request: pytest.FixtureRequest) -> Recorded:
    """Return the record that all others must be equal to, made once in this process."""
    if entry.name not in _references:
        _references[entry.name] = await record_on("commit-memory", entry, request)
    return _references[entry.name]


@pytest.mark.parametrize("name", ENTRY_BY_NAME)
async def test_a_run_goes_the_same_way_with_every_durability_and_store(
    name: str, request: pytest.FixtureRequest
) -> None:
    entry = ENTRY_BY_NAME[name]
    engines = (record_on(kind, entry, request) for kind in LOCAL_ENGINES)
    expected, *recorded = await asyncio.gather(reference(entry, request), *engines)
    assert expected.status is entry.ends
    for kind, found in zip(LOCAL_ENGINES, recorded, strict=True):
        assert found.events == expected.events, kind
        assert found == expected, kind


@pytest.mark.parametrize("durability", ["commit", "batch"])
@pytest.mark.parametrize("name", ENTRY_BY_NAME)
async def test_a_run_goes_the_same_way_on_temporal(name: str, durability: str, request: pytest.FixtureRequest) -> None:
    entry = ENTRY_BY_NAME[name]
    expected = await reference(entry, request)
    found = await record_on(f"{durability}-temporal", entry, request)
    assert found.events == expected.events
    assert found == expected


@pytest.mark.parametrize("name", [entry.name for entry in ENTRIES if entry.session is None])
async def test_a_run_that_continues_as_new_at_every_chance_goes_the_same_way(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = ENTRY_BY_NAME[name]
    expected = await reference(entry, request)
    change_options(monkeypatch, continue_events=1)
    found = await record_on("commit-temporal", entry, request)
    assert found.events == expected.events
    assert found == expected


async def test_the_flows_cover_every_type_of_stored_event_and_every_trigger(request: pytest.FixtureRequest) -> None:
    async with open_engine("commit-memory", ENTRIES, request) as engine:
        recorded = await asyncio.gather(*(record(engine, entry, run_id=entry.name) for entry in ENTRIES))
        steps = [step for entry in ENTRIES for step in await engine.history(entry.name)]
    events = [event for run in recorded for of_token in run.events.values() for event in of_token]
    assert {event.type for event in events} == STORED_TYPES
    assert {step.trigger for step in steps} == TRIGGERS


async def test_a_run_goes_the_same_way_among_all_others(request: pytest.FixtureRequest) -> None:
    entries = [entry for entry in ENTRIES if not entry.is_timed]
    async with open_engine("batch-lmdb", ENTRIES, request) as engine:
        together = await asyncio.gather(*(record(engine, entry) for entry in entries))
    for entry, found in zip(entries, together, strict=True):
        assert found == await reference(entry, request), entry.name


def test_flows_of_one_name_are_the_same_flow() -> None:
    assert len(ENTRY_BY_NAME) == len(ENTRIES) >= PATTERNS_MIN
    plans = {(plan.shape.name, plan.fingerprint) for plan in (entry.flow().plan() for entry in ENTRIES)}
    assert len({name for name, _ in plans}) == len(plans)


def test_a_flow_built_twice_has_the_same_plan() -> None:
    for entry in ENTRIES:
        assert entry.flow().plan().fingerprint == entry.flow().plan().fingerprint, entry.name


async def test_a_record_keeps_attempts_errors_and_the_order_of_events(request: pytest.FixtureRequest) -> None:
    recorded = await reference(ENTRY_BY_NAME["retry_exhausted"], request)
    assert [(event.type, event.attempt, event.error) for event in recorded.events["fails#1"]] == [
        ("retry", 1, "refused: 3"),
        ("retry", 2, "refused: 3"),
        ("error", None, "ValueError: refused: 3"),
    ]
