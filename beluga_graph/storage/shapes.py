"""The past of a run's graph: what it was when a step was made, for a run may have gone on with a changed one."""

from __future__ import annotations

from collections.abc import Mapping

from beluga_graph.kernel.ops import SET_PLAN
from beluga_graph.kernel.shape import NodeShape, Shape
from beluga_graph.storage.run_log import Stored, read_shape, rebuild
from stores.base import Store

__all__ = ["ShapeHistory", "shape_then"]


class ShapeHistory:
    """The graphs that a run went through. Asked for its steps in order, from any of them on."""

    def __init__(self, store: Store, run_id: str, known: Shape) -> None:
        self._store = store
        self._run_id = run_id
        self._known = known  # what a shape that is missing from the store is taken to have been
        self._then: Shape | None = None

    @property
    def is_known(self) -> bool:
        """Whether the step that was asked for last was made with the graph as it is known now."""
        return self._then is self._known

    def nodes(self, step: Stored) -> Mapping[str, NodeShape]:
        """Return the nodes of the graph at a step, by path."""
        return self._at(step).nodes

    def _at(self, step: Stored) -> Shape:
        if self._then is None:
            before, _ = rebuild(self._store, self._run_id, step.seq - 1)
            self._then = shape_then(self._store, before.plan, self._known)
        for op in step.patch.ops:
            if op[0] == SET_PLAN:
                _, fingerprint = op
                self._then = shape_then(self._store, fingerprint, self._known)
        return self._then


def shape_then(store: Store, fingerprint: str, known: Shape) -> Shape:
    """Return the shape of a fingerprint, or the known one where it is missing. Raises `DamagedRecord`."""
    if fingerprint == known.fingerprint:
        return known
    return read_shape(store, fingerprint) or known
