"""The workflow that drives every run, of all flows. It never imports the user's code.

It runs in the sandbox of the SDK, and imports only the kernel and the pure modules of this package; a test checks that.
Its decisions must never change for a given history: the tests replay recorded histories.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from beluga_graph.kernel.rules import answer_signal
    from beluga_graph.kernel.shape import FAN_OUT, Shape
    from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, FAILED, WAITING, Snapshot
    from beluga_graph.kernel.triggers import CancelRequested, PlanAdopted
    from beluga_graph.temporal.workflow.driver import WorkflowDriver
    from beluga_graph.temporal.workflow.inputs import unpack_input
    from beluga_graph.temporal.workflow.pieces import ItemPieces
    from beluga_graph.temporal.workflow.run_options import RunOptions
    from beluga_graph.temporal.workflow.session_return import give_session_back
    from beluga_graph.temporal.workflow.wire import (
        ANSWER,
        CHANGE_GRAPH,
        EVENTS,
        FORMAT,
        GIVE_CLAIMS,
        MEMO_PLAN,
        MEMO_STATUS,
        NOT_PENDING,
        PAYLOAD_BYTES,
        RUN_FAILED,
        SESSION_LOST,
        SIGNAL,
        STATE,
        TOO_LARGE,
        WORKFLOW,
        pack,
        trigger_from_plain,
        unpack,
    )

__all__ = ["RunWorkflow"]

_FORCED_FACTOR = 3  # a history three times as long as intended continues as new, even if attempts must be waited for
_FORCED_BYTES = 30_000_000  # the server ends workflows whose history has 50 MB
_DRAIN_AGAIN_EVENTS = 20
_PAGE_BYTES = 512 * 1024  # of the answer to a query for steps
_MESSAGE_CHARS = 2_000
_CAUSE_BYTES = 64 * 1024  # a larger failure is only in the history of the run


@workflow.defn(name=WORKFLOW)
class RunWorkflow:
    """One run. Its input is the run's snapshot, with what goes beside it; see `wire`."""

    @workflow.init
    def __init__(self, packed: bytes) -> None:
        given = unpack_input(packed, is_final=True)
        self._shape = given["shape"]  # as given: each execution begins with the same one
        self._options = RunOptions.from_plain(given["options"])
        self._triggers = given["triggers"]
        self._previous: str = given["previous"]
        self._begin_by: int = given.get("begin_by", 0)
        self.run_state = Snapshot.from_plain(given["run"])
        self._first_seq = self.run_state.seq
        self._changed: dict[str, Any] | None = None  # a graph to adopt
        self._drain_again_at = 0  # the length of the history from which the run may try again to continue as new
        self._is_waiting: bool | None = None  # as the list of workflows shows it
        self.driver = WorkflowDriver(
            _cap_fan_outs(Shape.from_plain(given["shape"]), self._options.cap),
            self.run_state,
            self._options,
            ItemPieces(given["items"]),
            {signal: list(unread) for signal, unread in given["inbox"].items()},
            given["session"],
            given.get("unsent"),
        )

    # Handlers.

    @workflow.signal(name=SIGNAL)
    def on_signal(self, name: str, payload: bytes) -> None:
        """Accept a signal of the run. There is one signal of the workflow, so that no name is unknown."""
        self.driver.receive(name, payload)

    @workflow.update(name=ANSWER)
    def on_answer(self, token: str, payload: bytes) -> None:
        """Accept the answer to a question."""
        self.driver.receive(answer_signal(token), payload)

    @on_answer.validator
    def check_answer(self, token: str, payload: bytes) -> None:  # noqa: ARG002 - the arguments of the update
        """Refuse the answer to a question that is not pending, or has an answer. The update is not recorded then."""
        signal = answer_signal(token)
        if signal not in self.run_state.waits or self.driver.inbox.get(signal):
            text = f"question {token!r} is not pending"
            raise ApplicationError(text, type=NOT_PENDING, non_retryable=True)

    @workflow.update(name=CHANGE_GRAPH)
    def change_graph(self, packed: bytes) -> bool:
        """Continue as new with a changed graph, unless the run has made a step since the caller checked it."""
        changed = unpack(packed)
        run = self.run_state
        if changed["seq"] != run.seq or run.ended or run.status == FAILED or self.driver.is_halted:
            return False  # the driver is halted before the run has begun, and when it is about to continue as new
        size = len(self._next_input(changed))
        if size > PAYLOAD_BYTES:
            raise ApplicationError(_too_large(size), type=TOO_LARGE, non_retryable=True)
        self._changed = changed
        self.driver.stop()  # a result of this very task would change the run that was judged
        return True

    @workflow.query(name=STATE)
    def state(self) -> bytes:
        """Return the snapshot, without its items."""
        return pack({"run": self.run_state.to_plain(), "seq": self._first_seq})

    @workflow.query(name=EVENTS)
    def events(self, after: int) -> bytes:
        """Return steps after `after`, as many as fit into an answer: trigger, token, attempt, events and values.

        `from` is the first step that this execution knows: earlier ones are in the histories of earlier executions.
        """
        found: list[bytes] = []
        size = 0
        for step in self.driver.log[max(0, after - self._first_seq) :]:
            shown = {event[4] for event in step.patch.events}
            values = [value if index in shown else b"" for index, value in enumerate(step.patch.values)]
            attempt = (getattr(step.trigger, "token", ""), getattr(step.trigger, "attempt", 0))
            found.append(pack((step.seq, step.at_ms, type(step.trigger).__name__, *attempt, step.patch.events, values)))
            size += len(found[-1])
            if size > _PAGE_BYTES:
                break
        return pack({"from": self._first_seq + 1, "last": self.run_state.seq, "steps": found})

    # The run.

    @workflow.run
    async def run(self, packed: bytes) -> bytes:  # noqa: ARG002 - `__init__` has read it
        """Walk the run to its end, or continue as new. Returns its result, or raises its failure."""
        driver = self.driver
        self._check_session()
        driver.guard(self._begin)
        await self._wait(self._check_over)
        if driver.error is not None:
            raise driver.error
        await self._wait(lambda: driver.outgoing.is_empty() or self._is_changing())
        run = self.run_state
        if run.ended:
            giving = asyncio.ensure_future(give_session_back(driver, self._options))
            await self._wait(giving.done)
            giving.result()
        if run.status == CANCELLED:  # the server shows a cancelled run only after a request; see `Canceller`
            await self._wait(lambda: workflow.cancellation_reason() is not None)
        if run.ended or run.status == FAILED:
            return _result_of(run)
        driver.stop()
        await workflow.wait_condition(workflow.all_handlers_finished)
        changed = self._changed or {}
        return workflow.continue_as_new(self._next_input(changed), task_queue=changed.get("queue"))

    async def _wait(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition. A request to cancel the run is a trigger like others; an ended run ignores it."""
        driver = self.driver
        while True:
            try:
                await workflow.wait_condition(condition)
            except asyncio.CancelledError:
                if workflow.cancellation_reason() is None:
                    raise  # the worker drops the workflow from its cache
                driver.guard(driver.walker.decide, CancelRequested(driver.now()))
            else:
                return

    def _check_session(self) -> None:
        """Refuse to begin with a session that was taken too long ago: it may belong to another run by now."""
        if self._begin_by and workflow.info().start_time.timestamp() * 1000 > self._begin_by:
            text = "its session was taken, but the run came to the server too late: start another run"
            raise ApplicationError(text, type=SESSION_LOST, non_retryable=True)

    def _begin(self) -> None:
        driver = self.driver
        for plain in self._triggers:
            trigger = trigger_from_plain(plain, driver.now())
            driver.walker.decide(trigger)
            if isinstance(trigger, PlanAdopted):
                workflow.upsert_memo({MEMO_PLAN: trigger.fingerprint})
        driver.begin()

    def _check_over(self) -> bool:
        """Return whether this execution is over.

        The SDK calls this after each activation. So it also shows the status of the run, and begins to drain once the
        history is long.
        """
        run, driver = self.run_state, self.driver
        if driver.error is not None or run.ended or run.status == FAILED:
            return True
        if self._changed is not None:
            return True
        self._show_status()
        dispatcher = driver.dispatcher
        if not dispatcher.is_draining and self._should_drain():
            dispatcher.is_draining = True
        return dispatcher.is_draining and dispatcher.pending == 0 and self._check_fits()

    def _is_changing(self) -> bool:
        """Return whether the run is about to adopt a changed graph. The workers of the earlier one may be gone."""
        return self._changed is not None and not self.run_state.ended

    def _should_drain(self) -> bool:
        """Return whether to continue as new: at once, or after the attempts under way where no others could begin."""
        info, run = workflow.info(), self.run_state
        length = info.get_current_history_length()
        is_long = length > self._options.continue_events or info.is_continue_as_new_suggested()
        if not is_long or run.seq == self._first_seq or length < self._drain_again_at:
            return False
        dispatcher = self.driver.dispatcher
        return dispatcher.pending == 0 or dispatcher.has_queue or len(run.tokens) == 1 or self._is_forced()

    def _is_forced(self) -> bool:
        """Return whether the history has become so long that the run must not go on with it."""
        info = workflow.info()
        is_long = info.get_current_history_length() > _FORCED_FACTOR * self._options.continue_events
        return is_long or info.get_current_history_size() > _FORCED_BYTES

    def _check_fits(self) -> bool:
        """Return whether the run fits into a new execution. If not, let it go on: its state may shrink.

        If it cannot go on either, let the next attempt fail. An error edge may lead the run to a smaller state.
        """
        size = len(self._next_input({}))
        if size <= PAYLOAD_BYTES:
            return True
        driver = self.driver
        if self._is_forced():
            driver.guard(driver.dispatcher.fail_next, TOO_LARGE, _too_large(size))
        self._drain_again_at = workflow.info().get_current_history_length() + _DRAIN_AGAIN_EVENTS
        driver.dispatcher.go_on()
        return False

    def _show_status(self) -> None:
        """Show in the list of workflows whether the run waits."""
        is_waiting = self.run_state.status == WAITING
        if is_waiting is not self._is_waiting and (is_waiting or self._is_waiting is not None):
            self._is_waiting = is_waiting
            workflow.upsert_memo({MEMO_STATUS: self.run_state.status})

    def _next_input(self, changed: dict[str, Any]) -> bytes:
        """Return the input of the next execution; `changed` is empty, or a graph to adopt."""
        driver = self.driver
        unread = {signal: payloads for signal, payloads in driver.inbox.items() if payloads}
        options, unsent = self._options, None
        if changed:
            options = replace(options, queue=changed["queue"])
            unsent = driver.outgoing.to_plain()
        return pack(
            {
                "format": FORMAT,
                "shape": changed.get("shape", self._shape),
                "run": self.run_state.to_plain(),
                "triggers": changed.get("triggers", ()),
                "items": driver.items.to_plain(),
                "inbox": unread,
                "session": driver.session,
                "options": options.to_plain(),
                "previous": self._previous,
                "unsent": unsent,
            }
        )


def _cap_fan_outs(shape: Shape, most: int) -> Shape:
    """Limit the branches of each fan-out that are begun at a time. A branch that waits costs a tenth of one begun."""
    nodes = {
        name: replace(node, max_concurrency=min(node.max_concurrency or most, most)) if node.kind == FAN_OUT else node
        for name, node in shape.nodes.items()
    }
    return replace(shape, nodes=nodes)


def _result_of(run: Snapshot) -> bytes:
    """Return the end of a run that has completed. Raises the failure of another one, or its cancellation."""
    end = {"status": run.status, "steps": run.steps, "usage": dict(run.usage), "reason": run.reason}
    if run.status == COMPLETED:
        return pack({**end, "output": run.output})
    if run.status == FAILED:
        packed = pack({**end, "error": run.error})
        details = [packed] if len(packed) <= _CAUSE_BYTES else []
        raise ApplicationError(_message_of(run), *details, type=RUN_FAILED, non_retryable=True)
    raise asyncio.CancelledError


def _message_of(run: Snapshot) -> str:
    """Return the message of a failed run for those who list workflows. The whole one is in the run."""
    if isinstance(run.error, tuple):
        node, kind, message, attempts, _ = run.error
        return f"node {node!r} failed after {attempts} attempts: {kind}: {message[:_MESSAGE_CHARS]}"
    return "the run failed"


def _too_large(size: int) -> str:
    text = (
        f"the state of the run is {size:,} bytes, and its history must continue in a new execution, whose input takes "
    )
    return text + f"{PAYLOAD_BYTES:,}: {GIVE_CLAIMS}"
