"""The trace of a run: a fold over its committed steps, which needs no user code. Every drawing of a run shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from beluga_graph.draw.picture import BEGIN, Edge, Line, edge_of, hollow_frames, inner_point, targets_of
from beluga_graph.kernel import ops
from beluga_graph.kernel.shape import END, FRAME, JOIN, Shape
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, Snapshot
from beluga_graph.kernel.snapshot import FAILED as FAILED_RUN
from beluga_graph.kernel.tokens import FAILED_TOKEN, RETRY, RUN, SLEEP, WAIT
from beluga_graph.kernel.types import Op, Patch
from beluga_graph.trace.visits import (
    DONE,
    DROPPED,
    FAILED,
    RETRYING,
    RUNNING,
    STOPPED,
    WAITING,
    Counter,
    NodeStats,
    Visit,
)

__all__ = ["Changed", "Step", "Trace"]

_STATES = {RUN: RUNNING, RETRY: RETRYING, WAIT: WAITING, SLEEP: WAITING, FAILED_TOKEN: STOPPED}


class Step(Protocol):
    """A committed step, as the history tells it."""

    @property
    def seq(self) -> int:
        """Its number."""

    @property
    def at_ms(self) -> int:
        """When it was made."""

    @property
    def trigger(self) -> str:
        """What happened."""

    @property
    def token(self) -> str:
        """Who it happened to."""

    @property
    def patch(self) -> Patch:
        """What it changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """What one step changed: nodes and visits by name, and the edges that it took."""

    nodes: tuple[str, ...]
    spans: tuple[str, ...]
    edges: tuple[Edge, ...]


