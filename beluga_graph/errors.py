"""The error tree, whole.

BelugaError
├── GraphError                  the graph is wrong; found when it is built or compiled
│   ├── DuplicateNode           a name is taken
│   ├── UnknownNode             an edge names a node that is not there
│   ├── BadName                 a name that cannot be a node's
│   ├── AmbiguousExit           a node has more than one way out
│   ├── NoWayOut                a node, or a loop, from which no path leads to END
│   ├── Unreachable             no path from START leads here
│   ├── UnclosedFanOut          a path of a fan-out misses its join, or jumps in or out
│   ├── EdgeTypeMismatch        what a node gives is not what the next one takes
│   ├── BadState                a state model or reducer that cannot be used
│   ├── BadRename               nodes that cannot be said to have other names now
│   └── DelegationCycle         an agent delegates to itself, in the end
├── RunError                    a run cannot do what was asked
│   ├── RunFailed               a node failed for good
│   ├── RunCancelled            somebody cancelled it
│   ├── RunNotFound             no run has this id
│   ├── RunConflict             the id belongs to a run of another input or flow, or the question is no more
│   ├── RunBusy                 another owner drives the run
│   ├── LeaseLost               another owner took the run over
│   ├── GraphChanged            the graph is not the one that the run stands in
│   ├── BadSignal               a payload that the wait for it would not take
│   ├── BadRunId                an id that cannot be used
│   ├── LimitReached            something counted passed its limit
│   │   └── Interrupted         a node was running at too many crashes
│   ├── JoinUnreachable         too many branches failed
│   ├── StateError              a state field that is not there, or refuses an update
│   ├── StateConflict           two branches set one field without a reducer
│   ├── UnknownRoute            a branch chose a route that it does not have
│   ├── SignalTimeout           no signal came in time
│   ├── Rejected                a person was asked and said no
│   └── Timeout                 an attempt, a frame or the run passed its deadline
├── SnapshotError               stored bytes, or a value, cannot be what they should
│   ├── NotData                 a value that cannot be stored
│   └── …                       the rest of the codec's errors
├── BusError                    an event bus cannot do what was asked
│   ├── BadTopic                a topic or a pattern that cannot be one
│   └── BusClosed               used after close
├── ToolError                   a tool cannot be offered, or its call not be made
└── ModelError                  a model could not answer
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "AmbiguousExit",
    "BadName",
    "BadRename",
    "BadRunId",
    "BadSignal",
    "BadState",
    "BadTopic",
    "BelugaError",
    "BusClosed",
    "BusError",
    "DelegationCycle",
    "DuplicateNode",
    "EdgeTypeMismatch",
    "GraphChanged",
    "GraphError",
    "Interrupted",
    "JoinUnreachable",
    "LeaseLost",
    "LimitReached",
    "ModelError",
    "NoWayOut",
    "NotData",
    "Rejected",
    "RunBusy",
    "RunCancelled",
    "RunConflict",
    "RunError",
    "RunFailed",
    "RunNotFound",
    "SignalTimeout",
    "SnapshotError",
    "StateConflict",
    "StateError",
    "Timeout",
    "ToolError",
    "UnclosedFanOut",
    "UnknownNode",
    "UnknownRoute",
    "Unreachable",
]


class BelugaError(Exception):
    """Root of every error that this package raises on purpose, except those of a store."""


class SnapshotError(BelugaError):
    """A value cannot be stored, or stored bytes cannot be read."""


class NotData(SnapshotError):
    """A value cannot be stored. `path` leads to the part to blame; it is empty for the value itself."""

    def __init__(self, path: str, type_name: str, shown: str, reason: str) -> None:
        super().__init__(path, type_name, shown, reason)
        self.path, self.type_name, self.shown, self.reason = path, type_name, shown, reason

    def __str__(self) -> str:
        where = f"the value at {self.path}" if self.path else "the value"
        return f"{where} is not data: {self.type_name} {self.shown}: {self.reason}"


class GraphError(BelugaError):
    """The graph is wrong. `graph` and `node` name the place; the text names the rule and the way out."""

    def __init__(self, graph: str, node: str, rule: str, way_out: str) -> None:
        super().__init__(graph, node, rule, way_out)
        self.graph, self.node, self.rule, self.way_out = graph, node, rule, way_out

    def __str__(self) -> str:
        return f"graph {self.graph!r}, {self.node}: {self.rule}; {self.way_out}"


class DuplicateNode(GraphError):
    """A node's name is taken."""


class UnknownNode(GraphError):
    """An edge names a node that is not there."""


class BadName(GraphError):
    """A name that cannot be a node's."""


class AmbiguousExit(GraphError):
    """A node has more than one way out."""


