"""The tree that `show` prints: every visit of a run under the frame or the branch that it stands in."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.text import Text
from rich.tree import Tree

from beluga_graph.cli.summaries import glance
from beluga_graph.cli.terminal_text import brief, local_time, plain
from beluga_graph.codec.to_json import as_data
from beluga_graph.draw.text import clipped, shown_duration, shown_number
from beluga_graph.draw.theme import STATUS_SIGNS
from beluga_graph.inspection.reading import stored_plan, trail_of
from beluga_graph.inspection.run_path import results_of
from beluga_graph.kernel.rules import is_answer
from beluga_graph.storage.keys import check_run_id
from beluga_graph.storage.records import RunRecord
from beluga_graph.storage.run_log import one_look, read_head
from beluga_graph.trace.tree import QUEUED, Branch, Folded, Item, VisitItem, tree_of, visits_in
from stores.base import Store

__all__ = ["Walked", "tokens_of", "walked"]

_LOOKS = {  # with signs of ASCII for a terminal that has no others
    "done": ("+", "green"),
    "failed": ("x", "red"),
    "running": (">", "cyan"),
    "retrying": ("~", "yellow"),
    "waiting": ("?", "yellow"),
    "stopped": ("#", "bright_black"),
    "dropped": ("-", "bright_black"),
    QUEUED: (".", "bright_black"),
}
_SIGNS = {status: (STATUS_SIGNS.get(status, "…"), *looks) for status, looks in _LOOKS.items()}
_LASTING = ("running", "retrying", "waiting")
_MOST = 80


@dataclass(frozen=True, slots=True)
class Walked:
    """The tree of a run's visits, and what those that are shown ended in."""

    run_id: str
    took_ms: int
    items: tuple[Item, ...]
    results: Mapping[str, tuple[Any, str]]

    def data(self) -> list[Any]:
        """Return the tree as JSON has it."""
        return [self._data(item) for item in self.items]

    def _data(self, item: Item) -> dict[str, Any]:
        if isinstance(item, Folded):
            return {"folded": item.count, "statuses": dict(item.statuses)}
        found = {
            field.name: as_data(getattr(item, field.name))
            for field in dataclasses.fields(item)
            if field.name != "inside"
        }
        if isinstance(item, VisitItem):
            output, error = self.results.get(item.name, (None, ""))
            found |= {"output": as_data(output), "error": error}
        return {**found, "inside": [self._data(part) for part in item.inside]}

    def shown(self, status: str, *, ascii_only: bool) -> Tree:
        """Return the tree as a terminal shows it."""
        head = Text.assemble(
            ("visits", "italic"), f" of {plain(self.run_id)}, {status}: {shown_duration(self.took_ms)}"
        )
        tree = Tree(head, guide_style="bright_black")
        self._grow(tree, self.items, 0 if not ascii_only else 1)
        return tree

    def _grow(self, tree: Tree, items: Sequence[Item], sign: int) -> None:
        for item in items:
            if isinstance(item, Folded):
                tree.add(Text(_folded(item), style="bright_black"))
            elif isinstance(item, VisitItem):
                self._grow(tree.add(self._line(item, sign)), _below(item), sign)
            elif len(item.inside) == 1 and isinstance(only := item.inside[0], VisitItem):
                self._grow(tree.add(self._line(only, sign, f"[{item.branch}] ")), _below(only), sign)
            else:
                self._grow(tree.add(_branch(item, sign)), item.inside, sign)

    def _line(self, visit: VisitItem, sign: int, before: str = "") -> Text:
        line = _signed(visit.status, sign, f"{before}{_name(visit.local)}")
        parts = []
        if visit.branches:  # of a fork's, those that were over before are not known
            parts.append(_branches(visit.branches))
        so_far = " so far" if visit.status in _LASTING else ""
        parts.append(f"{shown_duration(visit.duration_ms)}{so_far}")
        if visit.attempts > 1:
            parts.append(f"{visit.attempts} attempts")
        if tokens := tokens_of(visit.usage):
            parts.append(f"{shown_number(tokens)} tokens")
        line.append("  " + ", ".join(parts), style="bright_black")
        for part in _awaits(visit):
            line.append(f"  {part}", style="yellow")
        output, error = self.results.get(visit.name, (None, ""))
        if error:
            line.append(f"  {brief(error, _MOST)}", style="red")
        elif output is not None and not visit.inside:
            line.append(f"  {'->' if sign else '→'} {glance(output, _MOST)}")
        return line


def walked(store: Store, run_id: str, *, depth: int | None, unfolded: bool) -> Walked:
    """Return the tree of a run as of its last step. Raises `RunNotFound`, `DamagedRecord`."""
    with one_look(store, check_run_id(run_id)):
        return _walked(store, read_head(store, run_id), depth=depth, unfolded=unfolded)


def _walked(store: Store, head: RunRecord, *, depth: int | None, unfolded: bool) -> Walked:
    plan = stored_plan(store, head)
    trail = trail_of(store, head, plan.shape, None)
    now = None if trail.run.ended else int(time.time() * 1000)
    items = tree_of(trail, depth=depth, unfolded=unfolded, at_ms=now)
    names = {visit.name for visit in visits_in(items)}
    begun = min((span.begun_ms for span in trail.spans.values()), default=trail.at_ms)
    return Walked(head.run_id, trail.at_ms - begun, items, results_of(store, head, plan, names))


def tokens_of(usage: Mapping[str, int]) -> int:
    """Return how many tokens of a model were used, in and out."""
    return usage.get("input_tokens", 0) + usage.get("output_tokens", 0)


def _below(visit: VisitItem) -> tuple[Item, ...]:
    """Return what stands below a visit's line, which counts its branches itself."""
    only_counted = visit.branches is not None and all(isinstance(item, Folded) for item in visit.inside)
    return () if only_counted else visit.inside


def _signed(status: str, sign: int, name: str) -> Text:
    known = _SIGNS[status]
    word = "" if status == "done" else f" {status}"
    return Text.assemble((known[sign], known[2]), f" {name}", (word, known[2]))


def _name(text: str) -> str:
    return plain(clipped(text, _MOST))


def _branch(branch: Branch, sign: int) -> Text:
    line = _signed(branch.status, sign, f"[{branch.branch}]")
    if branch.inside:
        line.append(f"  {shown_duration(branch.duration_ms)}", style="bright_black")
    return line


def _branches(statuses: Mapping[str, int]) -> str:
    total = sum(statuses.values())
    words = f"{total:,} {'branch' if total == 1 else 'branches'}"
    return words if set(statuses) <= {"done"} else f"{words} ({_counts(statuses)})"


def _folded(folded: Folded) -> str:
    return f"… {folded.count:,} more: {_counts(folded.statuses)}"


def _counts(statuses: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {status}" for status, count in statuses.items())


def _awaits(visit: VisitItem) -> list[str]:
    found = []
    if visit.signal:
        found.append("asks a person" if is_answer(visit.signal) else f"awaits signal {_name(visit.signal)}")
    if visit.due_ms is not None:
        found.append(f"due {local_time(visit.due_ms)}")
    return found
