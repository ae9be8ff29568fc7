"""Settings for all tests, the path of the helpers that several folders share, and the Temporal server."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

sys.path.append(str(Path(__file__).with_name("shared")))

if TYPE_CHECKING:
    from servers import Server

# An example takes longer on a busy machine: no property is about time.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def temporal_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a development server in memory, for all tests of this process: give each workflow an id of its own."""
    from servers import dev_server  # noqa: PLC0415 - most tests need no client of Temporal

    with dev_server(tmp_path_factory.mktemp("temporal")) as server:
        yield server
