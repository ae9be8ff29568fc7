"""Servers that speak the providers' wire formats over a real socket."""

from collections.abc import AsyncIterator, Iterator

import pytest
from llmock.testing import LLMockServer
from models_wire import Wire, wire_server


@pytest.fixture(scope="session")
def running_mock() -> Iterator[LLMockServer]:
    with LLMockServer() as server:
        yield server


@pytest.fixture
def mock(running_mock: LLMockServer) -> LLMockServer:
    """llmock, with nothing scripted and an empty journal."""
    running_mock.state.scenarios.clear()
    running_mock.state.journal.clear()
    return running_mock


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    async with wire_server() as served:
        yield served
