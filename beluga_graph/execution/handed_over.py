"""A run with all that it needs to go on with another driver, such as one that it is handed over to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, TypeAlias

from beluga_graph.kernel.shape import Shape
from beluga_graph.kernel.snapshot import Snapshot

__all__ = ["HandOverCheck", "HandedOver"]


class HandedOver(NamedTuple):
    """All that a run needs to go on elsewhere. Values are encoded; a large one is a reference, to one of `blobs`."""

    run: Snapshot
    """The run as of its last step. Its session, if it has one, belongs to the store that it leaves."""
    shape: Shape
    """The graph that the run has."""
    items: Mapping[tuple[str, str], tuple[bytes, ...]]
    """The items of each append field, by place and field."""
    signals: Mapping[str, tuple[bytes, ...]]
    """The payloads of the unread signals by name, the oldest first; answers to questions are among them."""
    session_items: tuple[bytes, ...]
    """The messages that the run's session had when the run began."""
    blobs: Mapping[bytes, bytes]
    """Each large value that the run refers to, by its reference."""


HandOverCheck: TypeAlias = Callable[[HandedOver], Awaitable[None]]
"""Looks at a run before it is marked as moved, and raises an error if it cannot go on elsewhere."""
