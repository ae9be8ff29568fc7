"""The parts of a snapshot: tokens, the scopes that they open, and the places where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from beluga_graph.kernel.types import DecidedTime, Value

__all__ = [
    "AFTER",
    "AT",
    "AT_TIMER",
    "AT_WAIT",
    "CANCELLED",
    "COMPLETED",
    "FAILED",
    "FAILED_TOKEN",
    "NEVER",
    "RETRY",
    "RUN",
    "RUNNING",
    "TIME_KINDS",
    "WAITING",
    "Place",
    "Scope",
    "Token",
]

# The status of a run.
RUNNING, WAITING, COMPLETED, FAILED, CANCELLED = "running", "waiting", "completed", "failed", "cancelled"

# The state of a token. One at a timer node is stored as "sleep", a failed one as "broken".
RUN, RETRY, AT_WAIT, AT_TIMER, FAILED_TOKEN = "run", "retry", "wait", "sleep", "broken"


# The kinds of a time that a function decided: `kernel.times` explains them.
AFTER, AT, NEVER = "after", "at", "never"
TIME_KINDS = (AFTER, AT, NEVER)


class Token(NamedTuple):
    """One thread of control, at one node, with one value. Stored as a row, so new fields go last."""

    name: str
    node: str
    place: str
    value: Value
    state: str  # run | retry | wait | sleep | broken
    attempt: int = 1  # grows with each failed attempt, also across a resume of the failed run
    attempts_since_armed: int = 1  # the retry policy counts these: a resume arms the node again
    interruptions: int = 0  # how often an owner died while the node ran
    answer: Value | None = None  # a person's answer about the value, while the node's body checks it
    time: DecidedTime | None = None  # how long the token waits, once a function of the value has decided that

    def to_plain(self) -> tuple[Any, ...]:
        """Return the token as a row. A time is its last part, and only where a function decided one."""
        return tuple(self) if self.time is not None else tuple(self[:-1])


class Scope:
    """The branches that a fan-out opens and its join closes; or, with one branch and no join, a frame."""

    # In stored order, which never changes: a new one goes last.
    __slots__ = ("failures", "frame", "node", "place", "queue", "results", "attempt", "value", "width")  # noqa: RUF023

    def __init__(self, node: str, place: str, frame: bool, width: int, value: Value, attempt: int) -> None:  # noqa: FBT001
        self.node = node
        self.place = place  # where it was opened
        self.frame = frame
        self.width = width
        self.value = value  # the input: a retry of a frame begins with it, and a failure reports it
        self.attempt = attempt  # frames: counts how often the frame was begun
        self.results: dict[int, Value] = {}  # by branch: those that succeeded
        self.failures: dict[int, Value] = {}  # by branch: failures that the join tolerates
        # By branch, those that wait for a free slot: target and value. Always the last branches, in order.
        self.queue: dict[int, tuple[int, Value]] = {}

    @property
    def next_branch(self) -> int:
        """The first branch in the queue.

        `next(iter(queue))` would pass over the slots of all that were removed before, which is quadratic.
        """
        return self.width - len(self.queue)


class Place:
    """The position of one thread of control."""

    # In stored order, which never changes: a new one goes last, and older records lack it.
    __slots__ = ("branch", "fields", "lengths", "opened", "scope", "token", "visits", "item")  # noqa: RUF023

    def __init__(self, scope: str | None, branch: int) -> None:
        self.scope = scope  # the scope that has this place as a branch; None for the run itself
        self.branch = branch
        self.token: str | None = None
        self.opened: str | None = None  # the scope that is open here
        self.visits: dict[str, int] = {}
        self.fields: dict[str, Value] = {}
        self.lengths: dict[str, int] = {}  # append fields: the number of items in this layer
        self.item: Value | None = None  # a fan-out's branch: the value it began with, until it succeeds
