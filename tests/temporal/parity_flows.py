"""Runs that go the same way on every engine: a flow, its input, and what a person or another program does meanwhile.

A factory builds its flow from code only, so that any process can build the flows that it needs.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import crash_flows
import parity_agents as agents
import parity_failures as failures
import parity_graphs as graphs
import parity_values as values
import parity_waits as waits
import publishing_flow

from beluga_graph import Context, Flow, Limits, Question, RunStatus

__all__ = ["ENTRIES", "ENTRY_BY_NAME", "Deps", "Entry"]

LOOK_AGAIN_S = 0.02


class Deps:
    """The live resources of all flows. One object serves all runs of a process."""

    pause = 0.0  # of the nodes of `crash_flows`

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def happen(self, ctx: Context) -> None:
        """Take note of an attempt. Does nothing."""

    def count(self, run_id: str) -> int:
        """Return how often this was called for a run, this call included."""
        self._counts[run_id] += 1
        return self._counts[run_id]

    def greet(self, name: str) -> str:
        """Return a greeting."""
        return f"Hello, {name}!"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One run, and how it ends.

    `drive(engine, run)` acts while the run is under way, through the public API of engines and runs only.
    """

    name: str
    flow: Callable[[], Flow]
    value: Any = None
    drive: Callable[[Any, Any], Awaitable[None]] | None = None
    context: Any = None
    session: str | None = None
    limits: Limits | None = None
    ends: RunStatus = RunStatus.completed
    is_timed: bool = False
    """Whether nodes must finish within some seconds, so that not too many other runs may be under way."""


# What people and other programs do.


def sends(*signals: tuple[str, Any], once_waiting: bool = False) -> Callable[[Any, Any], Awaitable[None]]:
    """Send signals in this order, at once or as soon as nothing of the run is under way."""

    async def drive(engine: Any, run: Any) -> None:
        if once_waiting:
            await until_waiting(run)
        for number, (name, payload) in enumerate(signals):
            if number % 2:
                await engine.signal(run.id, name, payload)
            else:
                await run.signal(name, payload)

    return drive


async def until_waiting(run: Any) -> None:
    """Return once the run waits, and nothing of it is under way."""
    while await run.status() is not RunStatus.waiting:  # noqa: ASYNC110  # a status is not announced
        await asyncio.sleep(LOOK_AGAIN_S)


async def questions_of(engine: Any, run: Any, count: int) -> list[Question]:
    """Return the open questions of a run once there are `count` of them."""
    while True:
        found = [question for question in await engine.pending() if question.run_id == run.id]
        if len(found) == count:
            return found
        await asyncio.sleep(LOOK_AGAIN_S)


def answers(
    decisions: Mapping[Any, tuple[Any, ...]], key: Callable[[Any], Any] = lambda value: value, reason: str = ""
) -> Callable[[Any, Any], Awaitable[None]]:
    """Answer all questions in the order of `decisions`, which has a decision for the `key` of each question's value."""

    async def drive(engine: Any, run: Any) -> None:
        questions = {key(question.value): question for question in await questions_of(engine, run, len(decisions))}
        for about, decision in decisions.items():
            await engine.answer(run.id, questions[about].id, *decision, reason=reason)

    return drive


async def cancel(engine: Any, run: Any) -> None:
    await run.cancel()


async def cancel_once_waiting(engine: Any, run: Any) -> None:
    await until_waiting(run)
    await engine.cancel(run.id)


def _amount(order: values.Order) -> int:
    return order.amount


def _tool_amount(call: Mapping[str, Any]) -> int:
    return int(call["arguments"]["amount"])


# The runs.

FAILS = RunStatus.failed
GO = sends(("go", 7))


def _entry(flow: Callable[[], Flow], value: Any = None, **options: Any) -> Entry:
    return Entry(**{"name": flow.__name__, "flow": flow, "value": value, **options})


