"""The trace of a run: a fold over its committed steps that needs none of the user's code."""

from __future__ import annotations

from dataclasses import dataclass

from beluga_graph.kernel import ops
from beluga_graph.kernel.shape import END, Shape
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, Snapshot
from beluga_graph.kernel.snapshot import FAILED as FAILED_RUN
from beluga_graph.kernel.structural_names import TOKEN_TIMER, branch_place, is_inside, split_timer
from beluga_graph.kernel.tokens import AT_TIMER, AT_WAIT, FAILED_TOKEN, RETRY, RUN
from beluga_graph.kernel.types import Op
from beluga_graph.trace.edges import (
    BEGIN,
    Edge,
    EdgeCounts,
    find_error_target,
    find_join,
    is_frame,
    is_join,
    name_point,
)
from beluga_graph.trace.steps import CommittedStep, Interruption, find_interruption, find_outcomes, find_routes
from beluga_graph.trace.visit_table import VisitTable, find_opener
from beluga_graph.trace.visits import DONE, DROPPED, FAILED, RETRYING, RUNNING, STOPPED, WAITING, NodeStats, Visit

__all__ = ["Trace", "TraceChange"]

_STATUSES = {RUN: RUNNING, RETRY: RETRYING, AT_WAIT: WAITING, AT_TIMER: WAITING, FAILED_TOKEN: STOPPED}


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceChange:
    """The changes that one step made to a trace."""

    nodes: tuple[str, ...]
    """Nodes whose statistics changed."""
    visits: tuple[str, ...]
    """Structural names of the visits that began or changed."""
    edges: tuple[Edge, ...]
    """Edges that were taken, in order."""


