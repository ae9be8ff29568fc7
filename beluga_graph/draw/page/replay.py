"""The replay of a run as plain JSON: a head, then a delta for each step with the changes that the step made.

A reader of the head that applies deltas in order has the state of every drawing of the run at each step. Further deltas
can be appended while the run goes on. All times are milliseconds since the run began, except clock times (`began`,
`due_ms`). A key is left out where it does not apply.

| key of a delta      | meaning                                                                                 |
|---------------------|-----------------------------------------------------------------------------------------|
| `seq`, `at`         | number and time of the step                                                             |
| `what`              | the step in a few words; `trigger`, `node`, `name`, `token`, `attempt`: its details     |
| `texts`             | new entries of the table of texts; a number refers to an entry wherever text is used    |
| `marks`             | statistics of a node so far, by id of a box                                             |
| `taken`             | how often an edge was taken so far, by id of a line                                     |
| `lanes`             | new places: `id`, `parent`, and `node` and `branch` of the visit that opened it         |
| `spans`             | visits that began or changed, each with its `id`; a known visit has changed keys only   |
| `state`             | fields that changed: `set` with `before` and `after`, or `append` with new `items`      |
| `given`, `gave`     | the input and the output of the node                                                    |
| `events`            | the events of the step                                                                  |
| `status`, `tokens`  | of the run, if they changed                                                             |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeAlias

from beluga_graph.draw.layout.layout import format_route
from beluga_graph.draw.overlay import Overlay, build_overlay, split_badge
from beluga_graph.draw.page.step_words import describe_step
from beluga_graph.draw.page.values import Texts
from beluga_graph.draw.picture import Picture, build_picture
from beluga_graph.draw.text import clean, clip, format_duration, measure_width
from beluga_graph.events import Event
from beluga_graph.kernel.ops import APPEND_ITEMS, SET_FIELD
from beluga_graph.kernel.rules import is_answer
from beluga_graph.kernel.shape import JOIN, Shape
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.structural_names import SCOPE_TIMER, split_branch_place, split_timer
from beluga_graph.kernel.tokens import Token
from beluga_graph.kernel.types import Op
from beluga_graph.trace.edges import Edge
from beluga_graph.trace.steps import CommittedStep
from beluga_graph.trace.trace import Trace
from beluga_graph.trace.visits import NodeStats, Visit

__all__ = ["Delta", "Replay", "ReplayStep", "describe_picture"]

Delta: TypeAlias = dict[str, Any]
ReadItems: TypeAlias = Callable[[str, str, int, int], Iterable[Any]]
"""Reads the items of an append field, decoded: place, field, start, stop."""

NAME_LENGTH_MAX = 200  # a longer name is cut
ITEMS_MAX = 50  # further items that one step appends are left out
_VISIT = re.compile(r"#\d+(?=\[)")
_WIDEST_MS = ((1_000, 888), (60_000, 58_800), (3_600_000, 3_538_000), (172_800_000, 172_680_000))
"""Pairs: below a duration, the duration whose text is the widest."""


class ReplayStep(CommittedStep, Protocol):
    """A committed step of a run, with the number of the attempt."""

    @property
    def attempt(self) -> int:
        """The attempt of the node that ended. Undefined for other triggers."""


class Replay:
    """A fold over the committed steps of a run that returns each one as a delta."""

    def __init__(self, shape: Shape, begun: Snapshot, decode: Callable[[Any], Any], read_items: ReadItems) -> None:
        self.trace = Trace(shape, begun)
        self._began = begun.started_ms
        self._decode = decode
        self._read_items = read_items
        self._texts = Texts()
        self._picture = build_picture(shape)
        self._ids = {box.name: box.id for box in self._picture.boxes}
        self._lines: dict[Edge, list[str]] = {}
        for line in self._picture.lines:
            self._lines.setdefault(line.edge, []).append(line.id)
        self._visit_ids: dict[str, int] = {}
        self._lanes: dict[str, int] = {"": 0}
        self._new_lanes: list[Delta] = []
        self._widest: dict[str, tuple[float, str]] = {}
        visits = self.trace.visits
        self._begin = self._describe_changes(tuple(visits), [visit.node for visit in visits.values()], ())

    def build_head(self) -> Delta:
        """Return the state before the first step. The visits with which a fork begins are a delta of step 0."""
        run = self.trace.run
        return {
            "flow": clean(self.trace.shape.name),
            "run": clean(run.run_id),
            "began": self._began,
            **describe_picture(self.trace.shape, self._picture),
            "begin": {"seq": 0, "at": 0, "status": "running", **self._begin},
        }

    def apply(self, step: ReplayStep, events: Sequence[Event]) -> Delta:
        """Apply the next step, with its events; return its changes. The cost grows with the size of the step only."""
        trace = self.trace
        status, tokens = trace.run.status, _count_tokens(trace.run)
        token, node = self._find_subject(step)
        given, gave = self._find_values(step, token)
        state = [self._describe_field(op, step) for op in step.patch.ops if op[0] in (SET_FIELD, APPEND_ITEMS)]
        change = trace.apply(step)
        name = node or (token.node if token else "")
        delta: Delta = {"seq": step.seq, "at": step.at_ms - self._began, "trigger": step.trigger}
        delta["what"] = describe_step(step.trigger, step.token, self._find_label(name), events)
        delta |= self._name_node(name)
        delta |= {"token": clip(clean(token.name), NAME_LENGTH_MAX)} if token else {}
        delta |= {"attempt": step.attempt} if step.trigger in ("NodeFinished", "NodeFailed") else {}
        delta |= {"given": given} if given is not None else {}
        delta |= {"gave": gave} if gave is not None else {}
        delta |= self._describe_changes(change.visits, change.nodes, change.edges)
        delta |= {"state": state} if state else {}
        delta |= {"events": [self._describe_event(event) for event in events]} if events else {}
        delta |= {"status": trace.run.status} if trace.run.status != status else {}
        delta |= {"tokens": _count_tokens(trace.run)} if _count_tokens(trace.run) != tokens else {}
        texts = self._texts.take_new()
        return delta | ({"texts": texts} if texts else {})

    def find_widest_badges(self) -> dict[str, str]:
        """Return the widest badge that each node had so far, `""` for none, so that a drawing can reserve the room."""
        for node in self._ids:
            self._update_widest(node, self.trace.summarize(node))
        return {node: self._widest.get(node, (0.0, ""))[1] for node in self.trace.shape.nodes}

    def build_overlay(self, picture: Picture) -> Overlay:
        """Return the overlay of the run as of the last step."""
        return build_overlay(self.trace, picture)

    # The subject and the values of a step, before it is applied.

    def _find_subject(self, step: ReplayStep) -> tuple[Token | None, str]:
        """Return the token that a step concerns, and the node if there is no token."""
        tokens, name = self.trace.run.tokens, step.token
        if step.trigger == "TimerFired":
            kind, name = split_timer(step.token)
            scope = self.trace.run.scopes.get(name)
            if scope is not None and kind == SCOPE_TIMER:
                return None, scope.node
        elif step.trigger == "SignalReceived":
            node, name = next((event[1:3] for event in step.patch.events if event[0] == "signal"), ("", ""))
            return tokens.get(name), "" if name in tokens else node  # a signal may interrupt a scope
        return tokens.get(name), ""

    def _find_values(self, step: ReplayStep, token: Token | None) -> tuple[int | None, int | None]:
        """Return the numbers of the texts of a node's input and of its output."""
        run = self.trace.run
        if step.trigger == "RunStarted":
            return self._add_value(run.input), None
        if token is None:
            return None, None
        gave = next(
            (
                value
                for kind, _, name, more, value in step.patch.events
                if name == token.name and kind in _OUTPUT_EVENTS and not (kind == "signal" and "target" in (more or {}))
            ),
            None,
        )
        shape = self.trace.shape.nodes.get(token.node)
        opened = run.places[token.place].opened
        if shape is not None and shape.kind == JOIN and opened is not None:  # the token of a join has no value
            scope = run.scopes[opened]
            results = {**scope.results, **scope.failures}
            given = self._texts.add_value([self._decode(results[branch]) for branch in sorted(results)])
        else:
            given = self._add_value(token.value)
        return given, None if gave is None else self._add_value(step.patch.values[gave])

    def _add_value(self, value: Any) -> int:
        return self._texts.add_value(self._decode(value))

    def _describe_field(self, op: Op, step: ReplayStep) -> Delta:
        """Describe the change of a field."""
        kind, name, field, operand = op
        place = self.trace.run.places[name]
        delta: Delta = {"lane": self._find_lane(name), "field": clip(clean(field), NAME_LENGTH_MAX)}
        if kind == SET_FIELD:
            before = place.fields.get(field)
            delta |= {"before": self._add_value(before)} if before is not None else {}
            return delta | {"after": self._add_value(step.patch.values[operand])}
        start = place.lengths.get(field, 0)
        shown = min(operand, ITEMS_MAX)
        items = [self._texts.add_value(item) for item in self._read_items(name, field, start, start + shown)]
        return delta | {"from": start, "count": operand, "items": items}

    # The changes of a step, after it is applied.

    def _describe_changes(self, visits: Iterable[str], nodes: Iterable[str], edges: Iterable[Edge]) -> Delta:
        delta: Delta = {}
        spans = [self._describe_visit(self.trace.visits[name]) for name in visits]
        marks = {self._ids[node]: self._describe_stats(node) for node in dict.fromkeys(nodes) if node in self._ids}
        taken = {line: self.trace.edge_counts[edge] for edge in edges for line in self._lines.get(edge, ())}
        lanes, self._new_lanes = self._new_lanes, []
        for name, part in (("lanes", lanes), ("spans", spans), ("marks", marks), ("taken", taken)):
            if part:
                delta[name] = part
        return delta

    def _describe_stats(self, node: str) -> Delta:
        """Describe the statistics of a node.

        A running visit makes `busy` grow, so `busy` is given as of time 0, with the number of running visits.
        """
        stats = self.trace.summarize(node)
        self._update_widest(node, stats)
        before, after = split_badge(stats)
        delta: Delta = {"status": stats.status, "visits": stats.visits}
        delta |= {"before": before} if before else {}
        delta |= {"after": after} if after else {}
        delta |= {"now": stats.now} if stats.now else {}
        delta |= {"clocks": stats.clocks} if stats.clocks else {}
        delta |= {"waited": stats.waited_ms} if stats.waited_ms else {}
        return delta | {"busy": stats.busy_ms - stats.clocks * (self.trace.at_ms - self._began)}

    def _update_widest(self, node: str, stats: NodeStats) -> None:
        if not stats.visits:
            return
        before, after = split_badge(stats)
        widest_ms = next((widest for limit, widest in _WIDEST_MS if stats.busy_ms < limit), stats.busy_ms)
        badge = " · ".join([*before, format_duration(widest_ms), *after])
        self._widest[node] = max(self._widest.get(node, (0.0, "")), (measure_width(badge, 11), badge))

    def _describe_visit(self, visit: Visit) -> Delta:
        known = self._visit_ids.get(visit.name)
        delta: Delta = {"id": len(self._visit_ids) if known is None else known, "status": visit.status}
        if known is None:
            self._visit_ids[visit.name] = delta["id"]
            delta |= {
                "lane": self._find_lane(visit.place),
                "begun": visit.begun_seq,
                "from": visit.begun_ms - self._began,
            }
        delta |= self._name_node(visit.node)
        delta |= {"opens": True} if visit.opens else {}
        delta |= {"attempts": visit.attempts} if visit.attempts > 1 else {}
        if visit.ended_seq is not None and visit.ended_ms is not None:
            delta |= {"ended": visit.ended_seq, "to": visit.ended_ms - self._began}
        elif known is not None and visit.opens:  # a frame that is restarted
            delta |= {"ended": None, "to": None}
        return delta

    def _find_lane(self, place: str) -> int:
        """Return the lane of a place. All visits of an opener share a lane, because there is only one at a time."""
        key = _VISIT.sub("", place)
        known = self._lanes.get(key)
        if known is not None:
            return known
        scope, branch = split_branch_place(place)
        opener = self.trace.visits[scope]
        parent = self._find_lane(opener.place)
        number = self._lanes[key] = len(self._lanes)
        self._new_lanes.append({"id": number, "parent": parent, "branch": branch, **self._name_node(opener.node)})
        return number

    def _find_label(self, node: str) -> str:
        shape = self.trace.shape.nodes.get(node)
        return clip(clean(node if shape is None else shape.local), 60)

    def _name_node(self, node: str) -> Delta:
        """Name a node by the id of its box, or by its path if a changed graph no longer has it."""
        if node in self._ids:
            return {"node": self._ids[node]}
        return {"name": clip(clean(node), NAME_LENGTH_MAX)} if node else {}

    def _describe_event(self, event: Event) -> Delta:
        delta: Delta = {"type": event.type, **self._name_node(event.node)}
        for name in ("agent", "name", "call_id", "source", "target"):
            if text := getattr(event, name):
                delta[name] = "approval" if is_answer(text) else clip(clean(text), NAME_LENGTH_MAX)
        for name in ("text", "error"):
            if text := getattr(event, name):
                delta[name] = self._texts.add_text(text)
        for name in ("arguments", "output"):
            if (value := getattr(event, name)) is not None:
                delta[name] = self._texts.add_value(value)
        for name in ("attempt", "delay_s", "due_ms"):
            if (number := getattr(event, name)) is not None:
                delta[name] = number
        return delta


_OUTPUT_EVENTS = ("node_finished", "signal", "tool_result")


def describe_picture(shape: Shape, picture: Picture) -> Delta:
    """Describe the boxes and lines of a picture, with the details of their nodes."""
    boxes = []
    for box in picture.boxes:
        name, label = (clip(clean(text), NAME_LENGTH_MAX * 2) for text in (box.name, box.label))
        delta: Delta = {"id": box.id, "name": name, "label": label, "kind": box.kind, "frame": box.frame}
        delta |= {"note": clip(clean(box.note), NAME_LENGTH_MAX * 2)} if box.note else {}
        node = shape.nodes.get(box.name)
        for word in ("description", "agent", "input_type", "output_type") if node is not None else ():
            if text := getattr(node, word):
                delta[word] = clip(clean(text), NAME_LENGTH_MAX * 2)
        boxes.append(delta)
    lines = [
        {"id": line.id, "source": line.source, "target": line.target, "kind": line.kind, "label": format_route(line)}
        for line in picture.lines
    ]
    return {"boxes": boxes, "lines": lines}


def _count_tokens(run: Snapshot) -> int:
    return run.usage.get("input_tokens", 0) + run.usage.get("output_tokens", 0)