_CRASH = [
    _entry(flow, crash_flows.INPUT, name=f"crash_{name}", drive=GO if name in ("waits", "parks") else None)
    for name, flow in crash_flows.FLOWS.items()
]

_GRAPHS = [
    _entry(graphs.static_fan_out, 7),
    _entry(graphs.bounded_fan_out, 12),
    _entry(graphs.empty_fan_out, 0),
    _entry(graphs.sync_fan_out, 5),
    _entry(graphs.routed_fan_out, 6),
    _entry(graphs.nested_thrice, "p"),
    _entry(graphs.choosing, "v"),
    _entry(graphs.first_wins, 1),
    _entry(graphs.tolerated, 1, drive=sends(("right", "r"), ("left", "l"), once_waiting=True)),
    _entry(graphs.collected, 5),
    _entry(graphs.collected_of_k, 5),
    _entry(graphs.join_timeout, "v", is_timed=True),
    _entry(graphs.join_timeout_without_results, "v"),
    _entry(failures.unreachable, 3, drive=sends(("left", 4), once_waiting=True), ends=FAILS),
    _entry(failures.unreachable_handled, 3, drive=sends(("left", 4), once_waiting=True)),
    _entry(failures.failing_branch, 3, ends=FAILS),
    _entry(failures.error_edge, "key"),
    _entry(failures.error_edge_of_fan_out, 3),
    _entry(failures.error_edge_of_frame, 3),
    _entry(failures.frame_retry, 3),
    _entry(failures.frame_retry_exhausted, 3, ends=FAILS),
    _entry(failures.attempt_timeout, 3, is_timed=True),
    _entry(failures.attempt_timeout_exhausted, 3, ends=FAILS),
    _entry(failures.frame_deadline, 3),
    _entry(failures.retry_exhausted, 3, ends=FAILS),
    _entry(failures.retry_gives_up, "no entry", ends=FAILS),
    _entry(failures.unknown_route, 3, ends=FAILS),
    _entry(failures.too_many_steps, 0, ends=FAILS),
    _entry(failures.too_many_visits, 0, ends=FAILS),
    _entry(publishing_flow.make_flow, 1, name="publishing"),
    _entry(graphs.too_wide, 5, ends=FAILS, limits=Limits(max_width=4)),
]

