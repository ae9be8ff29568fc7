"""The note in which a run is parked: a commit of its own, after all of the run's steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beluga_graph.runtime.active_run import ActiveRun
from stores.base import Op

if TYPE_CHECKING:
    from beluga_graph.engine.parking import Parking

__all__ = ["Note"]


class Note:
    """The note that a run's lease is given back."""

    line = None
    seq = 0

    def __init__(self, parking: Parking, live: ActiveRun, ops: list[Op], due: int) -> None:
        self._parking, self._live, self._due = parking, live, due
        self.ops = ops

    @property
    def alive(self) -> bool:
        """Whether the run is still this engine's."""
        return self._live.error is None and not self._live.done.done()

    def released(self) -> None:
        """The lease is given back."""
        self._parking.parked(self._live, self._due)

    def refused(self, error: Exception) -> None:
        """Something was sent to the run, or it was lost."""
        self._parking.kept(self._live, error)
