"""What the properties share."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def quiet_owners() -> Iterator[None]:
    """Owners whose power was cut say that their record stays: true, expected, and thousands of lines."""
    log = logging.getLogger("beluga_graph.storage.leases")
    before = log.level
    log.setLevel(logging.ERROR)
    yield
    log.setLevel(before)
