"""The commands that prune and compact stores: their effects, exit codes, text and JSON."""

import asyncio
from pathlib import Path

import cli_flows
import pytest
from cli_runs import as_json, begin, said, serving

from beluga_graph import EventBus


def test_prune_deletes_runs_that_ended_long_enough_ago(store: Path, tmp_path: Path) -> None:
    begin(store, cli_flows.counting, 1, "done", "completed")
    begin(store, cli_flows.failing, str(tmp_path), "failed", "failed")
    begin(store, cli_flows.asking, str(tmp_path), "asks")
    assert said("prune", "--older-than", "1h", "--store", store).startswith("0 runs pruned")
    assert said("prune", "--dry-run", "--store", store).endswith("1 run would be pruned")
    told = as_json("prune", "--dry-run", "--store", store)
    assert (told["dry_run"], [run["run_id"] for run in told["runs"]]) == (True, ["done"])
    assert [run["run_id"] for run in as_json("runs", "--store", store)] == ["done", "failed", "asks"]
    output = said("prune", "--store", store)
    assert output.endswith("1 run pruned; `compact` gives the space back to the disk")
    assert "done" in output
    told = as_json("prune", "--status", "failed", "--status", "completed", "--store", store)
    assert [run["run_id"] for run in told["runs"]] == ["failed"]
    assert [run["run_id"] for run in as_json("runs", "--store", store)] == ["asks"]
    assert said("verify", "--store", store).endswith("no damage")


@pytest.mark.parametrize("duration", ["7", "d", "-1d", "1 d", "1y", "1d12h", "1e9d", "", "٣d", "nan"])
def test_text_that_is_not_a_duration_is_refused(store: Path, duration: str) -> None:
    begin(store, cli_flows.counting, 1, "done", "completed")
    output = said("prune", f"--older-than={duration}", "--store", store, code=2)
    assert "give a number and its unit, such as 90s, 15m, 12h, 7d or 2w" in output


def test_prune_refuses_unfinished_runs(store: Path) -> None:
    begin(store, cli_flows.counting, 1, "done", "completed")
    output = said("prune", "--status", "waiting", "--store", store, code=2)
    assert "cancel such runs first" in output
    assert len(as_json("runs", "--store", store)) == 1


def test_prune_bus_deletes_events_and_no_run(store: Path) -> None:
    begin(store, cli_flows.counting, 1, "done", "completed")

    async def publish() -> None:
        async with EventBus(store) as bus:
            for number in range(5):
                await bus.publish("a", number)

    asyncio.run(publish())
    assert said("prune", "--bus", "--older-than", "1h", "--store", store).startswith("0 events pruned")
    assert as_json("prune", "--bus", "--store", store) == {"events": 4}
    assert [run["run_id"] for run in as_json("runs", "--store", store)] == ["done"]
    output = said("prune", "--bus", "--dry-run", "--store", store, code=2)
    assert "are for runs" in output
    assert said("verify", "--store", store).endswith("no damage")


def test_compact_shrinks_the_file_unless_the_store_is_in_use(store: Path, tmp_path: Path) -> None:
    for number in range(20):
        begin(store, cli_flows.counting, number, f"r{number}", "completed")
    said("prune", "--store", store)
    begin(store, cli_flows.gated, str(tmp_path), "r", "running")
    with serving(store, "cli_flows:gated"):
        output = said("compact", "--store", store, code=4)
        assert "is in use: another process has it open; try again once that has ended" in output
    sizes = as_json("compact", "--store", store)
    assert sizes["bytes_after"] == (store / "data.mdb").stat().st_size < sizes["bytes_before"]
    assert said("compact", "--store", store).endswith("bytes after")
    (tmp_path / "open").touch()
    assert "gone through" in said("resume", "r", "--flow", "cli_flows:gated", "--store", store)
