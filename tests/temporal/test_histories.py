"""Histories of earlier runs: the workflow decides as it did then, so runs survive an update of their workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from histories import FOLDER, OTHERS, PATTERNS, read_golden, read_histories, replay, show, show_replayed
from temporalio.workflow import NondeterminismError

from beluga_graph import SnapshotError
from beluga_graph.kernel.snapshot import Token
from beluga_graph.temporal.workflow import dispatch, outbox, outbox_workflow
from beluga_graph.temporal.workflow.attempt_queue import AttemptQueue
from beluga_graph.temporal.workflow.dispatch import Dispatcher
from beluga_graph.temporal.workflow.driver import WorkflowDriver
from beluga_graph.temporal.workflow.wire import FORMAT


@pytest.mark.parametrize("name", [*PATTERNS, *OTHERS])
async def test_a_recorded_history_replays_to_the_same_decisions(name: str) -> None:
    shown = [await show_replayed(name, history) for history in read_histories(name)]
    assert shown == read_golden(name)


def test_each_recorded_history_has_a_golden_and_a_pattern() -> None:
    recorded = {path.name.removesuffix(".json.gz") for path in FOLDER.glob("*.json.gz")}
    assert recorded == {path.name.removesuffix(".golden.json") for path in FOLDER.glob("*.golden.json")}
    assert recorded == {*PATTERNS, *OTHERS}
    assert FORMAT == 1, "record histories with the new format, and keep those with the earlier ones"


async def expect_refused(name: str) -> None:
    with pytest.raises(SnapshotError, match=r"cannot be replayed: .*Nondeterminism"):
        await replay(read_histories(name)[0])


@pytest.mark.parametrize("name", ["chain", "fan_out", "batch", "ahead"])
async def test_other_names_of_activities_are_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "make_activity_id", lambda token, attempt: f"{token}/{attempt}")
    await expect_refused(name)


@pytest.mark.parametrize("name", ["fan_out", "nested", "race"])
async def test_another_order_of_activities_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    take = AttemptQueue.take

    def take_backwards(self: AttemptQueue, has_room: Callable[[int], bool]) -> Iterator[list[Token]]:
        yield from reversed(list(take(self, has_room)))

    monkeypatch.setattr(AttemptQueue, "take", take_backwards)
    await expect_refused(name)


@pytest.mark.parametrize("name", ["chain", "loop"])
async def test_an_activity_too_few_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(self: Dispatcher, token: Token) -> None:
        """Begin nothing."""

    monkeypatch.setattr(Dispatcher, "add", nothing)
    await expect_refused(name)


async def test_another_way_to_the_outbox_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "ADD_TO_OUTBOX", "add")
    await expect_refused("publishing")


async def test_another_activity_of_the_outbox_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_workflow, "PUBLISH", "send")
    (history,) = read_histories("outbox")
    with pytest.raises(NondeterminismError):
        await show_replayed("outbox", history)


async def test_an_outbox_keeps_a_batch_once_that_was_added_again() -> None:
    (history,) = read_histories("outbox")
    added = [what["messages"] for name, *_, what in await show_replayed("outbox", history) if name == "add"]
    assert [len(messages) for messages in added] == [1, 2, 4, 4]


async def test_a_decision_with_the_same_commands_is_found_by_the_golden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WorkflowDriver, "now", lambda self: 0)
    (history,) = read_histories("chain")
    shown: Any = show(await replay(history))
    assert [shown] != read_golden("chain")
