"""temporary"""

from __future__ import annotations
from collections.abc import AsyncIterator
from typing import Protocol
from beluga_graph.models.messages import Reply, Request


class Model(Protocol):
    name: str

    def stream(self, request: Request) -> AsyncIterator[str | Reply]: ...


def resolve(given: Model | str) -> Model:
    if isinstance(given, str):
        raise ValueError(given)
    return given
