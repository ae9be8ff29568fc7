"""The commands about schedules: they add, list, pause and remove, and a server starts the runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_documents import ENVIRONMENT, invoke, spawn, wait_for

FLOW = "cli_flows:asking_again"
CLI_FOLDER = Path(__file__).parent


def said(*args: object, code: int = 0) -> str:
    """Return the output of a command on one line."""
    result = invoke("schedule", *args)
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def listed(store: Path) -> Any:
    return json.loads(said("list", "--store", store, "--json"))


def test_a_schedule_is_added_listed_paused_and_removed(store: Path) -> None:
    rule = ("--cron", "0 9 1 1 *", "--timezone", "Europe/Berlin")
    text = said("add", "yearly", FLOW, '"Ada"', *rule, "--store", store)
    assert text.startswith("schedule 'yearly' is next due at ")
    assert "09:00:00+01:00" in text
    (found,) = listed(store)
    assert {name: found[name] for name in ("name", "flow", "input", "cron", "every", "timezone", "overlap")} == {
        "name": "yearly",
        "flow": "asking",
        "input": "Ada",
        "cron": "0 9 1 1 *",
        "every": None,
        "timezone": "Europe/Berlin",
        "overlap": "skip",
    }
    assert said("pause", "yearly", "--store", store) == "schedule 'yearly' is paused"
    assert "paused" in said("list", "--store", store)
    assert json.loads(said("unpause", "yearly", "--store", store, "--json"))["change"] == "unpaused"
    assert "0 9 1 1 * (Europe/Berlin)" in said("list", "--store", store)
    assert said("remove", "yearly", "--store", store) == "schedule 'yearly' is removed"
    assert said("list", "--store", store) == f"no schedule in {store}"


def test_an_interval_is_added_with_all_options(store: Path) -> None:
    options = ("--every", "15m", "--start", "2026-11-30T09:00:00+01:00", "--overlap", "queue")
    options += ("--catch-up", "all", "--jitter", "30s", "--json")
    found = json.loads(said("add", "often", FLOW, *options, "--store", store))
    assert (found["every"], found["overlap"], found["catch_up"], found["jitter"]) == (900.0, "queue", "all", 30.0)
    assert found["start"] == "2026-11-30T08:00:00+00:00"
    assert "every 0:15:00" in said("list", "--store", store)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--cron", "61 * * * *"), "the minute '61' is wrong"),
        (("--cron", "* * * * *", "--timezone", "Mars"), "there is no such time zone"),
        (("--every", "soon"), "'soon' is not a duration"),
        (("--every", "0s"), "give at least one second"),
        (("--every", "1m", "--start", "tomorrow"), "'tomorrow' is not a time"),
        (("--every", "1m", "--start", "2026-11-30"), "give a datetime with a time zone"),
        ((), "give cron= or every=, and not both"),
    ],
)
def test_wrong_options_are_refused_as_wrong_usage(
    store: Path, arguments: tuple[str, ...], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    assert complaint in said("add", "wrong", FLOW, *arguments, "--store", store, code=2)


def test_an_unknown_schedule_is_an_error(store: Path) -> None:
    said("add", "yearly", FLOW, "--cron", "0 9 1 1 *", "--store", store)
    for command in ("pause", "unpause", "remove"):
        assert "there is no schedule 'other'" in said(command, "other", "--store", store, code=1)


def test_commands_that_change_need_a_store(store: Path) -> None:
    for arguments in (("list",), ("pause", "x"), ("remove", "x")):
        assert f"there is no store at {store}" in said(*arguments, "--store", store, code=1)


def test_a_server_starts_the_runs_of_a_schedule(store: Path, tmp_path: Path) -> None:
    said("add", "ticks", FLOW, json.dumps(str(tmp_path)), "--every", "1s", "--store", store)
    environment = {**ENVIRONMENT, "PYTHONPATH": f"{ENVIRONMENT['PYTHONPATH']}:{CLI_FOLDER}"}
    bus = tmp_path / "bus"
    with spawn("serve", FLOW, "--store", store, "--bus", bus, env=environment) as server:
        try:
            seen = wait_for(server, "is completed")
        finally:
            server.terminate()
            server.wait(60)
    assert "run 'ticks@" in seen
    assert listed(store)[0]["last_run"].startswith("ticks@")
