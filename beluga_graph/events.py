"""Events: what watchers of a run see.

*Stored* events belong to a committed step: they carry (`seq`, `index`), are delivered after the commit, and
are replayed by `events(after=)`. *Live* events (`text`, `node_started`, `retracted`) are for those who watch
now: they carry `attempt` and are never replayed.

| type            | stored | carries                                                                     |
|-----------------|--------|-----------------------------------------------------------------------------|
| `run_started`   | yes    | `output`: the run's input                                                   |
| `node_finished` | yes    | `output`; `text`: all that the node emitted; `route`: what its branch chose |
| `tool_call`     | yes    | `name`, `arguments`, `call_id`                                              |
| `tool_result`   | yes    | `name`, `call_id`, `output`, `error`                                        |
| `handoff`       | yes    | `source`, `target`; `agent` is the target                                   |
| `loop_finished` | yes    | `name` of the loop, `reason`: `condition` or `limit`, `iterations`          |
| `retry`         | yes    | `attempt` that failed, `error`, `delay_s` until the next                    |
| `waiting`       | yes    | `name` of the signal, or `due_ms` of the timer; for a person: `approval` as |
|                 |        | `name`, `question`, and `output`: what is asked about, as in `pending()`    |
| `signal`        | yes    | `name`, `output`: the payload; of an answer, `approval`: `question`, and    |
|                 |        | `output` with `decision`, `reason`, `value`                                 |
| `timer`         | yes    | it fired                                                                    |
| `error`         | yes    | `error`: what failed for good, handled or not; last of a run that failed    |
| `done`          | yes    | `output`; last of a run that completed                                      |
| `text`          | no     | `text`: one piece                                                           |
| `node_started`  | no     | an attempt began                                                            |
| `retracted`     | no     | drop the text of this node's attempt: it failed                             |
| `lagged`        | no     | the watcher was too slow: `output` live events were lost here. Stored ones  |
|                 |        | never are; a `node_finished` has the node's whole text                      |
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from beluga_graph.codec import Codec, Unregistered
from beluga_graph.kernel.shape import TOOL, NodeShape
from beluga_graph.kernel.types import EventFields, Patch, Value

__all__ = ["Event", "Failure", "asked_about", "make_event", "revive", "stored_events"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened in a run. Fields that do not concern its `type` keep their default.

    The types, and what each carries, are a table in the docstring of `beluga_graph.events`.
    """

    type: str
    run_id: str
    node: str = ""
    """Path of the node; empty for the run itself."""
    agent: str = ""
    token: str = ""
    """Structural name of the visit: the same wherever the run goes on."""
    seq: int | None = None
    """Step, for stored events."""
    index: int | None = None
    """Place within the step, for stored events."""
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
    """Id of the question to a person: what `Engine.answer` takes."""
    reason: str = ""
    iterations: int | None = None
    delay_s: float | None = None
    due_ms: int | None = None


# An event in the making: its fields are assigned at a fifth of what a frozen class takes for it. It has the slots of
# an event, so it can become one.
_Open = dataclasses.make_dataclass(
    "_Open",
    [(one.name, one.type, dataclasses.field(default=one.default)) for one in dataclasses.fields(Event)],
    slots=True,
    kw_only=True,
    eq=False,
)


def make_event(**given: Any) -> Event:
    """Return `Event(**given)`, for those that make many."""
    event = _Open(**given)
    event.__class__ = Event
    return cast("Event", event)


@dataclass(frozen=True, slots=True)
class Failure:
    """What failed for good: the input of an error edge's target, and of a join that collects."""

    node: str
    type: str
    """Name of the exception's class."""
    message: str
    attempts: int
    input: Any = None
    """What the node had been given."""
    branch: int | None = None
    """Among the results that a join gets: the number of the branch that failed, from 0. Elsewhere `None`."""
    item: Any = None
    """Likewise the value that the branch began with: its item, where the fan-out has `over`."""

    def __str__(self) -> str:
        return f"{self.type}: {self.message}"


def revive(codec: Codec, load: Callable[[bytes], bytes], value: Value, *, lenient: bool = False) -> Any:
    """Return a fresh copy of a value; a failure becomes a `Failure`. `load` follows references."""
    if isinstance(value, bytes):
        return codec.decode(load(value), lenient=lenient)
    node, kind, message, attempts, given = value
    return Failure(
        node, kind, message, attempts, None if given is None else revive(codec, load, given, lenient=lenient)
    )


def stored_events(
    run_id: str, seq: int, patch: Patch, decode: Callable[[Any], Any], nodes: Mapping[str, NodeShape]
) -> list[Event]:
    """Return the events of a committed step. `decode` reads a value; `nodes` are those of the graph at that step."""
    events = []
    for index, fields in enumerate(patch.events):
        events.append(_event(run_id, seq, index, fields, patch, decode, nodes))
    return events


def asked_about(value: Any, asks: str) -> Any:
    """Return what a person is asked about: a step's value, or the `name` and parsed `arguments` of a tool's call."""
    if asks != TOOL:
        return value
    if isinstance(value, Unregistered):  # where nobody knows the agent
        name, text = value.fields["name"], value.fields["arguments"]
    else:
        name, text = value.name, value.arguments
    return {"name": name, "arguments": json.loads(text if text.strip() else "{}")}


def _event(
    run_id: str,
    seq: int,
    index: int,
    fields: EventFields,
    patch: Patch,
    decode: Callable[[Any], Any],
    nodes: Mapping[str, NodeShape],
) -> Event:
    kind, node, token, more, value = fields
    extra = dict(more or {})
    shape = nodes.get(node)
    output = decode(patch.values[value]) if value is not None else None
    if kind == "error":
        extra["error"] = f"{extra.pop('failure')}: {extra.pop('message')}"
    elif kind == "retry":
        extra = {
            "attempt": extra["tried"],
            "error": extra["message"],
            "delay_s": extra["delay_ms"] / 1000,
        }
    elif kind == "waiting" and "due" in extra:
        extra = {"due_ms": extra["due"]}
    elif kind == "tool_call":
        extra["arguments"] = _with_lists(extra["arguments"])
    elif shape is not None and shape.asks and kind in ("waiting", "signal"):
        extra["question"] = token
        output = asked_about(output, shape.asks) if kind == "waiting" else output
    agent = extra.pop("agent", None) or (shape.agent if shape is not None else "")
    return make_event(
        type=kind,
        run_id=run_id,
        node=node,
        agent=agent,
        token=token,
        seq=seq,
        index=index,
        output=output,
        **extra,
    )


def _with_lists(value: Any) -> Any:
    """Return JSON as it was before it was stored: a step that is read back has tuples for lists."""
    if isinstance(value, dict):
        return {key: _with_lists(part) for key, part in value.items()}
    return [_with_lists(part) for part in value] if isinstance(value, list | tuple) else value
