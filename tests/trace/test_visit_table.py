"""The table of visits: statistics of nodes stay equal to the sums over their visits, through every change."""

from __future__ import annotations

from beluga_graph.trace.visit_table import VisitTable, find_opener
from beluga_graph.trace.visits import DONE, FAILED, RETRYING, RUNNING, STOPPED, WAITING, NodeStats


def test_the_place_of_a_branch_names_the_visit_that_opened_it() -> None:
    assert find_opener("each#1[3]/") == "each#1"
    assert find_opener("each#1[3]/inside#2[0]/") == "each#1[3]/inside#2"


def test_a_node_without_visits_has_empty_statistics() -> None:
    assert VisitTable(0, 1_000).summarize("a") == NodeStats()


def test_busy_time_is_that_in_attempts_and_waits_are_counted_apart() -> None:
    table = VisitTable(1, 1_000)
    table.begin("a#1", "a", "", RUNNING)
    visit = table.visits["a#1"]
    for at_ms, status, attempts in ((1_300, RETRYING, 1), (1_800, RUNNING, 2), (1_900, WAITING, 2)):
        table.begin_step(table.seq + 1, at_ms)
        table.set_status(visit, status, attempts=attempts)
    table.set_wait(visit, signal="paid", due_ms=9_000)
    stats = table.summarize("a")
    assert (stats.status, stats.busy_ms, stats.waited_ms, stats.attempts) == (WAITING, 400, 0, 2)
    assert (stats.signal, stats.due_ms, stats.now) == ("paid", 9_000, 1)
    table.begin_step(9, 5_900)
    table.end(visit, DONE)
    stats = table.summarize("a")
    assert (stats.status, stats.busy_ms, stats.waited_ms, stats.now, stats.signal) == (DONE, 400, 4_000, 0, "")
    assert (visit.begun_seq, visit.ended_seq, visit.ended_ms, visit.busy_ms) == (1, 9, 5_900, 400)


def test_a_running_visit_adds_to_the_busy_time_of_its_node_until_now() -> None:
    table = VisitTable(1, 1_000)
    table.begin("a#1", "a", "", RUNNING)
    table.begin_step(2, 1_250)
    table.begin("a#2", "a", "", RUNNING)
    table.begin_step(3, 1_500)
    stats = table.summarize("a")
    assert (stats.busy_ms, stats.clocks, stats.visits) == (500 + 250, 2, 2)


def test_the_status_of_an_open_fan_out_is_that_of_its_inner_visits() -> None:
    table = VisitTable(1, 0)
    table.begin("split#1", "split", "", RUNNING, opens=True)
    table.begin("split#1[0]/a#1", "a", "split#1[0]/", RUNNING)
    table.begin("split#1[1]/b#1", "b", "split#1[1]/", RUNNING)
    assert table.summarize("split").status == RUNNING
    table.set_status(table.visits["split#1[0]/a#1"], WAITING)
    table.end(table.visits["split#1[1]/b#1"], DONE)
    assert table.summarize("split").status == WAITING
    table.set_status(table.visits["split#1[0]/a#1"], STOPPED)
    assert table.summarize("split").status == STOPPED


def test_usage_counts_for_a_visit_and_for_all_visits_around_it() -> None:
    table = VisitTable(1, 0)
    table.begin("split#1", "split", "", RUNNING, opens=True)
    table.begin("split#1[0]/a#1", "a", "split#1[0]/", RUNNING)
    table.add_usage(table.visits["split#1[0]/a#1"], "input_tokens", 7)
    table.add_usage(table.visits["split#1[0]/a#1"], "input_tokens", 5)
    assert table.summarize("a").usage == table.summarize("split").usage == {"input_tokens": 12}
    assert table.changed_nodes.keys() == {"split", "a"}


def test_a_renamed_visit_moves_with_its_attempts_times_and_usage() -> None:
    table = VisitTable(1, 0)
    table.begin("a#1", "old", "", RUNNING)
    visit = table.visits["a#1"]
    table.add_usage(visit, "output_tokens", 3)
    table.begin_step(2, 100)
    table.set_status(visit, WAITING, attempts=2)
    before = table.summarize("old")
    table.rename_nodes(["a#1"], {"a#1": "new"})
    assert table.summarize("new") == before
    assert table.summarize("old") == NodeStats()
    assert visit.node == "new"


def test_only_ended_visits_are_dropped() -> None:
    table = VisitTable(1, 0)
    table.begin("a#1", "a", "", RUNNING)
    table.begin("b#1", "b", "", RUNNING)
    table.end(table.visits["a#1"], FAILED)
    table.drop_ended()
    assert list(table.visits) == ["b#1"]
    assert table.summarize("a").status == FAILED
