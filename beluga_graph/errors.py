"""The error tree.

BelugaError
├── GraphError                  the graph is wrong; found when it is built or compiled
│   ├── DuplicateNode           a name is already taken
│   ├── UnknownNode             an edge names a node that does not exist
│   ├── BadName                 a name that a node cannot have
│   ├── AmbiguousExit           a node has more than one way out
│   ├── NoWayOut                a node, or a loop, without a path to END
│   ├── Unreachable             a node without a path from START
│   ├── UnclosedFanOut          a path of a fan-out misses its join, or jumps in or out of its scope
│   ├── EdgeTypeMismatch        the output type of a node does not fit the input type of the next one
│   ├── BadState                a state model or reducer that cannot be used
│   ├── BadRename               a rename of nodes that does not fit the two graphs
│   └── DelegationCycle         an agent delegates to itself, directly or through others
├── RunError                    a run cannot fulfil a request
│   ├── RunFailed               a node failed for good
│   ├── RunCancelled            the run was cancelled
│   ├── RunNotFound             no run has this id
│   ├── RunConflict             the run's input, flow, status or pending questions do not allow the request
│   ├── RunBusy                 another owner drives the run
│   ├── LeaseLost               another owner took the run over
│   ├── GraphChanged            the graph differs from the one that the run needs to continue
│   ├── BadSignal               a signal with a bad name, or with a payload that the wait for it does not accept
│   ├── BadRunId                an id that cannot be used
│   ├── LimitReached            a count passed its limit
│   │   └── Interrupted         a node was running during too many crashes
│   ├── JoinUnreachable         too many branches failed
│   ├── StateError              a state field that does not exist, has no value, or refuses an update
│   ├── StateConflict           two branches set one field without a reducer
│   ├── BadTime                 a function decided a time that is none
│   ├── UnknownRoute            a branch chose a route that it does not have
│   ├── SignalTimeout           no signal came in time
│   ├── Rejected                a person was asked for approval and refused
│   └── Timeout                 an attempt, a frame or the run passed its deadline
├── SnapshotError               a value cannot be stored, or stored bytes cannot be read
│   ├── NotData                 a value that cannot be stored
│   ├── ClaimNotFound           a place for large values does not have one (in `beluga_graph.temporal`)
│   ├── ClaimsFailed            a place for large values cannot be read or written (in `beluga_graph.temporal`)
│   └── …                       the other errors of the codec
├── ScheduleNotFound            no schedule has this name
├── BusError                    an event bus cannot fulfil a request
│   ├── BadTopic                a text that is not a topic, or not a pattern
│   └── BusClosed               used after close
├── TemporalUnavailable         no Temporal server, namespace or worker answers
├── ToolError                   a tool cannot be offered, or its call cannot be made
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
    "BadTime",
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
    "ScheduleNotFound",
    "SignalTimeout",
    "SnapshotError",
    "StateConflict",
    "StateError",
    "TemporalUnavailable",
    "Timeout",
    "ToolError",
    "UnclosedFanOut",
    "UnknownNode",
    "UnknownRoute",
    "Unreachable",
]


class BelugaError(Exception):
    """Root of every error that this package raises on purpose, except the errors of a store."""


class SnapshotError(BelugaError):
    """A value cannot be stored, or stored bytes cannot be read."""


class NotData(SnapshotError):
    """A value cannot be stored.

    Attributes:
        path: Path of the part to blame, such as `[0].name`; empty for the value itself.
        type_name: Type of that part.
        shown: Its repr in at most 80 characters.
        reason: Why it cannot be stored, and the way out.
    """

    def __init__(self, path: str, type_name: str, shown: str, reason: str) -> None:
        super().__init__(path, type_name, shown, reason)
        self.path, self.type_name, self.shown, self.reason = path, type_name, shown, reason

    def __str__(self) -> str:
        where = f"the value at {self.path}" if self.path else "the value"
        return f"{where} is not data: {self.type_name} {self.shown}: {self.reason}"


class GraphError(BelugaError):
    """The graph is wrong.

    Attributes:
        graph: Name of the graph.
        node: The node, edge or other part that is wrong.
        rule: The rule that it breaks.
        way_out: How to mend it.
    """

    def __init__(self, graph: str, node: str, rule: str, way_out: str) -> None:
        super().__init__(graph, node, rule, way_out)
        self.graph, self.node, self.rule, self.way_out = graph, node, rule, way_out

    def __str__(self) -> str:
        return f"graph {self.graph!r}, {self.node}: {self.rule}; {self.way_out}"


class DuplicateNode(GraphError):
    """The name of a node is already taken."""


class UnknownNode(GraphError):
    """An edge names a node that does not exist."""


class BadName(GraphError):
    """A name that a node cannot have."""


class AmbiguousExit(GraphError):
    """A node has more than one way out."""


class NoWayOut(GraphError):
    """A node, or a loop, has no path to END."""


class Unreachable(GraphError):
    """A node has no path from START."""


class UnclosedFanOut(GraphError):
    """A path of a fan-out misses its join, or jumps in or out of its scope."""


class EdgeTypeMismatch(GraphError):
    """The output type of a node does not fit the input type of the next one."""


class BadState(GraphError):
    """A state model or reducer cannot be used."""


class BadRename(GraphError):
    """A rename of nodes does not fit the two graphs."""


class DelegationCycle(GraphError):
    """An agent delegates to itself, directly or through others."""


class RunError(BelugaError):
    """A run cannot fulfil a request.

    Attributes:
        run_id: Id of the run; empty if it is not known.
        message: What is wrong, and the way out.
    """

    def __init__(self, run_id: str, message: str) -> None:
        super().__init__(run_id, message)
        self.run_id, self.message = run_id, message

    def __str__(self) -> str:
        return f"run {self.run_id!r}: {self.message}" if self.run_id else self.message


class RunFailed(RunError):
    """A node failed for good. If the exception was raised in this process, it is the `__cause__`.

    Attributes:
        node: Path of the node; empty for the run itself.
        attempt: The attempt that failed, from 1.
        cause: The `Failure`.
    """

    def __init__(self, run_id: str, node: str, attempt: int, cause: object) -> None:
        super().__init__(run_id, "")
        self.args = (run_id, node, attempt, cause)
        self.node, self.attempt, self.cause = node, attempt, cause

    def __str__(self) -> str:
        where = f"node {self.node!r} failed in attempt {self.attempt}" if self.node else "failed"
        return f"run {self.run_id!r}: {where}: {self.cause}; mend the cause and resume the run, or cancel it"


class RunCancelled(RunError):
    """The run was cancelled."""


class RunNotFound(RunError):
    """No run has this id."""


class RunConflict(RunError):
    """The request does not fit the run: another flow or input, a run that has ended, a question not pending."""


class RunBusy(RunError):
    """Another owner drives the run."""


class LeaseLost(RunError):
    """Another owner took the run over. Nothing that this owner did since then was written."""


class GraphChanged(RunError):
    """The graph differs from the one that the run needs to continue.

    Attributes:
        difference: The changes that keep the run from continuing; if `is_driven`, all changes.
        rename: Likely renames of nodes, old names to new, with which the run could continue, or with fewer obstacles.
        is_driven: Whether this engine drives the run with the graph as it was.
    """

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
            what = "the graph has changed where the run is"
            asked = f"if a node was only renamed, resume({run_id!r}, rename={rename or '{…}'})"
            way_out = f"restore what changed; {asked}; fork the run from a step before it; or cancel it"
        super().__init__(run_id, f"{what}:{lines}\n{way_out}")
        self.args = (run_id, difference, rename, is_driven)
        self.difference, self.rename, self.is_driven = difference, rename, is_driven


class BadRunId(RunError):
    """An id that cannot be used."""


class BadSignal(RunError):
    """A signal has a bad name, or a payload that the wait for it does not accept. It was not stored."""


class LimitReached(RunError):
    """A count passed its limit. The message uses the limit's name in `Limits`."""


