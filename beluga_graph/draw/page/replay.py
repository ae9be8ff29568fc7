"""The replay of a run as plain JSON: a head, then a delta for each step, which tells what the step changed.

Whoever holds the head applies deltas in order and knows at each step what a drawing of the run shows; so a watcher
of a run that goes on appends new ones. All times are milliseconds since the run began, but for those of the clock
(`began`, `due_ms`). What does not concern a step is left out.

| of a delta          | what it is                                                                              |
|---------------------|-----------------------------------------------------------------------------------------|
| `seq`, `at`         | number and time of the step                                                             |
| `what`              | what happened, in a few words; `trigger`, `node`, `name`, `token`, `attempt`: to whom   |
| `texts`             | new entries of the table of texts; where a text or a value is meant, its number stands  |
| `marks`             | by id of a box: what happened at it so far                                              |
| `taken`             | by id of a line: how often it was taken so far                                          |
| `lanes`             | places that are new: `id`, `parent`, and `node` and `branch` of what opened it           |
| `spans`             | visits that began or changed, each with its `id`; a known one tells what is new of it   |
| `state`             | fields that changed: `set` with `before` and `after`, or `append` with new `items`      |
| `given`, `gave`     | the value that came to the node, and the one that left it                               |
| `events`            | the events of the step                                                                  |
| `status`, `tokens`  | of the run, if they changed                                                             |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeAlias

from beluga_graph.draw.layout.layout import shown_route
from beluga_graph.draw.overlay import Overlay, badge_parts, overlay_of
from beluga_graph.draw.page.values import Texts
from beluga_graph.draw.picture import Edge, Picture, edge_of, picture
from beluga_graph.draw.text import clean, clipped, shown_duration, width_of
from beluga_graph.events import Event
from beluga_graph.kernel.ops import APPEND_ITEMS, SET_FIELD
from beluga_graph.kernel.rules import is_answer
from beluga_graph.kernel.shape import JOIN, Shape
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.tokens import Token
from beluga_graph.kernel.types import Op
from beluga_graph.trace.trace import Step as TrailStep
from beluga_graph.trace.trace import Trace
from beluga_graph.trace.visits import NodeStats, Visit

__all__ = ["Delta", "Replay", "Step", "boxes_of"]

Delta: TypeAlias = dict[str, Any]
Items: TypeAlias = Callable[[str, str, int, int], Iterable[Any]]
"""Reads the items of an append field, decoded: place, field, from, to."""

NAME_SIGNS = 200  # where a name is cut
MOST_ITEMS = 50  # of those that one step appends
_VISIT = re.compile(r"#\d+(?=\[)")
_ROOMS = ((1_000, 888), (60_000, 58_800), (3_600_000, 3_538_000), (172_800_000, 172_680_000))
"""Up to a duration, one whose words are as wide as any."""


class Step(TrailStep, Protocol):
    """A committed step, as the history tells it."""

    @property
    def attempt(self) -> int:
        """Of the node; something else where no node ended."""


class Replay:
    """A fold over the committed steps of a run that tells each one as a delta."""

    def __init__(self, shape: Shape, begun: Snapshot, decode: Callable[[Any], Any], items: Items) -> None:
        self.trail = Trace(shape, begun)
        self._began = begun.started_ms
        self._decode = decode
        self._items = items
        self._texts = Texts()
        self._picture = picture(shape)
        self._ids = {box.name: box.id for box in self._picture.boxes}
        self._lines: dict[Edge, list[str]] = {}
        for line in self._picture.lines:
            self._lines.setdefault(edge_of(line), []).append(line.id)
        self._spans: dict[str, int] = {}
        self._lanes: dict[str, int] = {"": 0}
        self._new_lanes: list[Delta] = []
        self._widest: dict[str, tuple[float, str]] = {}
        self._begin = self._delta_of(tuple(self.trail.spans), [span.node for span in self.trail.spans.values()], ())

    def head(self) -> Delta:
        """Return what is known before the first step; a fork begins with visits, told as a delta of step 0."""
        run = self.trail.run
        return {
            "flow": clean(self.trail.shape.name),
            "run": clean(run.run_id),
            "began": self._began,
            **boxes_of(self.trail.shape, self._picture),
            "begin": {"seq": 0, "at": 0, "status": "running", **self._begin},
        }

    def step(self, step: Step, events: Sequence[Event]) -> Delta:
        """Take the next step, with its events; return what it changed. It costs the size of the step."""
        trail = self.trail
        status, usage = trail.run.status, _tokens(trail.run)
        token, node = self._subject(step)
        given, gave = self._values(step, token)
        state = [self._change(op, step) for op in step.patch.ops if op[0] in (SET_FIELD, APPEND_ITEMS)]
        changed = trail.step(step)
        name = node or (token.node if token else "")
        told: Delta = {"seq": step.seq, "at": step.at_ms - self._began, "trigger": step.trigger}
        told["what"] = _what(step, self._label(name), events)
        told |= self._named(name)
        told |= {"token": clipped(clean(token.name), NAME_SIGNS)} if token else {}
        told |= {"attempt": step.attempt} if step.trigger in ("NodeFinished", "NodeFailed") else {}
        told |= {"given": given} if given is not None else {}
        told |= {"gave": gave} if gave is not None else {}
        told |= self._delta_of(changed.spans, changed.nodes, changed.edges)
        told |= {"state": state} if state else {}
        told |= {"events": [self._event(event) for event in events]} if events else {}
        told |= {"status": trail.run.status} if trail.run.status != status else {}
        told |= {"tokens": _tokens(trail.run)} if _tokens(trail.run) != usage else {}
        texts = self._texts.taken()
        return told | ({"texts": texts} if texts else {})

    def widest(self) -> dict[str, str]:
        """Return by node the widest badge that it had so far, `""` for none: what a drawing keeps room for."""
        for node in self._ids:
            self._room(node, self.trail.mark(node))
        return {node: self._widest.get(node, (0.0, ""))[1] for node in self.trail.shape.nodes}

    def overlay(self, shown: Picture) -> Overlay:
        """Return what a picture shows of the run as far as it was told."""
        return overlay_of(self.trail, shown)

    # What a step is about.

    def _subject(self, step: Step) -> tuple[Token | None, str]:
        """Return the token that a step happens to, as it is before, and the node where there is no token."""
        tokens, name = self.trail.run.tokens, step.token
        if step.trigger == "TimerFired":
            name = step.token[2:]
            scope = self.trail.run.scopes.get(name)
            if scope is not None and step.token.startswith("s:"):
                return None, scope.node
        elif step.trigger == "SignalReceived":
            name = next((event[2] for event in step.patch.events if event[0] == "signal"), "")
        return tokens.get(name), ""

    def _values(self, step: Step, token: Token | None) -> tuple[int | None, int | None]:
        """Return the numbers of the value that came to a node and of the one that left it."""
        run = self.trail.run
        if step.trigger == "RunStarted":
            return self._shown(run.input), None
        if token is None:
            return None, None
        gave = next(
            (value for kind, _, name, _, value in step.patch.events if name == token.name and kind in _GIVES), None
        )
        shape = self.trail.shape.nodes.get(token.node)
        opened = run.places[token.place].opened
        if shape is not None and shape.kind == JOIN and opened is not None:  # its token carries nothing
            scope = run.scopes[opened]
            came = {**scope.results, **scope.failures}
            given = self._texts.value([self._decode(came[branch]) for branch in sorted(came)])
        else:
            given = self._shown(token.value)
        return given, None if gave is None else self._shown(step.patch.values[gave])

    def _shown(self, value: Any) -> int:
        return self._texts.value(self._decode(value))

    def _change(self, op: Op, step: Step) -> Delta:
        """Tell what a step does to a field, as it is before the step is taken."""
        kind, name, field, what = op
        place = self.trail.run.places[name]
        told: Delta = {"lane": self._lane(name), "field": clipped(clean(field), NAME_SIGNS)}
        if kind == "set":
            before = place.fields.get(field)
            told |= {"before": self._shown(before)} if before is not None else {}
            return told | {"after": self._shown(step.patch.values[what])}
        start = place.lengths.get(field, 0)
        shown = min(what, MOST_ITEMS)
        items = [self._texts.value(item) for item in self._items(name, field, start, start + shown)]
        return told | {"from": start, "count": what, "items": items}

    # What a step changed.

    def _delta_of(self, spans: Iterable[str], nodes: Iterable[str], edges: Iterable[Edge]) -> Delta:
        told: Delta = {}
        found = [self._span(self.trail.spans[name]) for name in spans]
        marks = {self._ids[node]: self._mark(node) for node in dict.fromkeys(nodes) if node in self._ids}
        taken = {line: self.trail.taken[edge] for edge in edges for line in self._lines.get(edge, ())}
        lanes, self._new_lanes = self._new_lanes, []
        for name, part in (("lanes", lanes), ("spans", found), ("marks", marks), ("taken", taken)):
            if part:
                told[name] = part
        return told

    def _mark(self, node: str) -> Delta:
        """Tell a mark. A visit that runs makes `busy` grow, so that is told as of time 0 and with how many run."""
        mark = self.trail.mark(node)
        self._room(node, mark)
        before, after = badge_parts(mark)
        told: Delta = {"status": mark.status, "visits": mark.visits}
        told |= {"before": before} if before else {}
        told |= {"after": after} if after else {}
        told |= {"now": mark.now} if mark.now else {}
        told |= {"clocks": mark.clocks} if mark.clocks else {}
        told |= {"waited": mark.waited_ms} if mark.waited_ms else {}
        return told | {"busy": mark.busy_ms - mark.clocks * (self.trail.at_ms - self._began)}

    def _room(self, node: str, mark: NodeStats) -> None:
        if not mark.visits:
            return
        before, after = badge_parts(mark)
        room = next((roomy for limit, roomy in _ROOMS if mark.busy_ms < limit), mark.busy_ms)
        badge = " · ".join([*before, shown_duration(room), *after])
        self._widest[node] = max(self._widest.get(node, (0.0, "")), (width_of(badge, 11), badge))

    def _span(self, span: Visit) -> Delta:
        known = self._spans.get(span.name)
        told: Delta = {"id": len(self._spans) if known is None else known, "status": span.status}
        if known is None:
            self._spans[span.name] = told["id"]
            told |= {"lane": self._lane(span.place), "begun": span.begun_seq, "from": span.begun_ms - self._began}
        told |= self._named(span.node)
        told |= {"opens": True} if span.opens else {}
        told |= {"attempts": span.attempts} if span.attempts > 1 else {}
        if span.ended_seq is not None and span.ended_ms is not None:
            told |= {"ended": span.ended_seq, "to": span.ended_ms - self._began}
        elif known is not None and span.opens:  # a frame that is begun anew
            told |= {"ended": None, "to": None}
        return told

    def _lane(self, place: str) -> int:
        """Return the lane of a place: all visits of what opened it share one, for there is one at a time."""
        key = _VISIT.sub("", place)
        known = self._lanes.get(key)
        if known is not None:
            return known
        scope, _, branch = place[:-2].rpartition("[")
        opener = self.trail.spans[scope]
        parent = self._lane(opener.place)
        number = self._lanes[key] = len(self._lanes)
        self._new_lanes.append({"id": number, "parent": parent, "branch": int(branch), **self._named(opener.node)})
        return number

    def _label(self, node: str) -> str:
        shape = self.trail.shape.nodes.get(node)
        return clipped(clean(node if shape is None else shape.local), 60)

    def _named(self, node: str) -> Delta:
        """Tell a node by the id of its box; by its name if the graph has lost it since."""
        if node in self._ids:
            return {"node": self._ids[node]}
        return {"name": clipped(clean(node), NAME_SIGNS)} if node else {}

    def _event(self, event: Event) -> Delta:
        told: Delta = {"type": event.type, **self._named(event.node)}
        for name in ("agent", "name", "call_id", "source", "target"):
            if text := getattr(event, name):
                told[name] = "approval" if is_answer(text) else clipped(clean(text), NAME_SIGNS)
        for name in ("text", "error"):
            if text := getattr(event, name):
                told[name] = self._texts.text(text)
        for name in ("arguments", "output"):
            if (value := getattr(event, name)) is not None:
                told[name] = self._texts.value(value)
        for name in ("attempt", "delay_s", "due_ms"):
            if (number := getattr(event, name)) is not None:
                told[name] = number
        return told


_GIVES = ("node_finished", "signal", "tool_result")


def boxes_of(shape: Shape, shown: Picture) -> Delta:
    """Return what there is to know of each box and line of a picture."""
    boxes = []
    for box in shown.boxes:
        name, label = (clipped(clean(text), NAME_SIGNS * 2) for text in (box.name, box.label))
        told: Delta = {"id": box.id, "name": name, "label": label, "kind": box.kind, "frame": box.frame}
        told |= {"note": clipped(clean(box.note), NAME_SIGNS * 2)} if box.note else {}
        node = shape.nodes.get(box.name)
        for word in ("description", "agent", "input_type", "output_type") if node is not None else ():
            if text := getattr(node, word):
                told[word] = clipped(clean(text), NAME_SIGNS * 2)
        boxes.append(told)
    lines = [
        {"id": line.id, "source": line.source, "target": line.target, "kind": line.kind, "label": shown_route(line)}
        for line in shown.lines
    ]
    return {"boxes": boxes, "lines": lines}


def _tokens(run: Snapshot) -> int:
    return run.usage.get("input_tokens", 0) + run.usage.get("output_tokens", 0)


_WORDS = {
    "RunStarted": "The run began",
    "CancelRequested": "The run was cancelled",
    "RunResumed": "The run was resumed",
    "RunForked": "The run began as a fork",
    "RunTakenOver": "Another owner took the run over",
    "PlanAdopted": "The run took over the changed graph",
    "TrialBegun": "A node that was interrupted often is begun apart from others",
    "TrialBrokenOff": "The owner stopped before that node ended",
}


def _what(step: Step, node: str, events: Sequence[Event]) -> str:
    """Return what happened in a step, in a few words."""
    kinds = {event.type: event for event in events}
    if step.trigger == "NodeFinished":
        finished = kinds.get("node_finished")
        chosen = finished.route if finished is not None else None
        return f"{node} finished" + (f", and chose {clipped(clean(str(chosen)), 60)}" if chosen is not None else "")
    if step.trigger == "NodeFailed":
        again = kinds.get("retry")
        if again is None or again.delay_s is None:
            return f"{node} failed"
        if "waiting" in kinds:  # a person's answer, of which nothing could be made
            return f"{node}: the answer did not fit, and is asked for again"
        return f"{node} failed, to be tried again in {shown_duration(round(again.delay_s * 1000))}"
    if step.trigger == "SignalReceived":
        return f"{node} was answered" if is_answer(step.token) else f"{node} got its signal"
    if step.trigger == "TimerFired":
        if not node:
            return "The run passed its deadline"
        return f"The time of {node} came" if "timer" in kinds or "error" in kinds else f"{node} is tried again"
    return _WORDS.get(step.trigger, step.trigger)
