"""Conversations stay valid and no answer is paid for twice, for random answers of agents and random power failures."""

from __future__ import annotations

import asyncio

from agents_checks import assert_valid
from agents_outages import KINDS, Table, World
from hypothesis import given, settings
from hypothesis import strategies as st

from beluga_graph import RunStatus
from beluga_graph.execution.stored_values import StoredValues
from beluga_graph.storage.loading import RunReader, rebuild
from beluga_graph.storage.session_records import Session, read_session_items
from stores.base import Durability

effort = settings(max_examples=60, deadline=None, print_blob=True)


def tables() -> st.SearchStrategy[Table]:
    turn = st.lists(st.sampled_from(KINDS), max_size=4)
    return st.lists(turn, min_size=1, max_size=6)


def crashes() -> st.SearchStrategy[list[tuple[int, bool]]]:
    return st.lists(st.tuples(st.integers(1, 30), st.booleans()), max_size=5)


def durabilities() -> st.SearchStrategy[Durability]:
    return st.sampled_from(["commit", "batch", "none"])


@effort
@given(tables(), crashes(), durabilities())
def test_a_run_asks_and_answers_the_same_with_outages_as_without(
    table: Table, schedule: list[tuple[int, bool]], durability: Durability
) -> None:
    calm = World(table)
    expected = asyncio.run(calm.run("go", "r"))
    world = World(table, schedule, durability)
    outcome = asyncio.run(world.run("go", "r"))
    assert world.again == [], "an answered call was made again"
    assert (outcome.output, outcome.usage, outcome.steps) == (expected.output, expected.usage, expected.steps)
    assert world.asked == calm.asked


@effort
@given(tables(), crashes(), st.lists(st.integers(0, 40), min_size=1, max_size=4))
def test_a_session_stays_valid_over_cancels_failures_and_outages(
    table: Table, schedule: list[tuple[int, bool]], runs: list[int]
) -> None:
    world = World(table, schedule)
    ended = []
    for number, cancel_after in enumerate([*runs, 0]):
        outcome = asyncio.run(world.run(f"question {number}", f"r{number}", session="s", cancel_after=cancel_after))
        ended.append(outcome.status)
        assert outcome.status in (RunStatus.completed, RunStatus.cancelled)
    assert ended[-1] is RunStatus.completed
    assert world.again == []
    last = next(messages for key, messages in world.asked.items() if key.startswith(f"r{len(runs)}:"))
    asked = [m.text for m in last if m.text.startswith("question")]
    completed = [f"question {n}" for n, status in enumerate(ended) if status is RunStatus.completed]
    assert asked == completed, "a cancelled run leaves nothing, a completed one its whole conversation"


@effort
@given(tables(), crashes())
def test_a_session_holds_a_whole_conversation_after_each_run(table: Table, schedule: list[tuple[int, bool]]) -> None:
    world = World(table, schedule)
    outcome = asyncio.run(world.run("question", "r", session="s"))
    plan = world.flow().plan()
    run = rebuild(world.disk, "r")
    reader = RunReader(world.disk, "r")
    assert run.session is not None
    _, record = Session(plan.name, "s"), world.disk.get(Session(plan.name, "s").key)
    assert record is not None
    messages = list(reader.read_items("", "messages", 0, run.places[""].lengths["messages"]))
    told = [StoredValues(plan.codec, reader).decode(item) for item in messages]
    assert_valid(told)
    assert told[-1].text == outcome.output
    assert list(read_session_items(world.disk, run)) == []