class Trace:
    """What a run did so far: begin with the run as it was before its first step, and take its steps in order.

    With `keep=False` a visit is forgotten once it has ended: what a long run needs then is what a short one does.
    """

    def __init__(self, shape: Shape, begun: Snapshot, *, keep: bool = True) -> None:
        self.shape = shape
        self.run = begun
        self.at_ms = begun.started_ms
        self.spans: dict[str, Visit] = {}
        """All visits that are kept, by structural name, in the order in which they began."""
        self.taken: dict[Edge, int] = {}
        """How often each edge was taken."""
        self._keep = keep
        self._tallies: dict[str, Counter] = {}
        self._inside: dict[str, dict[str, int]] = {}  # by frame or fan-out node: states of the tokens inside
        self._left: dict[str, tuple[str, str, int]] = {}  # by place: the node left last, how, in which step
        self._out = targets_of(shape)
        self._hollow = hollow_frames(shape)
        self._seq = begun.seq
        self._new_spans: dict[str, None] = {}
        self._new_nodes: dict[str, None] = {}
        self._new_edges: list[Edge] = []
        self._failed: set[str] = set()  # nodes that this step tells an error of
        self._routes: dict[str, str] = {}  # of nodes that finish in this step: what their branch chose
        for name, scope in begun.scopes.items():  # a fork begins in the middle
            self._begin(name, scope.node, scope.place, RUNNING, opens=True)
        for token in begun.tokens.values():
            self._begin(token.name, token.node, token.place, _STATES[token.state])

    def step(self, step: Step) -> Changed:
        """Take the next step. It costs the size of the step."""
        self._new_spans, self._new_nodes, self._new_edges = {}, {}, []
        self._seq, self.at_ms = step.seq, step.at_ms
        ends, self._failed = _ends(step)
        told = [(node, more) for _, node, _, more, _ in step.patch.events if more is not None]
        self._routes = {node: f"? {more['route']}" for node, more in told if "route" in more}
        if step.trigger == "RunForked" and step.seq == 1:  # what stands there begins now, not when its source began
            self._restart(anew=True)
        for op in step.patch.ops:
            self._take(op, step.token, ends)
        if step.trigger in ("RunTakenOver", "RunForked"):  # what had been begun elsewhere begins anew
            self._restart()
        self.run.apply(step.patch)
        for span in [self.spans[name] for name in self._new_spans]:
            if span.status == STOPPED and (ends.get(span.name) == FAILED or span.node in self._failed):
                self._set(span, FAILED)  # it failed the run, and stays for a resume
        if not self._keep:
            self._forget()
        return Changed(nodes=tuple(self._new_nodes), spans=tuple(self._new_spans), edges=tuple(self._new_edges))

    def _forget(self) -> None:
        for name in self._new_spans:
            if self.spans[name].ended_seq is not None:
                del self.spans[name]

    def times(self, line: Line) -> int:
        """Return how often the edge of a line was taken."""
        return self.taken.get(edge_of(line), 0)

    def mark(self, node: str) -> NodeStats:
        """Return what happened at a node so far."""
        tally = self._tallies.get(node)
        return NodeStats() if tally is None else tally.mark(self.at_ms, self._inside.get(node))

    # What each operation means.

    def _take(self, op: Op, worker: str, ends: dict[str, str]) -> None:
        match op:
            case ops.PUT_TOKEN, place, node, _, _, _, state, _:
                if not self._is_join(node):  # how its branches came there was told as they arrived
                    self._arrived(place, node)
                self._begin(ops.token_name(op), node, place, _STATES[state])
            case ops.OPEN_SCOPE, place, node, *_:
                self._opened(ops.token_name(op), place, node)
            case ops.REMOVE_TOKEN, token:
                self._end(self.spans[token], ends.get(token, DROPPED))
            case ops.CLOSE_SCOPE, scope:
                self._closed(scope)
                known = self.run.scopes.get(scope)
                for branch in range(known.width if known is not None else 1):
                    self._left.pop(f"{scope}[{branch}]/", None)
            case ops.END_BRANCH, scope, branch, _, True:
                self._joined(scope, branch)
            case ops.SET_STATUS, status:
                self._over(status)
            case ops.SET_ERROR, None:
                self._revived()
            case _:
                self._changed(op, worker)

    def _changed(self, op: Op, worker: str) -> None:
        """What stays where it is and does something else now."""
        match op:
            case ops.SET_STATE, token, state, attempt, _:
                self._set(self.spans[token], _STATES[state], attempts=attempt)
            case ((ops.RECEIVE_PAYLOAD | ops.RECEIVE_ANSWER), token, _):
                self._set(self.spans[token], RUNNING)
            case ops.ADD_WAIT, signal, token:
                self._waits(token, signal=signal)
            case ops.ARM_TIMER, timer, due if timer.startswith("t:"):
                self._waits(timer[2:], due_ms=due)
            case ops.ADD_USAGE, name, amount if worker in self.spans:
                self._used(self.spans[worker], name, amount)
            case ops.RENAME_NODES, tokens, scopes, _:
                self._renamed({**dict(tokens), **dict(scopes)})

    def _opened(self, name: str, place: str, node: str) -> None:
        """A frame or a fan-out: the fan-out's token, and that of a frame that is begun anew, becomes what it opens."""
        known = self.spans.get(name)
        if known is None:
            self._arrived(place, node)
            self._begin(name, node, place, RUNNING, opens=True)
            return
        known.ended_seq = known.ended_ms = None
        known.since_ms, known.status, known.opens = self.at_ms, RUNNING, True
        self._count(known, 1)

    def _closed(self, name: str) -> None:
        """A frame ends as the node did that was left last in it, a fan-out as its join did."""
        span = self.spans[name]
        if self._is_frame(span.node):
            left, status, seq = self._left.get(f"{name}[0]/", ("", DROPPED, self._seq))
            status = status if seq == self._seq else DROPPED
            handled = status == FAILED and self._error_of(left) == END
            if status == DONE or handled:
                self._go(left, inner_point(span.node, END), failed=handled)
                status = DONE
            self._end(span, FAILED if span.node in self._failed else status)
            return
        joined, status, seq = self._left.get(span.place, ("", DROPPED, self._seq))
        if seq == self._seq and joined == self._join_of(span.node):
            self._end(span, status)
            self._left[span.place] = (joined, status, seq)
        else:
            inside = [left for left in self._left_inside(name) if left == FAILED]
            self._end(span, FAILED if inside else DROPPED)

    def _left_inside(self, scope: str) -> list[str]:
        prefix = f"{scope}["
        return [self.spans[name].status for name in self._new_spans if name.startswith(prefix)]

    def _joined(self, scope: str, branch: int) -> None:
        node = self.spans[scope].node
        left, status, _ = self._left.get(f"{scope}[{branch}]/", (node, DONE, 0))
        self._go(left, self._join_of(node), failed=status == FAILED)

    def _over(self, status: str) -> None:
        if status == COMPLETED:
            left, how, _ = self._left.get("", (BEGIN, DONE, 0))
            self._go(left, END, failed=how == FAILED)
        elif status == FAILED_RUN:
            for token in self.run.tokens.values():
                if self.spans[token.name].status == RUNNING:
                    self._set(self.spans[token.name], STOPPED)
        elif status == CANCELLED:
            for span in [span for span in self.spans.values() if span.ended_seq is None]:
                self._end(span, DROPPED)

    def _revived(self) -> None:
        """What was stopped as the run failed elsewhere runs again; what failed is told of by operations of its own."""
        for token in self.run.tokens.values():
            if token.state == RUN and self.spans[token.name].status == STOPPED:
                self._set(self.spans[token.name], RUNNING)

    def _waits(self, name: str, *, signal: str = "", due_ms: int | None = None) -> None:
        span = self.spans.get(name)
        if span is not None:
            span.signal, span.due_ms = signal or span.signal, due_ms or span.due_ms
            self._touch(span)

    def _arrived(self, place: str, node: str) -> None:
        """A token comes to a node: from where it was last in its place, or from what opened the place."""
        known = self._left.get(place)
        if known is not None:
            self._go(known[0], node, failed=known[1] == FAILED)
        elif not place:
            self._go(BEGIN, node, failed=False)
        else:
            opener = self.spans[place[: place.rindex("[")]].node
            self._go(inner_point(opener, BEGIN) if self._is_frame(opener) else opener, node, failed=False)

    def _go(self, source: str, target: str, *, failed: bool) -> None:
        by = "error" if failed else self._routes.get(source, "")
        for edge in self._through(source, target, by):
            self.taken[edge] = self.taken.get(edge, 0) + 1
            self._new_edges.append(edge)

    def _through(self, source: str, target: str, by: str) -> list[Edge]:
        """Return the edges between two nodes: one, but where frames that hold nothing were passed by."""
        for first in (source, self._join_of(source)):  # the error edge of a fan-out may be declared at its join
            ways: list[list[Edge]] = [[(first, step, by)] for step in self._out.get((first, by), ())]
            for way in ways:
                _, reached, _ = way[-1]
                if reached == target:
                    return way
                if reached in self._hollow and all(reached != edge[0] for edge in way):
                    ways += [[*way, (reached, step, "")] for step in self._out.get((reached, ""), ())]
        return [(source, target, by)]

    # Keeping visits and sums.

    def _begin(self, name: str, node: str, place: str, status: str, *, opens: bool = False) -> None:
        span = self.spans[name] = Visit(
            name=name,
            node=node,
            place=place,
            begun_seq=self._seq,
            begun_ms=self.at_ms,
            since_ms=self.at_ms,
            status=status,
            opens=opens,
        )
        tally = self._tallies.setdefault(node, Counter())
        tally.visits += 1
        tally.attempts += 1
        self._count(span, 1)

    def _set(self, span: Visit, status: str, *, attempts: int | None = None) -> None:
        self._count(span, -1)
        self._rest(span)
        tally = self._tallies[span.node]
        if attempts is not None:
            tally.attempts += attempts - span.attempts
            span.attempts = attempts
        span.status, span.since_ms = status, self.at_ms
        if status == RUNNING:
            span.signal, span.due_ms = "", None
        self._count(span, 1)

    def _end(self, span: Visit, status: str) -> None:
        if span.ended_seq is not None:
            return
        self._count(span, -1)
        self._rest(span)
        span.status, span.ended_seq, span.ended_ms = status, self._seq, self.at_ms
        span.signal, span.due_ms = "", None
        self._tallies[span.node].ended(status)
        self._left[span.place] = (span.node, status, self._seq)

    def _rest(self, span: Visit) -> None:
        """Add the time that a visit spent as it is now, before it changes."""
        spent = self.at_ms - span.since_ms
        if span.status == RUNNING:
            span.busy_ms += spent
            self._tallies[span.node].busy(spent)
        elif span.status == WAITING:
            self._tallies[span.node].waited_ms += spent

    def _count(self, span: Visit, by: int) -> None:
        """Count a visit in or out of its node's sum, and of those of the frames and fan-outs that it stands in."""
        tally = self._tallies[span.node]
        (tally.add if by > 0 else tally.remove)(span)
        self._touch(span)
        if span.opens:
            return
        place = span.place
        while place:
            opener = self.spans[place[: place.rindex("[")]]
            states = self._inside.setdefault(opener.node, {})
            states[span.status] = states.get(span.status, 0) + by
            self._new_nodes[opener.node] = None
            place = opener.place

    def _renamed(self, nodes: dict[str, str]) -> None:
        """Visits go over to nodes of other names; what stands inside of one is counted by its new name too."""
        moved = [self.spans[name] for name in dict.fromkeys((*self.run.tokens, *self.run.scopes, *nodes))]
        for span in moved:
            self._count(span, -1)
        for span in moved:
            if span.name in nodes:
                self._tallies[span.node].give(span, self._tallies.setdefault(nodes[span.name], Counter()))
                self._touch(span)
                span.node = nodes[span.name]
        for span in moved:
            self._count(span, 1)

    def _used(self, span: Visit, what: str, amount: int) -> None:
        """Count what a node used, for it and for all that it stands in."""
        while True:
            usage = self._tallies[span.node].usage
            span.usage[what] = span.usage.get(what, 0) + amount
            usage[what] = usage.get(what, 0) + amount
            self._touch(span)
            if not span.place:
                return
            span = self.spans[span.place[: span.place.rindex("[")]]

    def _restart(self, *, anew: bool = False) -> None:
        for name in (*self.run.tokens, *(self.run.scopes if anew else ())):
            span = self.spans[name]
            if span.status == RUNNING or anew:
                self._count(span, -1)
                span.since_ms = self.at_ms
                span.begun_ms = self.at_ms if anew else span.begun_ms
                self._count(span, 1)

    def _touch(self, span: Visit) -> None:
        self._new_spans[span.name] = None
        self._new_nodes[span.node] = None

    def _is_frame(self, node: str) -> bool:
        shape = self.shape.nodes.get(node)
        return shape is not None and shape.kind == FRAME

    def _is_join(self, node: str) -> bool:
        shape = self.shape.nodes.get(node)
        return shape is not None and shape.kind == JOIN

    def _error_of(self, node: str) -> str | None:
        """Return where the error edge of a node leads; that of a fan-out may be declared at its join."""
        shape = self.shape.nodes.get(node)
        if shape is None or shape.error is not None or shape.join is None:
            return None if shape is None else shape.error
        return self._error_of(shape.join)

    def _join_of(self, node: str) -> str:
        shape = self.shape.nodes.get(node)
        return (shape.join or "") if shape is not None else ""


def _ends(step: Step) -> tuple[dict[str, str], set[str]]:
    """Return how the tokens end that a step tells of, and the nodes that it tells an error of."""
    found: dict[str, str] = {}
    failed: set[str] = set()
    for kind, node, token, _, _ in step.patch.events:
        if kind == "error":
            found[token] = FAILED
            failed.add(node)
        elif kind in ("node_finished", "signal", "timer"):
            found.setdefault(token, DONE)
    if step.trigger == "NodeFailed":  # of a failed tool no error is told: its call has it as its result
        found[step.token] = FAILED
    return found, failed
