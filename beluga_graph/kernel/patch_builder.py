"""The patch under construction: movements of tokens through a shape, as primitive changes.

A draft reads the snapshot as it was before the trigger and collects operations; it changes nothing. In one
patch each place is entered at most once, so the snapshot's own counters are never out of date for it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from beluga_graph.kernel.renames import made_from
from beluga_graph.kernel.rules import RUN_TIMER, cannot_reach, delay_ms, limit, scope_timer, signal_of, token_timer
from beluga_graph.kernel.shape import END, FRAME, JOIN, TIMER, TOOL, WAIT, NodeShape, Shape
from beluga_graph.kernel.snapshot import (
    BROKEN,
    COMPLETED,
    FAILED,
    RETRY,
    RUN,
    RUNNING,
    SLEEP,
    WAITING,
    Snapshot,
    Token,
)
from beluga_graph.kernel.snapshot import WAIT as WAITS
from beluga_graph.kernel.types import EventFields, FailureFields, Op, Patch, Value

__all__ = ["PatchBuilder"]


class _Handler(NamedTuple):
    """Who deals with a failure: an error edge's target at a place, a scope that tolerates it, or a new try."""

    kind: str  # edge | tolerate | again
    place: str  # edge: where the target is entered; tolerate: the branch; again: where the frame stands
    target: str
    failure: FailureFields


