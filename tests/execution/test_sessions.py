"""A run takes a session, and returns it with its messages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from beluga_graph import Agent, RunConflict, RunError, Workflow, step
from beluga_graph.codec import Codec, Registry
from beluga_graph.execution.items import KnownItems
from beluga_graph.execution.sessions import check_session, end_session, take_session
from beluga_graph.execution.stored_values import StoredValues
from beluga_graph.kernel.run_session import RunSession
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, FAILED, Snapshot
from beluga_graph.plan.compile import compile_graph
from beluga_graph.testing import ScriptedModel

TAKEN = RunSession("front", "s", version=2, length=5, generation=1, active="front", run="r")
CODEC = Codec()
AGENT = compile_graph(Agent("front", model=ScriptedModel(["hello"])).declare())
WORKFLOW = compile_graph(Workflow("plain", step("one", lambda value: value)).declare())


@dataclass(frozen=True)
class View:
    base: tuple[str, ...]
    start: int


class Items:
    """Holds the messages of one run."""

    def __init__(self, *messages: str) -> None:
        self.decoded_cache: dict[Any, Any] = {}
        self.known_items = KnownItems()
        self.messages = [CODEC.encode(message) for message in messages]

    def load(self, value: bytes) -> bytes:
        return value

    def to_reference(self, encoded: bytes) -> bytes:
        return encoded

    def read_items(self, place: str, field: str, start: int, stop: int) -> Iterator[bytes]:
        assert (place, field) == ("", "messages")
        yield from self.messages[start:stop]

    def read_session_items(self, run: Snapshot, start: int = 0) -> Iterator[bytes]:
        raise AssertionError("the messages before the run are not read")


def ended(status: str, *messages: str, session: RunSession | None = TAKEN, **fields: Any) -> tuple[Snapshot, Items]:
    run = Snapshot(run_id="r", plan="p", started_ms=0, value=b"in", session=session and tuple(session))
    run.status = status
    run.places[""].lengths["messages"] = len(messages)
    codec = Codec(Registry.of(View))
    run.places[""].fields.update({name: codec.encode(value) for name, value in fields.items()})
    return run, Items(*messages)


def update_of(run: Snapshot, items: Items) -> Any:
    return end_session(run, StoredValues(Codec(Registry.of(View)), items), CODEC.encode)


def test_a_free_session_is_taken_and_one_that_a_run_has_is_refused() -> None:
    free = TAKEN._replace(run="")
    assert take_session(free, "r") == TAKEN
    with pytest.raises(RunConflict, match="session 's' belongs to run 'r' until that ends: resume or cancel it"):
        take_session(TAKEN, "other")


@pytest.mark.parametrize("name", ["", "  ", 7, None])
def test_a_session_needs_a_visible_name(name: Any) -> None:
    with pytest.raises(RunError, match="is not a session name"):
        check_session(AGENT, name, "r")


def test_only_an_agent_keeps_a_session() -> None:
    check_session(AGENT, "s", "r")
    with pytest.raises(RunConflict, match="flow 'plain' is not an agent"):
        check_session(WORKFLOW, "s", "r")


def test_a_completed_run_adds_its_messages() -> None:
    update = update_of(*ended(COMPLETED, "a", "b", active="billing"))
    assert update.session == RunSession("front", "s", version=3, length=7, generation=1, active="billing")
    assert (update.first, [CODEC.decode(item) for item in update.items]) == (5, ["a", "b"])


def test_the_agent_that_answered_last_remains_if_the_run_names_none() -> None:
    assert update_of(*ended(COMPLETED, "a")).session.active == "front"


def test_an_input_filter_replaces_all_earlier_messages() -> None:
    update = update_of(*ended(COMPLETED, "a", "b", "c", view=View(("short",), 2)))
    assert (update.session.length, update.session.generation) == (2, 2)
    assert (update.first, [CODEC.decode(item) for item in update.items]) == (0, ["short", "c"])


@pytest.mark.parametrize("status", [FAILED, CANCELLED])
def test_a_run_that_fails_or_is_cancelled_only_returns_the_session(status: str) -> None:
    update = update_of(*ended(status, "a"))
    assert update.session == TAKEN._replace(run="")
    assert list(update.items) == []


def test_a_run_without_the_session_changes_nothing() -> None:
    assert update_of(*ended(COMPLETED, "a", session=None)) is None
    assert update_of(*ended(COMPLETED, "a", session=TAKEN._replace(run="its source"))) is None
