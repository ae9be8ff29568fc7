"""Two runs side by side: where their ways part, what came out differently, and what each cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from beluga_graph.draw.trail import Trail

__all__ = ["RunDifference", "Side", "Story", "compared"]

_ABSENT = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """All that is compared of a run: its trail, what each visit gave, its state and how it ended."""

    flow: str
    trail: Trail
    outputs: Mapping[str, Any]
    """What each finished visit gave, by structural name."""
    state: Mapping[str, Any]
    output: Any = None
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of two runs, in numbers."""

    run_id: str
    flow: str
    plan: str
    status: str
    output: Any
    failure: str
    visits: int
    attempts: int
    steps: int
    lasted_ms: int
    """From the run's start to its last step."""
    usage: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDifference:
    """What is otherwise in a second run than in a first. Visits are told by structural name, never by time."""

    first: Side
    second: Side
    parted: str | None
    """The first visit, in the order of the first run, that is otherwise in the other; `None` if none is."""
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    outcomes: tuple[tuple[str, str, str], ...]
    """Visits that ended otherwise: name, and the status in each."""
    outputs: tuple[tuple[str, Any, Any], ...]
    """Visits that gave something else: name, and what in each."""
    state: tuple[tuple[str, Any, Any], ...]
    """Fields of the state at the end, if they differ; `None` where there is none."""

    @property
    def is_same(self) -> bool:
        """Whether both took the same way, to the same end, with the same values."""
        ends = [(side.status, side.failure) for side in (self.first, self.second)]
        return self.parted is None and not self.only_second and not self.state and ends[0] == ends[1]


def compared(first: Story, second: Story) -> RunDifference:
    """Compare two runs. They may be of different flows: then what has the same name is compared."""
    one, other = first.trail.spans, second.trail.spans
    outcomes = tuple(
        (name, span.status, other[name].status)
        for name, span in one.items()
        if name in other and span.status != other[name].status
    )
    outputs = tuple(_differing(first.outputs, second.outputs, [name for name in one if name in other]))
    differing = {name for name, *_ in (*outcomes, *outputs)}
    return RunDifference(
        first=_side(first),
        second=_side(second),
        parted=next((name for name in one if name not in other or name in differing), None),
        only_first=tuple(name for name in one if name not in other),
        only_second=tuple(name for name in other if name not in one),
        outcomes=outcomes,
        outputs=outputs,
        state=tuple(_differing(first.state, second.state, list(dict.fromkeys([*first.state, *second.state])))),
    )


def _differing(first: Mapping[str, Any], second: Mapping[str, Any], names: list[str]) -> Iterator[tuple[str, Any, Any]]:
    for name in names:
        one, other = first.get(name, _ABSENT), second.get(name, _ABSENT)
        if one is not other and one != other:
            yield name, None if one is _ABSENT else one, None if other is _ABSENT else other


def _side(story: Story) -> Side:
    trail = story.trail
    return Side(
        run_id=trail.run.run_id,
        flow=story.flow,
        plan=trail.run.plan,
        status=trail.run.status,
        output=story.output,
        failure=story.failure,
        visits=len(trail.spans),
        attempts=sum(span.attempts for span in trail.spans.values()),
        steps=trail.run.steps,
        lasted_ms=trail.at_ms - trail.run.started_ms,
        usage=dict(trail.run.usage),
    )
