"""A run laid over a picture: what every format shows of it, from one place."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from beluga_graph.draw.picture import Picture
from beluga_graph.draw.text import shown_duration, shown_number
from beluga_graph.draw.theme import STATUS_SIGNS
from beluga_graph.kernel.rules import is_answer
from beluga_graph.trace.trace import Trace
from beluga_graph.trace.visits import NodeStats

__all__ = ["Overlay", "badge_of", "badge_parts", "overlay_of"]

TIMES = "\u00d7"


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """What a run did, for the boxes and lines of one picture."""

    run_id: str
    status: str
    seq: int
    marks: dict[str, NodeStats] = field(default_factory=dict)
    """By name of a box; of all boxes that are nodes."""
    taken: dict[str, int] = field(default_factory=dict)
    """By id of a line: how often; of the lines that were taken."""

    def badges(self) -> dict[str, str]:
        """Return what stands at each box in words, `""` where the run never came."""
        return {name: badge_of(mark) for name, mark in self.marks.items()}

    def signed(self, name: str) -> str:
        """Return the badge of a box after the sign of its status, `""` where the run never came."""
        mark = self.marks.get(name, NodeStats())
        badge = badge_of(mark)
        return f"{STATUS_SIGNS[mark.status]} {badge}" if badge else ""

    def counts(self) -> dict[str, str]:
        """Return what stands at each line that was taken more than once."""
        return {line: f"{TIMES}{count}" for line, count in self.taken.items() if count > 1}


def overlay_of(trail: Trace, picture: Picture) -> Overlay:
    """Return what a picture shows of a run as far as its trail goes."""
    taken = {line.id: trail.times(line) for line in picture.lines}
    return Overlay(
        run_id=trail.run.run_id,
        status=trail.run.status,
        seq=trail.run.seq,
        marks={box.name: trail.mark(box.name) for box in picture.boxes if box.name in trail.shape.nodes},
        taken={line: count for line, count in taken.items() if count},
    )


def badge_of(mark: NodeStats) -> str:
    """Return what a run did at a node in one short line: visits, attempts, time, tokens, what it waits for."""
    if not mark.visits:
        return ""
    before, after = badge_parts(mark)
    time = [shown_duration(mark.busy_ms)] if mark.busy_ms or not (mark.now or mark.waited_ms) else []
    parts = [*before, *time, *after]
    return " · ".join(parts) if parts else mark.status


def badge_parts(mark: NodeStats) -> tuple[list[str], list[str]]:
    """Return what stands in a badge before the time that a visit takes, and what stands after it."""
    before = [f"{TIMES}{mark.visits}"] if mark.visits > 1 else []
    if mark.attempts > mark.visits:
        before.append(f"{mark.attempts} attempts")
    after = []
    tokens = mark.usage.get("input_tokens", 0) + mark.usage.get("output_tokens", 0)
    if tokens:
        after.append(f"{shown_number(tokens)} tokens")
    if mark.waited_ms:
        after.append(f"waited {shown_duration(mark.waited_ms)}")
    if mark.signal:
        after.append("asks a person" if is_answer(mark.signal) else "awaits its signal")
    if mark.due_ms is not None:
        after.append(f"due {datetime.fromtimestamp(mark.due_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}Z")
    return before, after
