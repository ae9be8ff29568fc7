"""The visits of a run as a tree, with the outputs and errors of those that are shown."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from beluga_graph.inspection.reading import read_plan, read_trace
from beluga_graph.inspection.run_path import read_results
from beluga_graph.storage.records import RunRecord
from beluga_graph.trace.tree import TreeItem, build_tree, iter_visits
from stores.base import Store

__all__ = ["RunTree", "read_run_tree"]


@dataclass(frozen=True, slots=True)
class RunTree:
    """The tree of a run's visits as of its last committed step."""

    run_id: str
    took_ms: int
    """From the first visit to the last committed step."""
    items: tuple[TreeItem, ...]
    results: Mapping[str, tuple[Any, str]]
    """Output and error of each visit in the tree that has ended, by the visit's name."""


def read_run_tree(store: Store, head: RunRecord, *, depth: int | None, unfolded: bool) -> RunTree:
    """Return the tree of a run's visits. Visits that have not ended last until now. Raises `DamagedRecord`."""
    plan = read_plan(store, head)
    trail = read_trace(store, head, plan.shape, None)
    now_ms = None if trail.run.ended else int(time.time() * 1000)
    items = build_tree(trail, depth=depth, unfolded=unfolded, at_ms=now_ms)
    names = {visit.name for visit in iter_visits(items)}
    begun_ms = min((visit.begun_ms for visit in trail.visits.values()), default=trail.at_ms)
    return RunTree(head.run_id, trail.at_ms - begun_ms, items, read_results(store, head, plan, names))
