"""A fixture that several modules of these tests share."""

import pytest

import beluga_graph.engine.store_poller


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let engines look at their store much more often."""
    monkeypatch.setattr(beluga_graph.engine.store_poller, "INTERVAL_S", 0.005)