class JoinUnreachable(RunError):
    """So many branches failed that a join cannot get the results it needs."""


class StateConflict(RunError):
    """Two branches set one field that has no reducer."""


class StateError(RunError):
    """A state field does not exist, has no value, or refuses an update."""


class UnknownRoute(RunError):
    """A branch chose a route that it does not have."""


class BadTime(RunError):
    """A function that decides a time returned none, but for example a negative number or a naive datetime."""


class SignalTimeout(RunError):
    """No signal came in time."""


class Rejected(RunError):
    """A person was asked for approval and refused. Never retried. The message is the reason that the person gave."""


class Interrupted(LimitReached):
    """A node was running during more crashes of its owner than `max_interruptions` allows."""


class Timeout(RunError, TimeoutError):
    """An attempt, a frame or the run passed its deadline."""


class ScheduleNotFound(BelugaError):
    """No schedule has this name.

    Attributes:
        name: The name.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"there is no schedule {self.name!r}: list them with engine.schedules(), or give one"


class BusError(BelugaError):
    """An event bus cannot fulfil a request."""


class BadTopic(BusError):
    """A text is not a topic, or not a pattern. Nothing was published or subscribed to."""


class BusClosed(BusError):
    """The bus was closed. A durable bus keeps the events that were not handled for the next process."""


class TemporalUnavailable(BelugaError):
    """No Temporal server, namespace or worker answers. A run that was started goes on as soon as one does.

    Attributes:
        address: Address of the server; empty if it is not known.
        message: What is missing, and the way out.
    """

    def __init__(self, address: str, message: str) -> None:
        super().__init__(address, message)
        self.address, self.message = address, message

    def __str__(self) -> str:
        return f"Temporal at {self.address}: {self.message}" if self.address else f"Temporal: {self.message}"


class ToolError(BelugaError):
    """A tool cannot be offered, or a call of a tool cannot be made. Never retried."""


class ModelError(BelugaError):
    """A model could not answer.

    Attributes:
        retryable: Whether asking again may help.
        retry_after: Seconds to wait before asking again, if the provider named them.
    """

    def __init__(self, message: str, *, retryable: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retryable, self.retry_after = retryable, retry_after
