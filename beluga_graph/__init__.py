"""beluga_graph: agents and workflows as graphs that survive anything.

The map of the house. An arrow may only point down:

    doors       cli  draw  testing
    5 flows     flows/
    4 walker    engine (the user's object)  run  admission  scheduler (the only module that creates tasks)
    3 hands     executor  attempt  state  history  lease  committer
    2 rules     kernel/transition: advance, work        pure: no I/O, clock, randomness, asyncio or user code
    1 meaning   plan/ (compile passes)  kernel/ (shape, snapshot, triggers)  events  codec/
    0 words     graph  reducers  policy  clock  errors
    ground      stores/ (base, memory, lmdb)

A flow compiles to a plan: its shape (data) and its bindings (code). A run is a snapshot. One pure function,
`advance(shape, snapshot, trigger) -> patch`, decides everything that ever happens to a run; `apply(patch)` is
the only way a snapshot changes; one commit writes each step. To resume is to load the snapshot, ask what a
live run must be doing, and do it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from beluga_graph.context import Context
    from beluga_graph.engine import Engine, Recovery, run_sync
    from beluga_graph.errors import (
        AmbiguousExit,
        BadName,
        BadRunId,
        BadState,
        BelugaError,
        DelegationCycle,
        DuplicateNode,
        EdgeTypeMismatch,
        GraphChanged,
        GraphError,
        Interrupted,
        JoinUnreachable,
        LeaseLost,
        LimitReached,
        ModelError,
        NotData,
        NoWayOut,
        RunBusy,
        RunCancelled,
        RunConflict,
        RunError,
        RunFailed,
        RunNotFound,
        SignalTimeout,
        SnapshotError,
        StateConflict,
        StateError,
        Timeout,
        UnclosedFanOut,
        UnknownNode,
        UnknownRoute,
        Unreachable,
    )
    from beluga_graph.events import Event, Failure
    from beluga_graph.flows.flow import Flow
    from beluga_graph.flows.graph import Graph
    from beluga_graph.graph import END, START, Node
    from beluga_graph.policy import Limits, Retry
    from beluga_graph.reducers import add, append, last, maximum, merge, union
    from beluga_graph.run import Outcome, Run, RunInfo, RunSnapshot, RunStatus, StepInfo, TokenInfo

__version__ = "0.1.0"

_HOME = {
    "beluga_graph.context": ("Context",),
    "beluga_graph.engine": ("Engine", "Recovery", "run_sync"),
    "beluga_graph.errors": (
        "AmbiguousExit",
        "BadName",
        "BadRunId",
        "BadState",
        "BelugaError",
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
        "UnclosedFanOut",
        "UnknownNode",
        "UnknownRoute",
        "Unreachable",
    ),
    "beluga_graph.events": ("Event", "Failure"),
    "beluga_graph.flows.flow": ("Flow",),
    "beluga_graph.flows.graph": ("Graph",),
    "beluga_graph.graph": ("END", "START", "Node"),
    "beluga_graph.policy": ("Limits", "Retry"),
    "beluga_graph.reducers": ("add", "append", "last", "maximum", "merge", "union"),
    "beluga_graph.run": ("Outcome", "Run", "RunInfo", "RunSnapshot", "RunStatus", "StepInfo", "TokenInfo"),
}
_HOME_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [  # noqa: PLE0604 - the names above, sorted
    *sorted(_HOME_OF),
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used: drawing a graph should not pay for the engine."""
    module = _HOME_OF.get(name)
    if module is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(_HOME_OF)
