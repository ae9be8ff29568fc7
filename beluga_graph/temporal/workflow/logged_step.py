"""The steps of a run, as its workflow keeps them."""

from __future__ import annotations

from typing import NamedTuple

from beluga_graph.kernel.triggers import Trigger
from beluga_graph.kernel.types import Patch
from beluga_graph.temporal.workflow.wire import Reply

__all__ = ["LoggedStep"]


class LoggedStep(NamedTuple):
    """A step, kept for the followers of the run. A replay of the history makes it again."""

    seq: int
    at_ms: int
    trigger: Trigger
    patch: Patch
    reply: Reply | None
    """The reply of the attempt that the trigger ended."""
