"""The patch builder: turns movements of tokens through a shape into operations.

It reads the snapshot as it was before the trigger and collects operations; it changes nothing. One patch enters each
place at most once, so the visit counters in the snapshot are never out of date for it.
"""

from __future__ import annotations

from typing import Any

from beluga_graph.kernel.failure_handlers import FOLLOW_ERROR_EDGE, RESTART, cut_chain, find_handler
from beluga_graph.kernel.join_rule import runs_now
from beluga_graph.kernel.listeners import arrival_ops, describe_listener, find_interrupts, graph_end_ops, removal_ops
from beluga_graph.kernel.ops import (
    ADD_WAIT,
    ARM_TIMER,
    BEGIN_BRANCH,
    CLEAR_QUEUE,
    CLOSE_SCOPE,
    DISARM_TIMER,
    END_BRANCH,
    OPEN_SCOPE,
    PUT_TOKEN,
    REMOVE_TOKEN,
    REMOVE_WAIT,
    SET_ERROR,
    SET_OUTPUT,
    SET_STATE,
    SET_STATUS,
)
from beluga_graph.kernel.renames import split_token_name
from beluga_graph.kernel.rules import get_limit, retry_delay_ms, signal_of
from beluga_graph.kernel.shape import END, FRAME, JOIN, TIMER_NODE, TOOL, WAIT_NODE, NodeShape, Shape
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.structural_names import RUN_TIMER, branch_place, scope_timer, token_timer
from beluga_graph.kernel.times import find_due
from beluga_graph.kernel.tokens import (
    AT_TIMER,
    AT_WAIT,
    COMPLETED,
    FAILED,
    FAILED_TOKEN,
    RETRY,
    RUN,
    RUNNING,
    WAITING,
    Token,
)
from beluga_graph.kernel.types import DecidedTime, EventFields, FailureFields, Op, Patch, Value

__all__ = ["PatchBuilder"]

_STATE_OF = {WAIT_NODE: AT_WAIT, TIMER_NODE: AT_TIMER}  # of a token that comes to a node; at other nodes it runs