class Trace:
    """The visits of a run so far, the statistics of its nodes, and how often each edge was taken.

    Starts from the snapshot before the run's first step; `apply` takes the steps in order. With `keep=False` a visit
    is forgotten once it has ended, so that memory does not grow with the length of the run.

    Attributes:
        shape: The shape of the run's graph.
        run: The snapshot after the last step that was applied.
        visits: The visits that are kept, by structural name, in the order in which they began.
        edge_counts: How often each edge was taken. Edges that were never taken are missing.
    """

    def __init__(self, shape: Shape, begun: Snapshot, *, keep: bool = True) -> None:
        self.shape = shape
        self.run = begun
        self._keep = keep
        self._table = VisitTable(begun.seq, begun.started_ms)
        self._edges = EdgeCounts(shape)
        self.visits: dict[str, Visit] = self._table.visits
        self.edge_counts: dict[Edge, int] = self._edges.counts
        self._left: dict[str, tuple[str, str, int]] = {}  # by place: the node left last, its status, the step
        self._failed: set[str] = set()  # nodes that report an error in this step
        self._interrupted: Interruption | None = None  # of this step
        self._routes: dict[str, str] = {}  # by node that finishes in this step: the condition of the route it chose
        for name, scope in begun.scopes.items():  # a fork starts with open scopes and tokens
            self._table.begin(name, scope.node, scope.place, RUNNING, opens=True)
        for token in begun.tokens.values():
            self._table.begin(token.name, token.node, token.place, _STATUSES[token.state])

    @property
    def at_ms(self) -> int:
        """Clock time of the last step that was applied."""
        return self._table.at_ms

    def summarize(self, node: str) -> NodeStats:
        """Return the statistics of a node so far."""
        return self._table.summarize(node)

    def apply(self, step: CommittedStep) -> TraceChange:
        """Apply the next step, and return what it changed. The cost grows with the size of the step only."""
        table, edges = self._table, self._edges
        table.begin_step(step.seq, step.at_ms)
        edges.new = []
        outcomes, self._failed = find_outcomes(step)
        self._routes = find_routes(step)
        self._interrupted = find_interruption(step, self.shape, self.run)
        if self._interrupted is not None:
            outcomes.pop(self._interrupted.name, None)  # it is dropped
            self._routes[self._interrupted.source] = self._interrupted.condition
        if step.trigger == "RunForked" and step.seq == 1:
            # In a fork, visits begin at the fork, not when they began in its source.
            self._restart_clocks(all_visits=True)
        for op in step.patch.ops:
            self._apply_op(op, step.token, outcomes)
        if step.trigger in ("RunTakenOver", "RunForked"):  # attempts that another owner had begun start over
            self._restart_clocks(all_visits=False)
        self.run.apply(step.patch)
        for visit in [self.visits[name] for name in table.changed_visits]:
            if visit.status == STOPPED and (outcomes.get(visit.name) == FAILED or visit.node in self._failed):
                table.set_status(visit, FAILED)  # it failed the run; its token is kept for a resume
        change = TraceChange(
            nodes=tuple(table.changed_nodes), visits=tuple(table.changed_visits), edges=tuple(edges.new)
        )
        if not self._keep:
            table.drop_ended()
        return change

    # Operations.

    def _apply_op(self, op: Op, worker: str, outcomes: dict[str, str]) -> None:
        match op:
            case ops.PUT_TOKEN, place, node, _, _, _, state, _:
                if not is_join(self.shape, node):  # the edges to a join were counted as its branches arrived
                    self._count_arrival(place, node)
                self._table.begin(ops.token_name(op), node, place, _STATUSES[state])
            case ops.OPEN_SCOPE, place, node, *_:
                self._open(ops.token_name(op), place, node)
            case ops.REMOVE_TOKEN, token:
                self._end(self.visits[token], outcomes.get(token, DROPPED))
            case ops.CLOSE_SCOPE, scope:
                self._close(scope)
                known = self.run.scopes.get(scope)
                for branch in range(known.width if known is not None else 1):
                    self._left.pop(branch_place(scope, branch), None)
            case ops.END_BRANCH, scope, branch, _, True:
                self._arrive_at_join(scope, branch)
            case ops.SET_STATUS, status:
                self._set_run_status(status)
            case ops.SET_ERROR, None:
                self._resume_stopped()
            case _:
                self._apply_update(op, worker)

    def _apply_update(self, op: Op, worker: str) -> None:
        """Apply an operation that changes a visit without moving its token."""
        table, visits = self._table, self.visits
        match op:
            case ops.SET_STATE, token, state, attempt, _:
                table.set_status(visits[token], _STATUSES[state], attempts=attempt)
            case ((ops.RECEIVE_PAYLOAD | ops.RECEIVE_ANSWER), token, _):
                table.set_status(visits[token], RUNNING)
            case ops.ADD_WAIT, signal, token if token in visits:
                table.set_wait(visits[token], signal=signal)
            case ops.ARM_TIMER, timer, due_ms:
                kind, owner = split_timer(timer)
                if kind == TOKEN_TIMER and owner in visits:
                    table.set_wait(visits[owner], due_ms=due_ms)
            case ops.ADD_USAGE, name, amount if worker in visits:
                table.add_usage(visits[worker], name, amount)
            case ops.RENAME_NODES, tokens, scopes, _:
                table.rename_nodes((*self.run.tokens, *self.run.scopes), {**dict(tokens), **dict(scopes)})

    def _open(self, name: str, place: str, node: str) -> None:
        """Open a frame or fan-out. The visit exists already if a fan-out's token or a restarted frame's opens it."""
        known = self.visits.get(name)
        if known is not None:
            self._table.open(known)
            return
        self._count_arrival(place, node)
        self._table.begin(name, node, place, RUNNING, opens=True)

    def _close(self, name: str) -> None:
        """End the visit of a frame or fan-out: a frame as its last node ended, a fan-out as its join did."""
        visit = self.visits[name]
        seq = self._table.seq
        if is_frame(self.shape, visit.node):
            left, status, left_seq = self._left.get(branch_place(name, 0), ("", DROPPED, seq))
            status = status if left_seq == seq else DROPPED
            is_handled = status == FAILED and find_error_target(self.shape, left) == END
            if status == DONE or is_handled:
                self._count_edge(left, name_point(visit.node, END), failed=is_handled)
                status = DONE
            self._end(visit, FAILED if visit.node in self._failed else status)
            return
        left, status, left_seq = self._left.get(visit.place, ("", DROPPED, seq))
        if left_seq == seq and left == find_join(self.shape, visit.node):
            self._end(visit, status)
            self._left[visit.place] = (left, status, left_seq)
        else:
            inner = (changed for changed in self._table.changed_visits if is_inside(changed, name))
            has_failed = any(self.visits[changed].status == FAILED for changed in inner)
            self._end(visit, FAILED if has_failed else DROPPED)

    def _end(self, visit: Visit, status: str) -> None:
        if visit.ended_seq is None:
            self._table.end(visit, status)
            left = (visit.node, status)
            interrupted = self._interrupted
            if interrupted is not None and interrupted.name in (visit.name, visit.place):
                left = (interrupted.source, DONE)  # control goes on from there, though what it did is dropped
            self._left[visit.place] = (*left, self._table.seq)

    def _set_run_status(self, status: str) -> None:
        if status == COMPLETED:
            left, left_status, _ = self._left.get("", (BEGIN, DONE, 0))
            self._count_edge(left, END, failed=left_status == FAILED)
        elif status == FAILED_RUN:
            for token in self.run.tokens.values():
                if self.visits[token.name].status == RUNNING:
                    self._table.set_status(self.visits[token.name], STOPPED)
        elif status == CANCELLED:
            for visit in [visit for visit in self.visits.values() if visit.ended_seq is None]:
                self._end(visit, DROPPED)

    def _resume_stopped(self) -> None:
        """Mark nodes stopped by another node's failure as running again. Failed nodes have operations of their own."""
        for token in self.run.tokens.values():
            if token.state == RUN and self.visits[token.name].status == STOPPED:
                self._table.set_status(self.visits[token.name], RUNNING)

    def _restart_clocks(self, *, all_visits: bool) -> None:
        """Let the running visits of tokens, or all open visits, begin now."""
        for name in (*self.run.tokens, *(self.run.scopes if all_visits else ())):
            visit = self.visits[name]
            if visit.status == RUNNING or all_visits:
                self._table.restart_clock(visit, reset_begin=all_visits)

    # Edges.

    def _count_arrival(self, place: str, node: str) -> None:
        """Count the edge by which a token comes to a node: from the last node of its place, or from its opener."""
        known = self._left.get(place)
        if known is not None:
            self._count_edge(known[0], node, failed=known[1] == FAILED)
        elif not place:
            self._count_edge(BEGIN, node, failed=False)
        else:
            opener = self.visits[find_opener(place)].node
            source = name_point(opener, BEGIN) if is_frame(self.shape, opener) else opener
            self._count_edge(source, node, failed=False)

    def _arrive_at_join(self, scope: str, branch: int) -> None:
        node = self.visits[scope].node
        left, status, _ = self._left.get(branch_place(scope, branch), (node, DONE, 0))
        self._count_edge(left, find_join(self.shape, node), failed=status == FAILED)

    def _count_edge(self, source: str, target: str, *, failed: bool) -> None:
        self._edges.count(source, target, "error" if failed else self._routes.get(source, ""))
