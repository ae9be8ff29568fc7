"""Events: the record of a run that its watchers see.

*Stored* events belong to a committed step: they carry (`seq`, `index`), are delivered after the commit, and are
replayed by `events(after=)`. *Live* events (`text`, `node_started`, `retracted`, `lagged`) are only delivered to
current watchers: they carry `attempt` and are never replayed.

| type            | stored | carries                                                                     |
|-----------------|--------|-----------------------------------------------------------------------------|
| `run_started`   | yes    | `output`: the run's input                                                   |
| `node_finished` | yes    | `output`; `text`: all text that the node emitted; `route`: its branch's     |
|                 |        | choice                                                                      |
| `tool_call`     | yes    | `name`, `arguments`, `call_id`                                              |
| `tool_result`   | yes    | `name`, `call_id`, `output`, `error`                                        |
| `handoff`       | yes    | `source`, `target`; `agent` is the target                                   |
| `loop_finished` | yes    | `name` of the loop, `reason`: `condition` or `limit`, `iterations`          |
| `retry`         | yes    | `attempt` that failed, `error`, `delay_s` until the next                    |
| `waiting`       | yes    | `name` of the signal, or `due_ms` of the timer; for an approval: `approval` |
|                 |        | as `name`, `question`, and `output`: the value in question, as in           |
|                 |        | `pending()`                                                                 |
| `signal`        | yes    | `name`, `output`: the payload; for an answer: `approval` as `name`,         |
|                 |        | `question`, and `output` with `decision`, `reason`, `value`; if it          |
|                 |        | interrupts `node`, or the whole run: the node that goes on as `target`      |
| `timer`         | yes    | nothing: a timer fired                                                      |
| `error`         | yes    | `error`: a failure that is not retried, handled or not; the last event of a |
|                 |        | failed run                                                                  |
| `done`          | yes    | `output`; the last event of a completed run                                 |
| `text`          | no     | `text`: one piece                                                           |
| `node_started`  | no     | nothing: an attempt began                                                   |
| `retracted`     | no     | nothing: the node's attempt failed, so discard its text                     |
| `lagged`        | no     | `output`: the number of live events that a slow watcher lost here. Stored   |
|                 |        | events are never lost; a `node_finished` has the node's whole text          |
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, cast

__all__ = ["Event", "Failure", "make_event"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event of a run. Fields that its `type` does not use keep their defaults.

    The docstring of `beluga_graph.events` lists the types and the fields that each type carries.

    Attributes:
        type: The type of the event.
        run_id: The run.
        node: The path of the node; empty for the run itself.
        agent: The agent that the node belongs to; empty if there is none.
        token: The structural name of the visit. It is the same in every process that drives the run.
        seq: The number of the step; `None` for live events.
        index: The position within the step; `None` for live events.
        attempt: The attempt, counted from 1: of live events, and the attempt that failed in a `retry`.
        text: A piece of text, or all the text of a finished node.
        name: The name of the tool, loop or signal.
        arguments: The arguments of a tool call, as parsed JSON.
        call_id: The id that joins a tool call to its result.
        output: The value that the event reports.
        error: The failure, as `<exception class>: <message>`.
        source: The agent that hands over.
        target: The agent that is handed over to; or the node that goes on after a signal has interrupted another one.
        route: The route that the node's branch chose.
        question: The id of a question to a person; pass it to `Engine.answer`.
        reason: Why a loop ended: `condition` or `limit`.
        iterations: The number of iterations of a loop.
        delay_s: Seconds until the next attempt.
        due_ms: The time at which a timer fires, in milliseconds since the epoch.
    """

    type: str
    run_id: str
    node: str = ""
    agent: str = ""
    token: str = ""
    seq: int | None = None
    index: int | None = None
    attempt: int | None = None
    text: str = ""
    name: str = ""
    arguments: Any = None
    call_id: str = ""
    output: Any = None
    error: str = ""
    source: str = ""
    target: str = ""
    route: str | int | bool | None = None
    question: str = ""
    reason: str = ""
    iterations: int | None = None
    delay_s: float | None = None
    due_ms: int | None = None


# An event under construction. Assigning its fields takes a fifth of the time of a frozen class. It has the slots of an
# event, so it can become one.
_Unfrozen = dataclasses.make_dataclass(
    "_Unfrozen",
    [(field.name, field.type, dataclasses.field(default=field.default)) for field in dataclasses.fields(Event)],
    slots=True,
    kw_only=True,
    eq=False,
)


def make_event(**given: Any) -> Event:
    """Return `Event(**given)`, in less time: for callers that make many."""
    event = _Unfrozen(**given)
    event.__class__ = Event
    return cast("Event", event)


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure that is not retried: the input of an error edge's target, and a result of a join that collects.

    Attributes:
        node: The path of the node that failed.
        type: The name of the exception's class.
        message: The exception's message.
        attempts: The number of attempts that were made.
        input: The input of the node that failed.
        branch: In the results of a join: the number of the failed branch, from 0. Otherwise `None`.
        item: In the results of a join: the value that the branch began with, which is its item if the fan-out has
            `over`. Otherwise `None`.
    """

    node: str
    type: str
    message: str
    attempts: int
    input: Any = None
    branch: int | None = None
    item: Any = None

    def __str__(self) -> str:
        return f"{self.type}: {self.message}"
