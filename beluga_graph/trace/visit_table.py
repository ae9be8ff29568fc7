"""The table of a run's visits, with the statistics of the nodes that they belong to."""

from __future__ import annotations

from collections.abc import Iterable

from beluga_graph.kernel.structural_names import split_branch_place
from beluga_graph.trace.visits import RUNNING, WAITING, Counter, NodeStats, Visit

__all__ = ["VisitTable", "find_opener"]


def find_opener(place: str) -> str:
    """Return the name of the visit that opened a place; the place must not be `""`, that of the run itself."""
    return split_branch_place(place)[0]


class VisitTable:
    """Visits by structural name, the counters of their nodes, and the changes that the current step made to both."""

    def __init__(self, seq: int, at_ms: int) -> None:
        self.seq = seq
        self.at_ms = at_ms
        self.visits: dict[str, Visit] = {}
        """In the order in which they began."""
        self.changed_visits: dict[str, None] = {}
        """Names of the visits that began or changed in the current step."""
        self.changed_nodes: dict[str, None] = {}
        """Nodes whose statistics changed in the current step."""
        self._counters: dict[str, Counter] = {}
        self._inside: dict[str, dict[str, int]] = {}  # by frame or fan-out: its inner visits that are open, by status

    def begin_step(self, seq: int, at_ms: int) -> None:
        """Move on to the next step."""
        self.seq, self.at_ms = seq, at_ms
        self.changed_visits, self.changed_nodes = {}, {}

    def begin(self, name: str, node: str, place: str, status: str, *, opens: bool = False) -> None:
        """Add a visit that begins in the current step."""
        visit = self.visits[name] = Visit(
            name=name,
            node=node,
            place=place,
            begun_seq=self.seq,
            begun_ms=self.at_ms,
            since_ms=self.at_ms,
            status=status,
            opens=opens,
        )
        counter = self._counters.setdefault(node, Counter())
        counter.visits += 1
        counter.attempts += 1
        self._count(visit, 1)

    def open(self, visit: Visit) -> None:
        """Note that a visit opens a frame or fan-out; a frame that is restarted has ended before."""
        visit.ended_seq = visit.ended_ms = None
        visit.since_ms, visit.status, visit.opens = self.at_ms, RUNNING, True
        self._count(visit, 1)

    def set_status(self, visit: Visit, status: str, *, attempts: int | None = None) -> None:
        """Change the status of a visit that goes on, and its number of attempts if one is given."""
        self._count(visit, -1)
        self._add_time(visit)
        counter = self._counters[visit.node]
        if attempts is not None:
            counter.attempts += attempts - visit.attempts
            visit.attempts = attempts
        visit.status, visit.since_ms = status, self.at_ms
        if status == RUNNING:
            visit.signal, visit.due_ms = "", None
        self._count(visit, 1)

    def set_wait(self, visit: Visit, *, signal: str = "", due_ms: int | None = None) -> None:
        """Set the signal or the time that a visit waits for; the other one stays as it is."""
        visit.signal, visit.due_ms = signal or visit.signal, due_ms or visit.due_ms
        self._touch(visit)

    def end(self, visit: Visit, status: str) -> None:
        """End a visit."""
        self._count(visit, -1)
        self._add_time(visit)
        visit.status, visit.ended_seq, visit.ended_ms = status, self.seq, self.at_ms
        visit.signal, visit.due_ms = "", None
        self._counters[visit.node].record_end(status)

    def restart_clock(self, visit: Visit, *, reset_begin: bool) -> None:
        """Let the current status of a visit begin now; with `reset_begin` the visit itself, too."""
        self._count(visit, -1)
        visit.since_ms = self.at_ms
        visit.begun_ms = self.at_ms if reset_begin else visit.begun_ms
        self._count(visit, 1)

    def add_usage(self, visit: Visit, name: str, amount: int) -> None:
        """Add to the usage of a visit and of all visits that it is nested in."""
        while True:
            usage = self._counters[visit.node].usage
            visit.usage[name] = visit.usage.get(name, 0) + amount
            usage[name] = usage.get(name, 0) + amount
            self._touch(visit)
            if not visit.place:
                return
            visit = self.visits[find_opener(visit.place)]

    def rename_nodes(self, open_visits: Iterable[str], nodes: dict[str, str]) -> None:
        """Move visits to other nodes, given by name of the visit, and recount all open visits."""
        moved = [self.visits[name] for name in dict.fromkeys((*open_visits, *nodes))]
        for visit in moved:
            self._count(visit, -1)
        for visit in moved:
            if visit.name in nodes:
                target = nodes[visit.name]
                self._counters[visit.node].transfer(visit, self._counters.setdefault(target, Counter()))
                self._touch(visit)
                visit.node = target
        for visit in moved:
            self._count(visit, 1)

    def drop_ended(self) -> None:
        """Forget the visits that ended in the current step."""
        for name in self.changed_visits:
            if self.visits[name].ended_seq is not None:
                del self.visits[name]

    def summarize(self, node: str) -> NodeStats:
        """Return the statistics of a node."""
        counter = self._counters.get(node)
        return NodeStats() if counter is None else counter.summarize(self.at_ms, self._inside.get(node))

    def _add_time(self, visit: Visit) -> None:
        """Add the time that a visit spent in its current status."""
        spent = self.at_ms - visit.since_ms
        if visit.status == RUNNING:
            visit.busy_ms += spent
            self._counters[visit.node].add_busy(spent)
        elif visit.status == WAITING:
            self._counters[visit.node].waited_ms += spent

    def _count(self, visit: Visit, change: int) -> None:
        """Add a visit to the counter of its node, or remove it; the same for all frames and fan-outs around it."""
        counter = self._counters[visit.node]
        (counter.add if change > 0 else counter.remove)(visit)
        self._touch(visit)
        if visit.opens:
            return
        place = visit.place
        while place:
            opener = self.visits[find_opener(place)]
            statuses = self._inside.setdefault(opener.node, {})
            statuses[visit.status] = statuses.get(visit.status, 0) + change
            self.changed_nodes[opener.node] = None
            place = opener.place

    def _touch(self, visit: Visit) -> None:
        self.changed_visits[visit.name] = None
        self.changed_nodes[visit.node] = None
