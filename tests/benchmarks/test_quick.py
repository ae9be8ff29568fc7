"""The benchmarks measure the right things. These tests check counts and shapes, never times."""

import json
from pathlib import Path

import pytest

from benchmarks import bars, charts, figures
from benchmarks.__main__ import main
from benchmarks.adapters import adapter_of
from benchmarks.suite import Measured, Options, measure_all, order_of
from benchmarks.workloads import METRICS, OURS, RAW, VARIANTS, WORKLOADS, Cell, cells_of, raw_beside

NINE = [f"w{number}" for number in range(1, 10)]
IN_PROCESS = [name for name in NINE if name not in ("w4", "w7")]  # those two measure processes
TINY = {"w1": 5, "w2": 4, "w3": 3, "w4": 10, "w5": 2, "w6": 20_000, "w7": 1, "w8": 7, "w9": 6}


def ignore(_done: int, _total: int, _cell: Cell) -> None:
    """Do nothing."""


@pytest.mark.parametrize(
    ("name", "variant"),
    [(name, variant) for name in IN_PROCESS for variant in VARIANTS if WORKLOADS[name].runs_on(variant, 1)],
)
async def test_every_workload_runs_on_the_adapter_of_each_of_its_variants(
    name: str, variant: str, tmp_path: Path
) -> None:
    adapter = adapter_of(variant, tmp_path)
    await adapter.open()
    for run in ("one", "two"):
        payload = await adapter.prepare(name, run, TINY[name])
        await adapter.run(name, run, TINY[name])  # raises if the output is wrong
    await adapter.settle()
    await adapter.close()
    assert (payload is not None) == variant.startswith(("lmdb", "sqlite"))


def test_there_are_nine_workloads_and_quick_runs_all_of_them() -> None:
    assert list(WORKLOADS) == NINE
    assert {cell.workload for cell in cells_of(quick=True)} == set(NINE)
    assert set(VARIANTS) == {*OURS, *RAW}


def test_the_raw_cell_of_every_cell_of_ours_is_measured_too() -> None:
    for quick in (True, False):
        cells = set(cells_of(quick=quick))
        without = [cell for cell in cells if cell.variant in OURS and raw_beside(cell) not in cells]
        assert {(cell.workload, cell.variant) for cell in without} <= {("w6", "memory"), ("w9", "batch")}


async def test_a_raw_store_writes_the_bytes_that_the_engine_commits(tmp_path: Path) -> None:
    counts = {}
    for steps in (10, 20):
        adapter = adapter_of("lmdb-nosync", tmp_path / str(steps))
        (tmp_path / str(steps)).mkdir()
        await adapter.open()
        counts[steps] = await adapter.prepare("w1", "run", steps)
        await adapter.close()
    assert counts[10] is not None
    assert counts[20] is not None
    assert counts[10] + 10 * 100 < counts[20] < 2 * counts[10]  # each step brings its string of 100 bytes


def test_each_repetition_measures_the_same_cells_in_a_different_order(tmp_path: Path) -> None:
    cells = cells_of(["w1", "w3"])
    order = order_of(cells, Options(data=tmp_path, repetitions=3, seed=5))
    per = [[cell for number, cell in order if number == repetition] for repetition in range(3)]
    assert all(sorted(one) == sorted(cells) for one in per)
    assert per[0] != per[1]
    assert order == order_of(cells, Options(data=tmp_path, repetitions=3, seed=5))


def test_only_the_killed_node_runs_again(tmp_path: Path) -> None:
    cells = [Cell("w4", TINY["w4"], variant) for variant in ("commit", "none")]
    for measured in measure_all(cells, Options(data=tmp_path), ignore):
        assert measured.errors == []
        assert measured.figures["again"] == [[0.0]] * 3


def test_a_cell_that_fails_is_reported_and_the_others_are_measured(tmp_path: Path) -> None:
    cells = [Cell("w7", 1, "await"), Cell("w4", 10, "await")]
    cold_one, impossible = measure_all(cells, Options(data=tmp_path, repetitions=1, quick=True), ignore)
    assert cold_one.figures["cold_ms"]
    assert impossible.figures == {}
    assert impossible.errors[0].startswith("repetition 0: it ended with 1, not -9: NotImplementedError")
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_figures_with_machine_versions_bars_and_probes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = [Cell("w1", TINY["w1"], variant) for variant in ("memory", "none", "lmdb-nosync")]
    monkeypatch.setattr("benchmarks.__main__.cells_of", lambda *_, **__: tiny)
    out = tmp_path / "out"
    arguments = ["--quick", "-w", "w1", "-v", "memory,none,lmdb-nosync", "--seed", "3"]
    assert main([*arguments, "--out", str(out), "--data", str(tmp_path / "data")]) == 0
    document = json.loads((out / "figures.json").read_text())
    assert document["seed"] == 3
    assert {"cpu", "cores", "kernel", "python", "data_file_system"} <= document["machine"].keys()
    assert document["packages"]["lmdb"]
    assert set(document["metrics"]) == set(METRICS)
    memory, none, raw = document["results"]
    assert [one["variant"] for one in (memory, none, raw)] == ["memory", "none", "lmdb-nosync"]
    assert set(none["figures"]) == {"step_us", "cpu_us", "stored_b", "written_b"}
    assert "stored_b" not in memory["figures"]
    assert raw["figures"]["payload_b"]["median"] > 100
    assert none["figures"]["step_us"].keys() == {"median", "min", "max", "n", "samples"}
    assert none["raw"] == "lmdb-nosync"
    assert none["against_raw"]["n"] == 1
    assert none["probes"][0].keys() == {"fdatasync_us", "loop_ms", "load"}
    assert all(one["errors"] == [] for one in document["results"])
    assert {bar["holds"] for bar in document["bars"]} == {None}  # tiny sizes prove nothing
    assert "W1: a chain of nodes" in capsys.readouterr().out


def test_an_unknown_name_is_refused_with_the_known_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-w", "w10"]) == 2
    assert "'w10': known are w1, w2, w3" in capsys.readouterr().out


def test_growth_is_drawn_for_workloads_with_two_measured_sizes(tmp_path: Path) -> None:
    found = []
    for name, sizes in (("w9", (10, 100)), ("w2", (10,))):
        for size in sizes:
            figure = {metric: [[1.0 * size, 2.0 * size]] for metric in WORKLOADS[name].metrics}
            found.append(Measured(Cell(name, size, "none"), figure, [0]))
    (path,) = charts.draw_charts(figures.Report(found), tmp_path)
    assert path == tmp_path / "w9.svg"
    assert "anonymous memory, MB" in path.read_text()


def test_a_bar_is_judged_by_the_measurements_of_this_run() -> None:
    ours, raw = Cell("w1", 200, "commit"), Cell("w1", 200, "lmdb-sync")
    report = figures.Report(
        [
            Measured(ours, {"step_us": [[300.0], [320.0]]}, [0, 1]),
            Measured(raw, {"step_us": [[200.0], [250.0]]}, [0, 1]),
        ]
    )
    first, *others = bars.bars_of(report)
    assert first.measured == pytest.approx((300 / 200 + 320 / 250) / 2)
    assert first.holds
    assert {bar.holds for bar in others} == {None}


def test_without_time_left_each_cell_is_measured_once(tmp_path: Path) -> None:
    cells = [Cell("w1", TINY["w1"], variant) for variant in ("await", "create-task")]
    for measured in measure_all(cells, Options(data=tmp_path, repetitions=3, budget_s=0), ignore):
        assert measured.repetitions == [0]
        assert len(measured.probes) == 1
