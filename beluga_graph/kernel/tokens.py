"""What a snapshot is made of: tokens, the scopes that they open, the places where they are."""

from __future__ import annotations

from typing import NamedTuple

from beluga_graph.kernel.types import Value

__all__ = [
    "BROKEN",
    "CANCELLED",
    "COMPLETED",
    "FAILED",
    "RETRY",
    "RUN",
    "RUNNING",
    "SLEEP",
    "WAIT",
    "WAITING",
    "Place",
    "Scope",
    "Token",
]

RUNNING, WAITING, COMPLETED, FAILED, CANCELLED = "running", "waiting", "completed", "failed", "cancelled"

# What a token is doing.
RUN, RETRY, WAIT, SLEEP, BROKEN = "run", "retry", "wait", "sleep", "broken"


class Token(NamedTuple):
    """One thread of control: it stands at one node and carries one value."""

    name: str
    node: str
    place: str
    value: Value
    state: str  # run | retry | wait | sleep | broken
    attempt: int = 1  # grows with each failed attempt, also over a resumed failure
    tried: int = 1  # attempts since the node was armed: what the retry policy counts
    interruptions: int = 0  # how often an owner died while the node ran
    answer: Value | None = None  # what a person answered about the value, while that is being checked


class Scope:
    """What a fan-out opens and its join closes; or, with one branch and no join, a frame."""

    __slots__ = ("failures", "frame", "node", "place", "queue", "results", "tried", "value", "width")

    def __init__(self, node: str, place: str, frame: bool, width: int, value: Value, tried: int) -> None:  # noqa: FBT001
        self.node = node
        self.place = place  # where it was opened
        self.frame = frame
        self.width = width
        self.value = value  # what came in: the input of a retry of the whole, and of its failure
        self.tried = tried  # frames: how often the whole was begun
        self.results: dict[int, Value] = {}  # by branch, of those that succeeded
        self.failures: dict[int, Value] = {}  # by branch, of those whose failure the join tolerates
        self.queue: dict[int, tuple[int, Value]] = {}  # branches that wait for a free place: target, value


class Place:
    """Where one thread of control is."""

    # In the order in which they are stored: a new one goes last, and what was stored without it lacks it.
    __slots__ = ("branch", "fields", "lengths", "opened", "scope", "token", "visits", "item")  # noqa: RUF023

    def __init__(self, scope: str | None, branch: int) -> None:
        self.scope = scope  # the scope that this is a branch of; None for the run itself
        self.branch = branch
        self.token: str | None = None
        self.opened: str | None = None  # the scope that is open here
        self.visits: dict[str, int] = {}
        self.fields: dict[str, Value] = {}
        self.lengths: dict[str, int] = {}  # append fields: items in this layer
        self.item: Value | None = None  # a fan-out's branch: the value that it began with, till it gives another
