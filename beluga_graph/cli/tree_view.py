"""The tree of visits that `show` prints, as text for a terminal and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text
from rich.tree import Tree

from beluga_graph.cli.summaries import summarize
from beluga_graph.cli.terminal_text import brief, local_time, to_printable
from beluga_graph.codec.to_json import to_json
from beluga_graph.draw.text import clip, format_duration, format_number
from beluga_graph.draw.theme import STATUS_SIGNS
from beluga_graph.kernel.rules import is_answer
from beluga_graph.trace.tree import QUEUED, TreeBranch, TreeFold, TreeItem, TreeVisit

if TYPE_CHECKING:
    from beluga_graph.inspection.run_tree import RunTree

__all__ = ["render_tree", "token_count", "tree_data"]

_STYLES = {  # the sign for a terminal that has only ASCII, and the colour
    "done": ("+", "green"),
    "failed": ("x", "red"),
    "running": (">", "cyan"),
    "retrying": ("~", "yellow"),
    "waiting": ("?", "yellow"),
    "stopped": ("#", "bright_black"),
    "dropped": ("-", "bright_black"),
    QUEUED: (".", "bright_black"),
}
_UNFINISHED = ("running", "retrying", "waiting")
_WIDTH_MAX = 80


def token_count(usage: Mapping[str, int]) -> int:
    """Return how many tokens of a model were used, input and output."""
    return usage.get("input_tokens", 0) + usage.get("output_tokens", 0)


def tree_data(tree: RunTree) -> list[Any]:
    """Return a tree as JSON data."""
    return [_item_data(tree, item) for item in tree.items]


def _item_data(tree: RunTree, item: TreeItem) -> dict[str, Any]:
    if isinstance(item, TreeFold):
        return {"folded": item.count, "statuses": dict(item.statuses)}
    found = {
        field.name: to_json(getattr(item, field.name)) for field in dataclasses.fields(item) if field.name != "inside"
    }
    if isinstance(item, TreeVisit):
        output, error = tree.results.get(item.name, (None, ""))
        found |= {"output": to_json(output), "error": error}
    return {**found, "inside": [_item_data(tree, part) for part in item.inside]}


def render_tree(tree: RunTree, status: str, *, ascii_only: bool) -> Tree:
    """Return a tree as a terminal shows it, headed by the run's status and duration."""
    head = Text.assemble(
        ("visits", "italic"), f" of {to_printable(tree.run_id)}, {status}: {format_duration(tree.took_ms)}"
    )
    shown = Tree(head, guide_style="bright_black")
    _Renderer(tree, ascii_only=ascii_only).grow(shown, tree.items)
    return shown


class _Renderer:
    """Adds items to a `rich` tree, with the signs that the terminal has."""

    def __init__(self, tree: RunTree, *, ascii_only: bool) -> None:
        self._tree = tree
        self._ascii_only = ascii_only

    def grow(self, parent: Tree, items: Sequence[TreeItem]) -> None:
        for item in items:
            if isinstance(item, TreeFold):
                parent.add(Text(f"… {item.count:,} more: {_counts(item.statuses)}", style="bright_black"))
            elif isinstance(item, TreeVisit):
                self.grow(parent.add(self._visit_line(item)), _shown_below(item))
            elif len(item.inside) == 1 and isinstance(only := item.inside[0], TreeVisit):
                self.grow(parent.add(self._visit_line(only, f"[{item.branch}] ")), _shown_below(only))
            else:
                self.grow(parent.add(self._branch_line(item)), item.inside)

    def _visit_line(self, visit: TreeVisit, prefix: str = "") -> Text:
        line = self._signed(visit.status, f"{prefix}{_name(visit.local)}")
        so_far = " so far" if visit.status in _UNFINISHED else ""
        parts = []
        if visit.branches:  # for a fork, branches that ended before the fork are unknown
            parts.append(_branches(visit.branches))
        parts.append(f"{format_duration(visit.duration_ms)}{so_far}")
        if visit.attempts > 1:
            parts.append(f"{visit.attempts} attempts")
        if tokens := token_count(visit.usage):
            parts.append(f"{format_number(tokens)} model tokens")
        line.append("  " + ", ".join(parts), style="bright_black")
        for part in _waits(visit):
            line.append(f"  {part}", style="yellow")
        output, error = self._tree.results.get(visit.name, (None, ""))
        if error:
            line.append(f"  {brief(error, _WIDTH_MAX)}", style="red")
        elif output is not None and not visit.inside:
            line.append(f"  {'->' if self._ascii_only else '→'} {summarize(output, _WIDTH_MAX)}")
        return line

    def _branch_line(self, branch: TreeBranch) -> Text:
        line = self._signed(branch.status, f"[{branch.branch}]")
        if branch.inside:
            line.append(f"  {format_duration(branch.duration_ms)}", style="bright_black")
        return line

    def _signed(self, status: str, name: str) -> Text:
        ascii_sign, style = _STYLES[status]
        sign = ascii_sign if self._ascii_only else STATUS_SIGNS.get(status, "…")
        return Text.assemble((sign, style), f" {name}", ("" if status == "done" else f" {status}", style))


def _shown_below(visit: TreeVisit) -> tuple[TreeItem, ...]:
    """Return the items below a visit, unless its own line already counts them all."""
    only_counted = visit.branches is not None and all(isinstance(item, TreeFold) for item in visit.inside)
    return () if only_counted else visit.inside


def _name(text: str) -> str:
    return to_printable(clip(text, _WIDTH_MAX))


def _branches(statuses: Mapping[str, int]) -> str:
    total = sum(statuses.values())
    words = f"{total:,} {'branch' if total == 1 else 'branches'}"
    return words if set(statuses) <= {"done"} else f"{words} ({_counts(statuses)})"


def _counts(statuses: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {status}" for status, count in statuses.items())


def _waits(visit: TreeVisit) -> list[str]:
    found = []
    if visit.signal:
        found.append("asks a person" if is_answer(visit.signal) else f"awaits signal {_name(visit.signal)}")
    if visit.due_ms is not None:
        found.append(f"due {local_time(visit.due_ms)}")
    return found