class PatchBuilder:
    """Collects what one trigger changes."""

    __slots__ = ("active", "at", "disarmed", "events", "gone", "ops", "run", "shape", "status", "values")

    def __init__(self, shape: Shape, run: Snapshot, at: int) -> None:
        self.shape = shape
        self.run = run
        self.at = at
        self.values: list[Value] = []
        self.ops: list[Op] = []
        self.events: list[EventFields] = []
        self.gone: set[str] = set()  # tokens and scopes that this patch has dropped already
        self.disarmed: set[str] = set()  # timers likewise
        self.active = run.active
        self.status: str | None = None  # set once the run has ended, failed, or goes on after a failure

    def patch(self) -> Patch:
        """Return what was collected, with the run's new status."""
        status = self.status
        if status is None or status == RUNNING:
            status = RUNNING if self.active else WAITING
        if status != self.run.status:
            self.ops.append(("status", status))
        return Patch(tuple(self.values), tuple(self.ops), tuple(self.events))

    def value(self, value: Value) -> int:
        """Add a value and return its index."""
        self.values.append(value)
        return len(self.values) - 1

    def event(self, kind: str, node: str, token: str, index: int | None = None, **more: Any) -> None:
        """Add a stored event."""
        self.events.append((kind, node, token, more or None, index))

    # Moving on.

    def leave(self, place: str, node: NodeShape, route: Any, index: int) -> None:
        """Follow the out-edge of `node` from `place` with a value."""
        target = node.out(route)
        assert target is not None, f"{node.name!r} has no way out for {route!r}"
        self.enter(place, target, index)

    def enter(self, place: str, target: str, index: int) -> None:
        """Stand at `target` with a value: opens and closes frames on the way, arrives at joins."""
        nodes, run = self.shape.nodes, self.run
        while True:
            if target == END:
                scope_name = run.places[place].scope
                if scope_name is None:
                    return self._complete(index)
                opener = nodes[run.scopes[scope_name].node]
                self.close(scope_name)
                place = run.scopes[scope_name].place
                assert opener.target is not None  # a branch after a frame has a node of its own
                target = opener.target
                continue
            node = nodes[target]
            if node.kind == FRAME and self._is_hollow(node):
                assert node.target is not None
                target = node.target
                continue
            if node.kind == JOIN:
                return self._arrive(place, index, succeeded=True)
            visit = self._visit(place, node, index)
            if visit is None:
                return None
            if node.kind != FRAME:
                return self._put(place, node, visit, index)
            place, target = self.open_frame(place, node, (node.local, visit), index, tried=1)

    def open_frame(
        self, place: str, node: NodeShape, made: tuple[str, int], index: int, *, tried: int
    ) -> tuple[str, str]:
        """Open a frame, named by a local name and a visit; return the place inside and the node where it begins."""
        local, visit = made
        scope = f"{place}{local}#{visit}"
        self.ops.append(("open", place, node.name, local, visit, True, 1, index, tried, ()))
        self.ops.append(("branch", scope, 0))
        if node.timeout_ms is not None:
            self.ops.append(("timer", scope_timer(scope), self.at + node.timeout_ms))
        assert node.entry is not None
        return f"{scope}[0]/", node.entry

    def _is_hollow(self, frame: NodeShape) -> bool:
        """Tell whether a frame holds no node to stand at, but for frames like it: a token passes by."""
        target = frame.entry
        while target is not None and target != END:
            node = self.shape.nodes[target]
            if node.kind != FRAME or not self._is_hollow(node):
                return False
            target = node.target
        return True

    def _visit(self, place: str, node: NodeShape, index: int) -> int | None:
        """Count a visit; past the limit, fail and return `None`."""
        visit = self._count(place, node)
        allowed = limit(self.shape, self.run, "max_visits")
        if visit <= allowed:
            return visit
        message = f"node {node.name!r} was visited {allowed} times in one scope: raise max_visits or mend the loop"
        failure: FailureFields = (node.name, "LimitReached", message, 0, self.values[index])
        # The node's own error edge could lead straight back here, so only what encloses it may handle this.
        self.fail(place, node, failure, own=False)
        if self.status == FAILED:
            self.ops.append(("token", place, node.name, node.local, visit, index, BROKEN, 1))
        return None

    def _count(self, place: str, node: NodeShape) -> int:
        known = self.run.places.get(place)
        return known.visits.get(node.local, 0) + 1 if known is not None else 1

    def _put(self, place: str, node: NodeShape, visit: int, index: int) -> None:
        name = f"{place}{node.local}#{visit}"
        if node.kind == WAIT:
            self.ops.append(("token", place, node.name, node.local, visit, index, WAITS, 1))
            self.ops.append(("wait", signal_of(node, name), name))
            if node.asks:
                self.event("waiting", node.name, name, index, name="approval")
            else:
                self.event("waiting", node.name, name, name=node.signal)
            if node.timeout_ms is not None:
                self.ops.append(("timer", token_timer(name), self.at + node.timeout_ms))
        elif node.kind == TIMER:
            self.ops.append(("token", place, node.name, node.local, visit, index, SLEEP, 1))
            self.ops.append(("timer", token_timer(name), self.at + node.delay_ms))
            self.event("waiting", node.name, name, due=self.at + node.delay_ms)
        else:
            self.ops.append(("token", place, node.name, node.local, visit, index, RUN, 1))
            self.active += 1

    def _complete(self, index: int) -> None:
        self.untimer(RUN_TIMER)
        self.ops.append(("output", index))
        self.status = COMPLETED
        self.event("done", "", "", index)

    # Scopes.

    def open_fan_out(self, token: Token, node: NodeShape, branches: tuple[tuple[int, int], ...]) -> None:
        """Turn the fan-out's token into a scope with these branches, each a target's and a value's index."""
        scope, width = token.name, len(branches)
        join = self.shape.nodes[node.join or ""]
        self.drop(token)
        local, visit = made_from(scope, token.place)  # not the node's: the scope has the name of the token
        free = width if node.max_concurrency is None else min(width, node.max_concurrency)
        queued = tuple((i, branches[i][0], branches[i][1]) for i in range(free, width))
        whole = self.value(token.value)
        self.ops.append(("open", token.place, node.name, local, visit, False, width, whole, 1, queued))
        if join.timeout_ms is not None and width:
            self.ops.append(("timer", scope_timer(scope), self.at + join.timeout_ms))
        if not width:
            return self._put_join(token.place, join)
        for branch, (target, index) in enumerate(branches[:free]):
            self._begin(scope, branch, node.branches[target], index)
        return None

    def _begin(self, scope: str, branch: int, target: str, index: int) -> None:
        self.ops.append(("branch", scope, branch))
        self.enter(f"{scope}[{branch}]/", target, index)

    def _arrive(self, place: str, index: int, *, succeeded: bool) -> None:
        """End the branch at `place`; fire its join, or begin a queued branch in its stead."""
        known = self.run.places[place]
        assert known.scope is not None
        name, scope = known.scope, self.run.scopes[known.scope]
        self.ops.append(("arrive", name, known.branch, index, succeeded))
        opener = self.shape.nodes[scope.node]
        join = self.shape.nodes[opener.join or ""]
        arrived, ended = len(scope.results) + succeeded, len(scope.results) + len(scope.failures) + 1
        if arrived >= (join.wait or scope.width) or ended == scope.width:
            return self.fire(name, arrived=known.branch)
        if scope.queue:
            branch = next(iter(scope.queue))
            target, value = scope.queue[branch]
            self._begin(name, branch, opener.branches[target], self.value(value))
        return None

    def fire(self, name: str, *, arrived: int | None = None) -> None:
        """Let the join of a scope run with what has arrived; drop the branches that still run."""
        scope = self.run.scopes[name]
        ended = scope.results.keys() | scope.failures.keys() | scope.queue.keys()
        for branch in range(scope.width):
            if branch not in ended and branch != arrived:
                self.clear(f"{name}[{branch}]/")
        if scope.queue:
            self.ops.append(("unqueue", name))
        self.untimer(scope_timer(name))
        join = self.shape.nodes[self.shape.nodes[scope.node].join or ""]
        self._put_join(scope.place, join)

    def _put_join(self, place: str, join: NodeShape) -> None:
        self._put(place, join, self._count(place, join), self.value(b""))

    def close(self, name: str) -> None:
        """Forget a scope whose branches have all ended."""
        if name in self.gone:
            return
        self.gone.add(name)
        self.untimer(scope_timer(name))
        self.ops.append(("close", name))

    def drop(self, token: Token) -> None:
        """Remove a token with its timer and its place in a wait's queue."""
        if token.name in self.gone:
            return
        self.gone.add(token.name)
        if token.state == RUN:
            self.active -= 1
        elif token.state == WAITS:
            self.ops.append(("unwait", signal_of(self.shape.nodes[token.node], token.name), token.name))
        self.untimer(token_timer(token.name))
        self.ops.append(("drop", token.name))

    def clear(self, place: str) -> None:
        """Drop all that is at a place: its token, and its open scope with all that is in it."""
        known = self.run.places.get(place)
        if known is None:  # a branch that was dropped before, or never begun
            return
        if known.token is not None:
            self.drop(self.run.tokens[known.token])
        if known.opened is not None and known.opened not in self.gone:
            for branch in range(self.run.scopes[known.opened].width):
                self.clear(f"{known.opened}[{branch}]/")
            self.close(known.opened)

    def untimer(self, timer: str) -> None:
        """Disarm a timer, once."""
        if timer in self.run.timers and timer not in self.disarmed:
            self.disarmed.add(timer)
            self.ops.append(("untimer", timer))

    # Failing.

    def fail(
        self,
        place: str,
        node: NodeShape,
        failure: FailureFields,
        *,
        own: bool = True,
        token: Token | None = None,
        final: bool = False,
    ) -> None:
        """Hand a failure for good to its handler: the node's error edge, then each enclosing scope's.

        A `final` failure begins no frame anew.
        Without a handler nothing is dropped: the run is failed, and its tokens stay for a resume.
        """
        failure = _without_chain(failure)
        handler = self._handler(place, node, failure, own=own, final=final)
        if handler is None or TOOL not in (node.kind, node.asks):  # a tool's failure is shown as its call's result
            self.event("error", node.name, token.name if token else "", None, failure=failure[1], message=failure[2])
        if handler is None:
            return self._break(failure, token)
        if handler.kind == "again":
            return self._again(handler.place, handler.failure)
        self.clear(handler.place)
        index = self.value(handler.failure)
        if handler.kind == "edge":
            return self.enter(handler.place, handler.target, index)
        return self._arrive(handler.place, index, succeeded=False)

    def _handler(
        self, place: str, node: NodeShape, failure: FailureFields, *, own: bool, final: bool
    ) -> _Handler | None:
        run, nodes = self.run, self.shape.nodes
        if own and node.error is not None:
            return _Handler("edge", place, node.error, failure)
        while True:
            known = run.places[place]
            if known.scope is None:
                return None
            scope, opener = run.scopes[known.scope], nodes[run.scopes[known.scope].node]
            error = opener.error
            if scope.frame:
                if opener.retry is not None and scope.tried < opener.retry.attempts and not final:
                    return _Handler("again", scope.place, "", failure)
            else:
                join = nodes[opener.join or ""]
                left = scope.width - len(scope.failures) - 1
                if join.collect or (join.wait is not None and left >= join.wait):
                    return _Handler("tolerate", place, "", failure)
                if join.wait is not None:
                    failure = cannot_reach(join, f"{len(scope.failures) + 1} of {scope.width} branches failed", failure)
                error = error or join.error
            if error is not None:
                return _Handler("edge", scope.place, error, failure)
            place = scope.place

    def _again(self, place: str, failure: FailureFields) -> None:
        """Begin a failed frame anew, under a new visit, after the pause of its retry policy."""
        name = self.run.places[place].opened
        assert name is not None
        scope = self.run.scopes[name]
        node = self.shape.nodes[scope.node]
        self.clear(place)
        index = self.value(scope.value)
        visit = self._visit(place, node, index)
        if visit is None:
            return
        again = f"{place}{node.local}#{visit}"
        pause = delay_ms(node, again, scope.tried, None)
        self.ops.append(("token", place, node.name, node.local, visit, index, RETRY, scope.tried + 1))
        self.ops.append(("timer", token_timer(again), self.at + pause))
        self.event("retry", node.name, again, None, tried=scope.tried, delay_ms=pause, message=failure[2])

    def _break(self, failure: FailureFields, token: Token | None) -> None:
        if token is not None:
            self.ops.append(("state", token.name, BROKEN, token.attempt, token.tried))
            if token.state == RUN:
                self.active -= 1
            elif token.state == WAITS:
                self.ops.append(("unwait", signal_of(self.shape.nodes[token.node], token.name), token.name))
                self.untimer(token_timer(token.name))
        self.ops.append(("error", self.value(failure)))
        self.status = FAILED


def _without_chain(failure: FailureFields) -> FailureFields:
    """Cut what a failure was given if that is a failure: a loop over an error edge would nest without end."""
    given = failure[4]
    if type(given) is not tuple or given[4] is None:
        return failure
    return (*failure[:4], (*given[:4], None))
