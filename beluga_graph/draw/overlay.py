"""The overlay of a run: the statistics and counts that every format shows over a picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from beluga_graph.draw.picture import Picture
from beluga_graph.draw.text import format_duration, format_number
from beluga_graph.draw.theme import STATUS_SIGNS
from beluga_graph.kernel.rules import is_answer
from beluga_graph.trace.trace import Trace
from beluga_graph.trace.visits import NodeStats

__all__ = ["Overlay", "build_overlay", "format_badge", "split_badge"]

TIMES = "\u00d7"


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """The state of a run, by box and line of one picture."""

    run_id: str
    """Id of the run."""
    status: str
    """Status of the run."""
    seq: int
    """Step of the run that the overlay shows."""
    stats: dict[str, NodeStats] = field(default_factory=dict)
    """Statistics by name of a box. Points have none."""
    counts: dict[str, int] = field(default_factory=dict)
    """How often an edge was taken, by id of a line. Lines that were never taken are missing."""

    def format_badges(self) -> dict[str, str]:
        """Return the badge of each box by name; `""` for a node that was never reached."""
        return {name: format_badge(stats) for name, stats in self.stats.items()}

    def format_signed_badge(self, name: str) -> str:
        """Return the badge of a box with the sign of its status; `""` for a node that was never reached."""
        stats = self.stats.get(name, NodeStats())
        badge = format_badge(stats)
        return f"{STATUS_SIGNS[stats.status]} {badge}" if badge else ""

    def format_counts(self) -> dict[str, str]:
        """Return the counts of the lines that were taken more than once, as text by id."""
        return {line: f"{TIMES}{count}" for line, count in self.counts.items() if count > 1}


def build_overlay(trace: Trace, picture: Picture) -> Overlay:
    """Return the overlay of a run as of the last step of its trace."""
    counts = {line.id: trace.edge_counts.get(line.edge, 0) for line in picture.lines}
    return Overlay(
        run_id=trace.run.run_id,
        status=trace.run.status,
        seq=trace.run.seq,
        stats={box.name: trace.summarize(box.name) for box in picture.boxes if box.name in trace.shape.nodes},
        counts={line: count for line, count in counts.items() if count},
    )


def format_badge(stats: NodeStats) -> str:
    """Return the statistics of a node in one short line: visits, attempts, time, model tokens, waits."""
    if not stats.visits:
        return ""
    before, after = split_badge(stats)
    time = [format_duration(stats.busy_ms)] if stats.busy_ms or not (stats.now or stats.waited_ms) else []
    parts = [*before, *time, *after]
    return " · ".join(parts) if parts else stats.status


def split_badge(stats: NodeStats) -> tuple[list[str], list[str]]:
    """Return the parts of a badge before and after the time in attempts."""
    before = [f"{TIMES}{stats.visits}"] if stats.visits > 1 else []
    if stats.attempts > stats.visits:
        before.append(f"{stats.attempts} attempts")
    after = []
    tokens = stats.usage.get("input_tokens", 0) + stats.usage.get("output_tokens", 0)
    if tokens:
        after.append(f"{format_number(tokens)} tokens")
    if stats.waited_ms:
        after.append(f"waited {format_duration(stats.waited_ms)}")
    if stats.signal:
        after.append("asks a person" if is_answer(stats.signal) else "awaits its signal")
    if stats.due_ms is not None:
        after.append(f"due {datetime.fromtimestamp(stats.due_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}Z")
    return before, after
