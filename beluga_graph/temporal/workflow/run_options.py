"""The options of one run's workflow, which travel in its input: a change of a default never breaks a replay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from beluga_graph.temporal.workflow.live_options import LiveOptions

__all__ = ["RunOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How the workflow of a run hands out work."""

    queue: str
    """The task queue of the run and its attempts: one for each flow and version."""
    engine_queue: str
    """The task queue of the engine, whose workers keep sessions and messages, whatever version of a flow they have."""
    node_queues: Mapping[str, str] = field(default_factory=dict)
    """By path of a node: another task queue, such as that of a worker in another language."""
    ahead_ms: int = 0
    """How long an activity may go on before it reports; 0 for one activity a node."""
    batch: int = 1
    """The most attempts of one activity."""
    window: int = 300
    """The most activities at a time: a workflow task that begins more takes too long."""
    cap: int = 500
    """The most branches of a fan-out that are begun at a time; the others wait in their scope."""
    continue_events: int = 10_000
    """The number of events of the history after which the run continues in a new execution."""
    announces: bool = False
    """Whether messages about the run's status are published."""
    heartbeat_s: float = 10.0
    """How long a worker may be silent before its attempts are taken for lost."""
    live: LiveOptions = field(default_factory=LiveOptions)
    """How workers report text while nodes run. From the input of a run, it is a plain tuple."""

    def to_plain(self) -> dict[str, Any]:
        """Return the options as plain data."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> RunOptions:
        """Rebuild options. Raises `TypeError` for an option that this version does not know."""
        return cls(**plain)
