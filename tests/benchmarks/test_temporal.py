"""The benchmark of Temporal measures every variant on a real server. These tests check counts, never times."""

import pytest
from servers import Server

from benchmarks import temporal


async def test_every_variant_is_measured_and_shown(temporal_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"STEPS": 6, "RUNS": 2, "RUN_STEPS": 3, "WIDTH": 5}.items():
        monkeypatch.setattr(temporal, name, value)
    (found,) = await temporal.measure_all(await temporal_server.connect(), 1, 0)
    assert set(found) == set(temporal.VARIANTS)
    commit, batch = found["Temporal, commit"], found["Temporal, batch"]
    assert commit["events/step"] > 3 > batch["events/step"]  # an activity alone has three events
    assert min(min(figures.values()) for figures in found.values()) > 0
    table = temporal.table_of([found])
    assert [column.header for column in table.columns][1] == "ms/step, loop of 6"
    assert table.row_count == len(temporal.VARIANTS)
