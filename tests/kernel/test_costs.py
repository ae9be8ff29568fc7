"""The cost of a branch in a wide fan-out, in counts: it does not grow with the number of branches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from counted_lines import Lines
from stepping import fan_out, function, join, shape

import beluga_graph.kernel
from beluga_graph.kernel.shape import END
from beluga_graph.kernel.snapshot import COMPLETED, Snapshot
from beluga_graph.kernel.transition import advance
from beluga_graph.kernel.triggers import NodeFinished, RunStarted, Trigger
from beluga_graph.kernel.work import diff_work

WIDTHS = (200, 2_000)
GROWTH_MAX = 1.2
AT_ONCE = 4


class CountedQueue(dict[Any, Any]):
    """A queue that counts how often it is searched from its front, past the entries that were removed before."""

    searches = 0

    def __iter__(self) -> Iterator[Any]:
        self.searches += 1
        return super().__iter__()


def spread(width: int) -> tuple[int, int]:
    """Run a fan-out of this width; return the lines that ran and the searches of its queue."""
    graph = shape(
        fan_out("f", "a", join="j", max_concurrency=AT_ONCE),
        function("a", "j"),
        join("j", END),
        limits={"max_width": width, "max_visits": width, "max_steps": 2 * width},
    )
    run = Snapshot(run_id="r", plan="f", started_ms=0, value=b"in")

    def decide(trigger: Trigger) -> None:
        patch = advance(graph, run, trigger)
        run.apply(patch)
        diff_work(graph, run, patch)

    with Lines(beluga_graph.kernel) as lines:
        decide(RunStarted(0))
        decide(NodeFinished("f#1", 1, 0, (b"item",), branches=((0, 0),) * width))
        queue = run.scopes["f#1"].queue = CountedQueue(run.scopes["f#1"].queue)
        assert len(queue) == width - AT_ONCE
        for branch in range(width):
            assert len(run.tokens) == min(AT_ONCE, width - branch)
            decide(NodeFinished(f"f#1[{branch}]/a#1", 1, 0, (b"out",)))
        decide(NodeFinished("j#1", 1, 0, (b"all",)))
    assert run.status == COMPLETED
    return lines.count, queue.searches


def test_a_branch_costs_as_much_among_two_thousand_as_among_two_hundred() -> None:
    costs = {width: spread(width)[0] / width for width in WIDTHS}
    assert costs[2_000] <= GROWTH_MAX * costs[200]


def test_a_queued_branch_begins_without_a_search_of_the_queue() -> None:
    searches = [spread(width)[1] for width in WIDTHS]
    assert searches == [0, 0]


def test_queued_branches_begin_in_order_also_after_a_snapshot() -> None:
    graph = shape(fan_out("f", "a", join="j", max_concurrency=1), function("a", "j"), join("j", END))
    run = Snapshot(run_id="r", plan="f", started_ms=0, value=b"in")
    run.apply(advance(graph, run, RunStarted(0)))
    run.apply(advance(graph, run, NodeFinished("f#1", 1, 0, (b"item",), branches=((0, 0),) * 4)))
    for branch in range(4):
        assert list(run.tokens) == [f"f#1[{branch}]/a#1"]
        assert list(run.scopes["f#1"].queue) == list(range(branch + 1, 4))
        run = Snapshot.from_plain(run.to_plain())
        run.apply(advance(graph, run, NodeFinished(f"f#1[{branch}]/a#1", 1, 0, (b"out",))))
    assert list(run.tokens) == ["j#1"]