class NoWayOut(GraphError):
    """No path leads from here to END."""


class Unreachable(GraphError):
    """No path leads from START to here."""


class UnclosedFanOut(GraphError):
    """A path of a fan-out misses its join, or one jumps in or out of its scope."""


class EdgeTypeMismatch(GraphError):
    """What a node gives is not what the next one takes."""


class BadState(GraphError):
    """A state model or reducer that cannot be used."""


class BadRename(GraphError):
    """A rename between two graphs that cannot be made."""


class DelegationCycle(GraphError):
    """An agent delegates to itself, in the end."""


class RunError(BelugaError):
    """A run cannot do what was asked. `run_id` names it."""

    def __init__(self, run_id: str, message: str) -> None:
        super().__init__(run_id, message)
        self.run_id, self.message = run_id, message

    def __str__(self) -> str:
        return f"run {self.run_id!r}: {self.message}" if self.run_id else self.message


class RunFailed(RunError):
    """A node failed for good. `cause` is a `Failure`; the exception itself, if it was raised in this process,
    is `__cause__`."""

    def __init__(self, run_id: str, node: str, attempt: int, cause: object) -> None:
        super().__init__(run_id, "")
        self.args = (run_id, node, attempt, cause)
        self.node, self.attempt, self.cause = node, attempt, cause

    def __str__(self) -> str:
        where = f"node {self.node!r} failed in attempt {self.attempt}" if self.node else "failed"
        return f"run {self.run_id!r}: {where}: {self.cause}; mend the cause and resume the run, or cancel it"


class RunCancelled(RunError):
    """Somebody cancelled the run."""


class RunNotFound(RunError):
    """No run has this id."""


class RunConflict(RunError):
    """The id belongs to a run of another input or flow; or the question is not pending any more."""


class RunBusy(RunError):
    """Another owner drives the run."""


class LeaseLost(RunError):
    """Another owner took the run over; nothing that this one did since was written."""


class GraphChanged(RunError):
    """The graph is not the one that the run stands in. `difference` lists what it cannot go on with; `rename` is
    what may have been renamed, if that would let it go on, or stand in the way of less. `is_driven` says that the
    run goes on in this engine with the graph as it was: `difference` lists every change then."""

    def __init__(
        self,
        run_id: str,
        difference: tuple[str, ...],
        rename: Mapping[str, str] | None = None,
        is_driven: bool = False,  # noqa: FBT001, FBT002 - exceptions are pickled by position
    ) -> None:
        lines = "".join(f"\n  {line}" for line in difference)
        rename = dict(rename or {})
        if is_driven:
            what = "this engine drives it with another graph of this name"
            way_out = "resume it by its id to follow it as it is; or close this engine and start it in another one"
        else:
            what = "the graph has changed where the run stands"
            asked = f"if a node was only renamed, resume({run_id!r}, rename={rename or '{…}'})"
            way_out = f"restore what changed; {asked}; fork the run from a step before it; or cancel it"
        super().__init__(run_id, f"{what}:{lines}\n{way_out}")
        self.args = (run_id, difference, rename, is_driven)
        self.difference, self.rename, self.is_driven = difference, rename, is_driven


class BadRunId(RunError):
    """An id that cannot be used."""


class BadSignal(RunError):
    """A signal's payload that the wait for it would not take; it was not accepted."""


class LimitReached(RunError):
    """Something counted passed its limit, which the message names as `Limits` does."""


class JoinUnreachable(RunError):
    """So many branches failed that a join cannot get the successes it needs."""


class StateConflict(RunError):
    """Two branches set one field that has no reducer."""


class StateError(RunError):
    """A state field that is not there, has no value, or refuses an update."""


class UnknownRoute(RunError):
    """A branch chose a route that it does not have."""


class SignalTimeout(RunError):
    """No signal came in time."""


class Rejected(RunError):
    """A person was asked for approval and said no; never tried again. The message is the reason that was given."""


class Interrupted(LimitReached):
    """A node was running at more crashes of its owner than `max_interruptions`."""


class Timeout(RunError, TimeoutError):
    """An attempt, a frame or the run passed its deadline."""


class BusError(BelugaError):
    """An event bus cannot do what was asked."""


class BadTopic(BusError):
    """A topic or a pattern that cannot be one; it was not published, or subscribed to."""


class BusClosed(BusError):
    """The bus was closed: what was not handled is still on a durable one, for the next."""


class ToolError(BelugaError):
    """A tool that cannot be offered, or a call of one that cannot be made; never tried again."""


class ModelError(BelugaError):
    """A model could not answer. `retryable` tells whether asking again may help."""

    def __init__(self, message: str, *, retryable: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retryable, self.retry_after = retryable, retry_after