class PatchBuilder:
    """Collects the changes that one trigger makes."""

    __slots__ = (
        "active",
        "at",
        "events",
        "opened",
        "ops",
        "removed",
        "removed_timers",
        "run",
        "shape",
        "status",
        "values",
    )

    def __init__(self, shape: Shape, run: Snapshot, at: int) -> None:
        self.shape = shape
        self.run = run
        self.at = at
        self.values: list[Value] = []
        self.ops: list[Op] = []
        self.events: list[EventFields] = []
        self.opened: dict[str, NodeShape] = {}  # frames that this patch has opened, by the place inside
        self.removed: set[str] = set()  # tokens and scopes that this patch has removed already
        self.removed_timers: set[str] = set()  # timers that it has disarmed already
        self.active = run.active
        self.status: str | None = None  # set when the run ends, fails, or goes on after a failure

    def build(self) -> Patch:
        """Return the patch, with the run's new status."""
        status = self.status
        if status is None or status == RUNNING:
            status = RUNNING if self.active else WAITING
        if status != self.run.status:
            self.ops.append((SET_STATUS, status))
        return Patch(tuple(self.values), tuple(self.ops), tuple(self.events))

    def add_value(self, value: Value) -> int:
        """Add a value and return its index."""
        self.values.append(value)
        return len(self.values) - 1

    def add_event(self, kind: str, node: str, token: str, index: int | None = None, **more: Any) -> None:
        """Add a stored event."""
        self.events.append((kind, node, token, more or None, index))

    # Moving on.

    def leave(self, place: str, node: NodeShape, route: Any, index: int) -> None:
        """Follow the out-edge of `node` from `place` with a value."""
        target = node.out(route)
        assert target is not None, f"{node.name!r} has no way out for {route!r}"
        self.enter(place, target, index)

    def enter(self, place: str, target: str, index: int) -> None:
        """Go to `target` with a value: open and close frames on the way, and end the branch at a join."""
        nodes, run = self.shape.nodes, self.run
        while True:
            if target == END:
                scope_name = run.places[place].scope
                if scope_name is None:
                    return self._complete(index)
                opener = nodes[run.scopes[scope_name].node]
                self.close_scope(scope_name)
                place = run.scopes[scope_name].place
                assert opener.target is not None  # a branch after a frame has a node of its own
                target = opener.target
                continue
            node = nodes[target]
            if node.kind == FRAME and self.shape.is_empty(node):
                assert node.target is not None
                target = node.target
                continue
            if node.kind == JOIN:
                return self._end_branch(place, index, succeeded=True)
            visit = self._count_visit(place, node, index)
            if visit is None:
                return None
            if node.kind != FRAME or node.decides_time:
                return self._put_token(place, node, visit, index)
            place, target = self.open_frame(place, node, (node.local, visit), index, attempt=1)

    def open_frame(
        self,
        place: str,
        node: NodeShape,
        local_and_visit: tuple[str, int],
        index: int,
        *,
        attempt: int,
        time: DecidedTime | None = None,
    ) -> tuple[str, str]:
        """Open a frame, named by a local name and a visit; return the place inside and the frame's entry."""
        local, visit = local_and_visit
        scope = f"{place}{local}#{visit}"
        self.ops.append((OPEN_SCOPE, place, node.name, local, visit, True, 1, index, attempt, ()))
        self.ops.append((BEGIN_BRANCH, scope, 0))
        self.ops += arrival_ops(self.shape, self.run, place, node, scope, self.opened)
        self.opened[branch_place(scope, 0)] = node
        due = find_due(node, self.at, time)
        if due is not None:
            self.ops.append((ARM_TIMER, scope_timer(scope), due))
        assert node.entry is not None
        return branch_place(scope, 0), node.entry

    def _count_visit(self, place: str, node: NodeShape, index: int) -> int | None:
        """Return the number of this visit; past the limit, fail and return `None`."""
        visit = self._next_visit(place, node)
        allowed = get_limit(self.shape, self.run, "max_visits")
        if visit <= allowed:
            return visit
        message = f"node {node.name!r} was visited {allowed} times in one scope: raise max_visits or mend the loop"
        failure: FailureFields = (node.name, "LimitReached", message, 0, self.values[index])
        # The node's own error edge could come straight back here, so only a scope around the node may handle this.
        self.fail(place, node, failure, own=False)
        if self.status == FAILED:
            self._append_token(place, node, visit, index, FAILED_TOKEN)
        return None

    def _next_visit(self, place: str, node: NodeShape) -> int:
        known = self.run.places.get(place)
        return known.visits.get(node.local, 0) + 1 if known is not None else 1

    def _put_token(self, place: str, node: NodeShape, visit: int, index: int) -> None:
        name = f"{place}{node.local}#{visit}"
        state = RUN if node.decides_time or node.received else _STATE_OF.get(node.kind, RUN)
        self._append_token(place, node, visit, index, state)
        if state == RUN:
            self.active += 1
        else:
            self.begin_wait(name, node, index, find_due(node, self.at))

    def begin_wait(self, token: str, node: NodeShape, index: int, due: int | None) -> None:
        """Begin the wait of a token at a wait or a timer. `index` is that of its value, which a question shows."""
        if node.kind == TIMER_NODE:
            self.ops.append((ARM_TIMER, token_timer(token), due))
            self.add_event("waiting", node.name, token, due=due)
            return
        self.ops.append((ADD_WAIT, signal_of(node, token), token))
        if node.asks:
            self.add_event("waiting", node.name, token, index, name="approval")
        else:
            self.add_event("waiting", node.name, token, name=node.signal)
        if due is not None:
            self.ops.append((ARM_TIMER, token_timer(token), due))

    def _append_token(
        self, place: str, node: NodeShape, visit: int, index: int, state: str, attempts_since_armed: int = 1
    ) -> None:
        self.ops.append((PUT_TOKEN, place, node.name, node.local, visit, index, state, attempts_since_armed))
        self.ops += arrival_ops(self.shape, self.run, place, node, f"{place}{node.local}#{visit}", self.opened)

    def _complete(self, index: int) -> None:
        self.disarm_timer(RUN_TIMER)
        self.ops += graph_end_ops(self.run, "", self.shape.interrupts)
        self.ops.append((SET_OUTPUT, index))
        self.status = COMPLETED
        self.add_event("done", "", "", index)

    # Scopes.

    def open_fan_out(
        self,
        token: Token,
        node: NodeShape,
        branches: tuple[tuple[int, int], ...],
        time: DecidedTime | None = None,
    ) -> None:
        """Turn the fan-out's token into a scope with these branches: pairs of a target's and a value's index."""
        scope, width = token.name, len(branches)
        join = self.shape.nodes[node.join or ""]
        self.remove_token(token)
        local, visit = split_token_name(scope, token.place)  # the node may have been renamed since the token came
        free = width if node.max_concurrency is None else min(width, node.max_concurrency)
        queued = tuple((i, branches[i][0], branches[i][1]) for i in range(free, width))
        whole = self.add_value(token.value)
        self.ops.append((OPEN_SCOPE, token.place, node.name, local, visit, False, width, whole, 1, queued))
        due = find_due(join, self.at, time)
        if due is not None and width:
            self.ops.append((ARM_TIMER, scope_timer(scope), due))
        if not width:
            return self._put_join(token.place, join)
        self.ops += arrival_ops(self.shape, self.run, token.place, node, scope, self.opened)
        for branch, (target, index) in enumerate(branches[:free]):
            self._begin_branch(scope, branch, node.branches[target], index)
        return None

    def _begin_branch(self, scope: str, branch: int, target: str, index: int) -> None:
        self.ops.append((BEGIN_BRANCH, scope, branch))
        self.enter(branch_place(scope, branch), target, index)

    def _end_branch(self, place: str, index: int, *, succeeded: bool) -> None:
        """End the branch at `place`; then fire its join, or begin the next queued branch."""
        known = self.run.places[place]
        assert known.scope is not None
        name, scope = known.scope, self.run.scopes[known.scope]
        self.ops.append((END_BRANCH, name, known.branch, index, succeeded))
        opener = self.shape.nodes[scope.node]
        join = self.shape.nodes[opener.join or ""]
        if runs_now(join, scope.width, len(scope.results) + succeeded, len(scope.failures) + (not succeeded)):
            return self.fire_join(name, arrived=known.branch)
        if scope.queue:
            branch = scope.next_branch
            target, value = scope.queue[branch]
            self._begin_branch(name, branch, opener.branches[target], self.add_value(value))
        return None

    def fire_join(self, name: str, *, arrived: int | None = None) -> None:
        """Run the join of a scope with the results so far; remove the branches that still run."""
        scope = self.run.scopes[name]
        ended = scope.results.keys() | scope.failures.keys() | scope.queue.keys()
        for branch in range(scope.width):
            if branch not in ended and branch != arrived:
                self.clear_place(branch_place(name, branch))
        if scope.queue:
            self.ops.append((CLEAR_QUEUE, name))
        self.disarm_timer(scope_timer(name))
        self.ops += removal_ops(name, self.shape.nodes[scope.node].interrupts)
        join = self.shape.nodes[self.shape.nodes[scope.node].join or ""]
        self._put_join(scope.place, join)

    def _put_join(self, place: str, join: NodeShape) -> None:
        self._put_token(place, join, self._next_visit(place, join), self.add_value(b""))

    def close_scope(self, name: str) -> None:
        """Close a scope, once, with the places of its branches."""
        if name in self.removed:
            return
        self.removed.add(name)
        self.disarm_timer(scope_timer(name))
        scope = self.run.scopes[name]
        opener = self.shape.nodes[scope.node]
        if scope.frame:
            self.ops += graph_end_ops(self.run, branch_place(name, 0), opener.inner_interrupts)
        if scope.frame or self.run.places[scope.place].token is None:  # a fan-out's end when its join begins
            self.ops += removal_ops(name, opener.interrupts)
        self.ops.append((CLOSE_SCOPE, name))

    def remove_token(self, token: Token) -> None:
        """Remove a token, once, with its timer and its wait."""
        if token.name in self.removed:
            return
        self.removed.add(token.name)
        node = self.shape.nodes[token.node]
        if token.state == RUN:
            self.active -= 1
        elif token.state == AT_WAIT:
            self.ops.append((REMOVE_WAIT, signal_of(node, token.name), token.name))
        self.disarm_timer(token_timer(token.name))
        self.ops += removal_ops(token.name, node.interrupts)
        self.ops.append((REMOVE_TOKEN, token.name))

    def clear_place(self, place: str) -> None:
        """Remove everything at a place: its token, and its open scope with its branches."""
        known = self.run.places.get(place)
        if known is None:  # a branch that was removed before, or has not begun
            return
        if known.token is not None:
            self.remove_token(self.run.tokens[known.token])
        if known.opened is not None and known.opened not in self.removed:
            for branch in range(self.run.scopes[known.opened].width):
                self.clear_place(branch_place(known.opened, branch))
            self.close_scope(known.opened)

    def disarm_timer(self, timer: str) -> None:
        """Disarm a timer, once."""
        if timer in self.run.timers and timer not in self.removed_timers:
            self.removed_timers.add(timer)
            self.ops.append((DISARM_TIMER, timer))

    # Interrupting edges.

    def interrupt(self, name: str, signal: str, index: int) -> None:
        """Drop all that a listener names, and follow its interrupting edge for `signal` with a value."""
        place, edges = find_interrupts(self.shape, self.run, name)
        target = next(target for known, target, _ in edges if known == signal)
        local = "END" if target == END else target
        self.add_event("signal", *describe_listener(self.run, name), index, name=signal, target=local)
        self.clear_place(place)
        self.enter(place, target, index)

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
        """Handle a failure that is not retried: by the node's error edge, else by the scopes around it, inside out.

        A `final` failure restarts no frame. Without a handler the run fails; its tokens stay for a resume.
        """
        failure = cut_chain(failure)
        handler = find_handler(self.shape, self.run, place, node, failure, own=own, final=final)
        if handler is None or TOOL not in (node.kind, node.asks):  # a tool's failure is shown as the result of its call
            self.add_event(
                "error", node.name, token.name if token else "", None, failure=failure[1], message=failure[2]
            )
        if handler is None:
            return self._fail_run(failure, token)
        if handler.kind == RESTART:
            return self._restart_frame(handler.place, handler.failure)
        self.clear_place(handler.place)
        index = self.add_value(handler.failure)
        if handler.kind == FOLLOW_ERROR_EDGE:
            return self.enter(handler.place, handler.target, index)
        return self._end_branch(handler.place, index, succeeded=False)

    def _restart_frame(self, place: str, failure: FailureFields) -> None:
        """Begin a failed frame again, as a new visit, after the pause of its retry policy."""
        name = self.run.places[place].opened
        assert name is not None
        scope = self.run.scopes[name]
        node = self.shape.nodes[scope.node]
        self.clear_place(place)
        index = self.add_value(scope.value)
        visit = self._count_visit(place, node, index)
        if visit is None:
            return
        token = f"{place}{node.local}#{visit}"
        pause = retry_delay_ms(node, token, scope.attempt, None)
        self._append_token(place, node, visit, index, RETRY, scope.attempt + 1)
        self.ops.append((ARM_TIMER, token_timer(token), self.at + pause))
        self.add_event("retry", node.name, token, None, tried=scope.attempt, delay_ms=pause, message=failure[2])

    def _fail_run(self, failure: FailureFields, token: Token | None) -> None:
        if token is not None:
            self.ops.append((SET_STATE, token.name, FAILED_TOKEN, token.attempt, token.attempts_since_armed))
            if token.state == RUN:
                self.active -= 1
            elif token.state == AT_WAIT:
                self.ops.append((REMOVE_WAIT, signal_of(self.shape.nodes[token.node], token.name), token.name))
                self.disarm_timer(token_timer(token.name))
        self.ops.append((SET_ERROR, self.add_value(failure)))
        self.status = FAILED