_WAITS = [
    _entry(waits.pauses, 7),
    _entry(waits.deadline_during_a_pause, 1, ends=FAILS),
    _entry(waits.deadline_during_a_node, 1, ends=FAILS),
    _entry(waits.three_waits, drive=sends(("s", 1), ("s", [2]), ("s", {"n": 3}))),
    _entry(waits.parallel_waits, drive=sends(("s", 1), ("s", 2), ("s", 3))),
    _entry(
        waits.parallel_waits, name="parallel_waits_late", drive=sends(("s", 1), ("s", 2), ("s", 3), once_waiting=True)
    ),
    _entry(waits.default_of_a_wait),
    _entry(waits.timeout_of_a_wait, "v"),
    _entry(waits.waiting_in_vain, "v", ends=FAILS),
    _entry(waits.typed_wait, drive=sends(("s", {"amount": "5", "to": "bob"}))),
    _entry(waits.decided_pauses, 20),
    _entry(waits.decided_limit_of_a_join, [0.01, 3_600, 0], is_timed=True),
    _entry(waits.decided_limit_of_a_node, 0.1, is_timed=True),
    _entry(waits.decided_deadlines, 2.0, is_timed=True),
    _entry(waits.checked_wait_of_a_decided_time, drive=sends(("s", {"amount": "5", "to": "bob"}))),
    _entry(waits.no_time, 1, ends=FAILS),
    _entry(waits.hanging, name="cancel_at_work", drive=cancel, ends=RunStatus.cancelled),
    _entry(waits.parallel_waits, name="cancel_waiting", drive=cancel_once_waiting, ends=RunStatus.cancelled),
    _entry(waits.interrupted_step, 5, drive=sends(("cancel", "late"))),
    _entry(waits.interrupted_wait, drive=sends(("skip", 1), ("order", {"amount": "5", "to": "bob"}))),
    _entry(waits.interrupted_branches, 4, drive=sends(*[("skip", i) for i in range(4)], once_waiting=True)),
    _entry(waits.interrupted_branches, 4, name="interrupted_fan_out", drive=sends(("stop", "all"), once_waiting=True)),
    _entry(waits.interrupted_in_a_sub_flow, 1, drive=sends(("s", 1), ("s", 2), ("s", 3))),
    _entry(waits.interrupted_graph, 1, drive=sends(("change", 2), ("change", 3))),
    _entry(waits.whole_workflow, ["v"], drive=sends(("receipt", "no. 7"))),
    _entry(waits.approval, values.Order(amount=5), drive=answers({5: ("approve",)}, _amount, "fine")),
    _entry(
        waits.approval,
        values.Order(amount=5),
        name="approval_modified",
        drive=answers({5: ("modify", {"amount": "3", "to": "bob"})}, _amount),
    ),
    _entry(
        waits.approval,
        values.Order(amount=5),
        name="approval_rejected",
        drive=answers({5: ("reject",)}, _amount, "too much"),
        ends=FAILS,
    ),
    _entry(waits.approval_handled, values.Order(amount=5), drive=answers({5: ("reject",)}, _amount)),
    _entry(
        waits.approvals_of_branches,
        [30, 5, 20, 11],
        drive=answers({11: ("modify", 12), 30: ("approve",), 20: ("reject",)}),
    ),
    _entry(values.state_through_reducers, 4),
    _entry(values.state_of_frames, 7),
    _entry(values.append_large_items, 3_000),
    _entry(values.state_conflict, 1, ends=FAILS),
    _entry(values.kinds_of_values, values.Order(amount=5)),
    _entry(values.large_values, "0123456789"),
    _entry(values.large_failure, "é!", ends=FAILS),
    _entry(values.unicode_names, "ß", drive=sends(("signäl 🐋", "да"))),
    _entry(values.not_data, 1, ends=FAILS),
    _entry(values.context_of_a_run, [1], context={"tenant": "acme", "order": values.Order(amount=5)}),
    _entry(values.live_resources, "Ada"),
    _entry(values.names_of_visits, 0),
    _entry(values.texts, ["one ", "two ", "three"]),
]

_AGENTS = [
    _entry(agents.using_tools, "hello", context={"user": "ada"}),
    _entry(
        agents.tool_approvals,
        "money",
        drive=answers(
            {3: ("reject",), 1: ("approve",), 2: ("modify", {"amount": 20})}, _tool_amount, "so it was decided"
        ),
    ),
    _entry(agents.too_many_turns, "go", ends=FAILS),
    _entry(agents.broken_agent, "why", ends=FAILS),
    _entry(agents.structured, {"film": "M", "year": 1931}),
    _entry(agents.agent_in_a_graph, "a long text"),
    _entry(agents.conversation, "hello", session="parity"),
    _entry(agents.handing_over, "I was charged twice"),
    _entry(agents.filtered_handoff, "help", context={"level": 1, "user": "ada"}),
    _entry(agents.too_many_handoffs, "go", ends=FAILS, limits=Limits(max_handoffs=3)),
    _entry(agents.supervising, "how much"),
    _entry(agents.pipeline, "text"),
    _entry(agents.team, "vote"),
    _entry(agents.collecting_team, "text", context={"user": "ada"}),
    _entry(agents.condition_loop, "0"),
    _entry(agents.limit_loop, "0"),
    _entry(agents.nested_loops, "0"),
]

ENTRIES: tuple[Entry, ...] = (*_CRASH, *_GRAPHS, *_WAITS, *_AGENTS)
ENTRY_BY_NAME = {entry.name: entry for entry in ENTRIES}
