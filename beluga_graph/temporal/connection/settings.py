"""The settings of a connection, from the environment and the configuration file of Temporal's own tools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from temporalio.client import Client
from temporalio.envconfig import ClientConfig

__all__ = ["ConnectionSettings"]

_ADDRESS = "localhost:7233"


class ConnectionSettings(NamedTuple):
    """The server and the namespace of a connection, with its credentials."""

    address: str
    namespace: str
    credentials: Mapping[str, Any]
    """Further arguments of `Client.connect`, such as TLS and an API key."""

    @classmethod
    def load(cls, address: str | None, namespace: str | None) -> ConnectionSettings:
        """Return the settings; an address or a namespace that is given replaces that of the environment.

        Raises `ValueError` if the variables or the file cannot be read.
        """
        try:
            found: dict[str, Any] = {**ClientConfig.load_client_connect_config()}
        except (RuntimeError, ValueError, OSError) as error:
            msg = f"Temporal's configuration cannot be read: {error}: correct its file or the variables TEMPORAL_…"
            raise ValueError(msg) from error
        found_address, found_namespace = found.pop("target_host", None), found.pop("namespace", None)
        return cls(
            address or found_address or _ADDRESS,
            namespace if namespace is not None else found_namespace or "default",
            found,
        )

    async def resolve(self) -> str | Client:
        """Return the server as an engine takes it: its address, or with credentials a client that connects lazily."""
        if not self.credentials:
            return self.address
        return await Client.connect(self.address, namespace=self.namespace, lazy=True, **self.credentials)
