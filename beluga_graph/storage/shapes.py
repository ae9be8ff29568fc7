"""Shapes of graphs as they are stored, and the shapes that a run had at each step.

A run may continue with a changed graph. Each of its steps is read with the graph that it was made with.
"""

from __future__ import annotations

from collections.abc import Mapping

from beluga_graph.codec.errors import DamagedRecord
from beluga_graph.kernel.ops import SET_PLAN
from beluga_graph.kernel.shape import NodeShape, Shape
from beluga_graph.storage.keys import shape_key
from beluga_graph.storage.loading import StoredStep, rebuild
from beluga_graph.storage.records import decode_record, encode_record
from stores.base import Op, Put, Store

__all__ = ["ShapeHistory", "read_shape", "shape_at", "shape_ops"]


class ShapeHistory:
    """The graphs that one run was driven with. Pass its steps in order, beginning at any of them."""

    def __init__(self, store: Store, run_id: str, known: Shape) -> None:
        self._store = store
        self._run_id = run_id
        self._known = known  # used in place of a shape that is missing from the store
        self._current: Shape | None = None

    @property
    def is_known(self) -> bool:
        """Whether the step passed last was made with the known graph."""
        return self._current is self._known

    def nodes(self, step: StoredStep) -> Mapping[str, NodeShape]:
        """Return the nodes of the graph at a step, by path. Raises `DamagedRecord`."""
        if self._current is None:
            before = rebuild(self._store, self._run_id, step.seq - 1)
            self._current = shape_at(self._store, before.plan, self._known)
        for op in step.patch.ops:
            if op[0] == SET_PLAN:
                _, fingerprint = op
                self._current = shape_at(self._store, fingerprint, self._known)
        return self._current.nodes


def shape_at(store: Store, fingerprint: str, known: Shape) -> Shape:
    """Return the shape of a fingerprint, or the known one if it is missing. Raises `DamagedRecord`."""
    if fingerprint == known.fingerprint:
        return known
    return read_shape(store, fingerprint) or known


def read_shape(store: Store, fingerprint: str) -> Shape | None:
    """Return the stored shape of a fingerprint. Raises `DamagedRecord`."""
    key = shape_key(fingerprint)
    blob = store.get(key)
    if blob is None:
        return None
    shape = Shape.from_plain(decode_record(key, blob))
    if shape.fingerprint != fingerprint:
        raise DamagedRecord("the shape", f"{fingerprint} is that of {shape.fingerprint!r:.80}")
    return shape


def shape_ops(store: Store, shape: Shape) -> list[Op]:
    """Return the write of a graph's shape, or nothing if it is stored."""
    key = shape_key(shape.fingerprint)
    return [] if store.get(key) is not None else [Put(key, encode_record(key, shape.to_plain()))]
