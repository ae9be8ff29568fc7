"""A fixture of the properties."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def quiet_owners() -> Iterator[None]:
    """Silence the warnings of owners whose power was cut: they are expected, and there are thousands."""
    log = logging.getLogger("beluga_graph.storage.leases")
    before = log.level
    log.setLevel(logging.ERROR)
    yield
    log.setLevel(before)
