"""A Temporal server and its workers without a network: a tape chooses what happens next, and workers die on schedule.

The workflow runs in the SDK's own event loop, and the activity is the real one. Simulated are the server between them,
the time, and the faults.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from unittest import mock

from simulated_workflow import PAYLOADS, decide, evict, new_instance, resolved
from simulation import INTERRUPTS_MAX, RunOutcome, Tape, interrupts_of, payload_of
from temporalio.bridge.proto.workflow_activation import (
    CancelWorkflow,
    FireTimer,
    InitializeWorkflow,
    SignalWorkflow,
    WorkflowActivation,
    WorkflowActivationJob,
)
from temporalio.exceptions import ApplicationError, CancelledError, FailureError
from temporalio.testing import ActivityEnvironment

from beluga_graph import Context
from beluga_graph.clock import SystemClock
from beluga_graph.execution.attempt import ExecutionResources
from beluga_graph.execution.stored_values import StoredValues
from beluga_graph.execution.thread_pool import DaemonPool
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.triggers import NodeFinished, RunStarted
from beluga_graph.plan import Plan
from beluga_graph.temporal.activities import progress
from beluga_graph.temporal.activities.attempt import AttemptActivity
from beluga_graph.temporal.claims.call_values import CallValues
from beluga_graph.temporal.claims.claims import CachedClaims
from beluga_graph.temporal.connection.new_execution import pack_input
from beluga_graph.temporal.workflow import attempt_queue
from beluga_graph.temporal.workflow.logged_step import LoggedStep
from beluga_graph.temporal.workflow.run_options import RunOptions
from beluga_graph.temporal.workflow.run_workflow import RunWorkflow
from beluga_graph.temporal.workflow.wire import SIGNAL, unpack

__all__ = ["Activity", "Host", "Lost", "Made"]

RUN_ID = "simulated"
TURNS_MAX = 5000
EVENTS_OF_A_TASK = 3  # scheduled, started, completed


class Lost(GeneratorExit):
    """The worker died. An attempt makes a failure of every other exception."""


@dataclass
class Activity:
    """One activity of a workflow, as the server keeps it."""

    id: str
    packed: bytes
    tries: int = 1
    details: list[bytes] = field(default_factory=list)
    result: bytes | FailureError | None = None


@dataclass(frozen=True)
class Made:
    """One call of one body."""

    lost: int  # how many workers were lost before it
    token: str
    attempt: int


class Host:
    """One run of a plan in one simulated world.

    Args:
        losses: How many points of the activities pass before each loss of a worker.
        claims: A place for large values.
        cancelled_at: After how many workflow tasks the run is cancelled.
    """

    def __init__(
        self,
        options: RunOptions,
        tape: Tape,
        losses: Sequence[int] = (),
        claims: CachedClaims | None = None,
        cancelled_at: int | None = None,
    ) -> None:
        self.options, self.tape, self.claims = options, tape, claims
        self.losses = list(losses)
        self._cancelled_at = cancelled_at
        self.lost = 0
        self.made: list[Made] = []
        self.again: list[Made] = []  # bodies called though the server had the reply of their attempt
        self.steps: list[LoggedStep] = []
        self.time_limits: list[timedelta] = []  # of the activities
        self.executions = 0
        self.status = ""  # as the last execution closed
        self._time_ms = 1000
        self._tasks_done = 0
        self._spent_s = 0.0
        self._known: set[tuple[str, int]] = set()  # attempts whose replies the server has
        self._since = 0

    async def probe(self, ctx: Context) -> None:
        """Record that a body was called, and lose the worker if it is time."""
        made = Made(self.lost, ctx.idempotency_key.partition(":")[2], ctx.attempt)
        if (made.token, made.attempt) in self._known:
            self.again.append(made)
        self.made.append(made)
        self._pass_point()

    def drive(self, plan: Plan, value: Any, *, served: Plan | None = None) -> None:
        """Drive the run until it has ended. Raises `AssertionError` if it hangs, or its workflow is not a function.

        `served` is another plan that the workers have, in place of the run's own.
        """
        self.plan = plan
        self._interrupts = interrupts_of(plan)
        served = served or plan
        resources = ExecutionResources(SystemClock(), DaemonPool(), None)
        self._attempts = AttemptActivity({served.fingerprint: served}, self.claims, resources)
        encoded = plan.codec.encode(value)
        run = Snapshot(run_id=RUN_ID, plan=plan.fingerprint, started_ms=1000, value=encoded)
        packed: bytes | None = pack_input(plan, run, [RunStarted(0)], self.options)
        probe = mock.patch.object(attempt_queue, "_PROBE", 1)  # so that a few branches make a batch
        with probe, mock.patch.object(progress, "time", self), asyncio.Runner() as self._runner:
            while packed is not None:
                packed = self._execute(packed)

    def monotonic(self) -> float:
        """Return a time that passes by itself: none, or more than an activity may take."""
        self._spent_s += (0.0, 0.0, 0.01, 0.06)[self.tape.choose(4)]
        return self._spent_s

    # The server.

    def _execute(self, packed: bytes) -> bytes | None:
        """Drive one execution of the workflow. Returns the input of the one that continues it."""
        self.executions += 1
        self.history = 0
        self._tasks: list[tuple[WorkflowActivation, list[bytes]]] = []
        self._flags: set[int] = set()  # of the SDK, as its history keeps them
        self._timers: dict[int, int] = {}
        self._activities: dict[int, Activity] = {}
        self._instance = self._runner.run(new_instance())
        start = InitializeWorkflow(workflow_type="run", workflow_id=RUN_ID, arguments=PAYLOADS.to_payloads([packed]))
        jobs = [WorkflowActivationJob(initialize_workflow=start)]
        for _ in range(TURNS_MAX):
            left = self._activate(jobs)
            if left is not None:
                self.steps += self._workflow.driver.log
                self._check_replay()
                evict(self._instance)
                return left or None
            if self.tape.choose(8) == 7:
                self._check_replay()  # the worker of the workflow has dropped it from its cache
            jobs = self._next_jobs()
        raise AssertionError(f"no end after {TURNS_MAX} turns")

    @property
    def _workflow(self) -> RunWorkflow:
        workflow_object: RunWorkflow = self._instance._object  # type: ignore[attr-defined]
        return workflow_object

    def _activate(self, jobs: list[WorkflowActivationJob]) -> bytes | None:
        """Run a workflow task; return how the execution goes on: `None`, the next input, or `b""` at the end."""
        cancelled: list[WorkflowActivationJob] = []
        self.history += EVENTS_OF_A_TASK + len(jobs)
        act = WorkflowActivation(run_id="r", history_length=self.history, jobs=jobs)
        act.timestamp.FromMilliseconds(self._time_ms)
        commands, flags = decide(self._instance, act)
        self._flags.update(flags)
        self._tasks.append((act, [each.SerializeToString(deterministic=True) for each in commands]))
        self.history += len(commands)
        self._tasks_done += 1
        self._note()
        for command in commands:
            match command.WhichOneof("variant"):
                case "start_timer":
                    timer = command.start_timer
                    self._timers[timer.seq] = self._time_ms + timer.start_to_fire_timeout.ToMilliseconds()
                case "cancel_timer":
                    self._timers.pop(command.cancel_timer.seq, None)  # it may have fired in the same task
                case "schedule_activity":
                    self._schedule(command.schedule_activity)
                case "request_cancel_activity":
                    seq = command.request_cancel_activity.seq
                    if self._activities.pop(seq, None) is not None:
                        cancelled.append(resolved(seq, CancelledError()))
                case "modify_workflow_properties":
                    pass
                case "continue_as_new_workflow_execution":
                    (packed,) = PAYLOADS.from_payloads(command.continue_as_new_workflow_execution.arguments)
                    return packed
                case (
                    "complete_workflow_execution" | "fail_workflow_execution" | "cancel_workflow_execution"
                ) as ending:
                    self.status = ending.partition("_")[0]
                    return b""
                case other:
                    raise AssertionError(other)
        return self._activate(cancelled) if cancelled else None

    def _schedule(self, command: Any) -> None:
        assert command.activity_id not in {each.id for each in self._activities.values()}
        (packed,) = PAYLOADS.from_payloads(command.arguments)
        self.time_limits.append(command.start_to_close_timeout.ToTimedelta())
        self._activities[command.seq] = Activity(command.activity_id, packed)

    def _note(self) -> None:
        """Note the attempts whose end the workflow has decided."""
        for step in self._workflow.driver.log:
            if isinstance(step.trigger, NodeFinished):
                self._known.add((step.trigger.token, step.trigger.attempt))

    # What happens next.

    def _next_jobs(self) -> list[WorkflowActivationJob]:
        """Let things happen; return those that the workflow learns of, in one task."""
        jobs: list[WorkflowActivationJob] = []
        sent: set[str] = set()
        if self._cancelled_at is not None and self._tasks_done >= self._cancelled_at:
            self._cancelled_at = None
            jobs.append(WorkflowActivationJob(cancel_workflow=CancelWorkflow(reason="a person")))
        while True:
            events = list(self._events(sent))
            if jobs and (not events or self.tape.choose(3) != 2):
                return jobs
            assert events, f"the run hangs: {self._workflow.run_state.to_plain()}"
            job = events[self.tape.choose(len(events))]()
            if job is not None:
                jobs.append(job)

    def _events(self, sent: set[str]) -> Iterator[Callable[[], WorkflowActivationJob | None]]:
        """Yield the things that may happen now."""
        for seq, activity in self._activities.items():
            if activity.result is None:
                yield lambda activity=activity: self._work(activity)
            else:
                yield lambda seq=seq: resolved(seq, self._activities.pop(seq).result)
        for seq in self._timers:
            yield lambda seq=seq: self._fire(seq)
        state, driver = self._workflow.run_state, self._workflow.driver
        for signal in state.waits:
            may_come = signal not in self._interrupts or state.inbox.get(signal, 0) < INTERRUPTS_MAX
            if may_come and not driver.inbox.get(signal) and signal not in sent:
                yield lambda signal=signal: self._send(signal, sent)

    def _fire(self, seq: int) -> WorkflowActivationJob:
        self._time_ms = max(self._time_ms, self._timers.pop(seq))
        return WorkflowActivationJob(fire_timer=FireTimer(seq=seq))

    def _send(self, signal: str, sent: set[str]) -> WorkflowActivationJob:
        sent.add(signal)
        position = self._workflow.run_state.inbox.get(signal, 0)
        payload = self.plan.codec.encode(payload_of(signal, position))
        given = PAYLOADS.to_payloads([signal, payload])
        return WorkflowActivationJob(
            signal_workflow=SignalWorkflow(signal_name=SIGNAL, input=given, originating_event_id=1)
        )

    # The workers of the activities.

    def _work(self, activity: Activity) -> None:
        """Let a worker make a try of an activity, until it ends or the worker is lost."""
        env = ActivityEnvironment()
        env.info = dataclasses.replace(env.info, attempt=activity.tries, heartbeat_details=list(activity.details))
        env.on_heartbeat = lambda details: self._beat(activity, details)
        try:
            activity.result = self._runner.run(_awaited(env.run(self._attempts.attempt, activity.packed)))
            for reply in unpack(activity.result)["replies"]:
                self._know(reply)
        except Lost:
            activity.tries += 1
            self.lost += 1
        except ApplicationError as error:
            activity.tries += 1
            if error.non_retryable:
                activity.result = error

    def _beat(self, activity: Activity, details: bytes) -> None:
        self._pass_point()
        activity.details = [details]
        for reply in unpack(details)["replies"]:
            self._know(reply)
        self._pass_point()

    def _know(self, reply: Any) -> None:
        self._known.add((reply["fields"]["token"], reply["fields"]["attempt"]))

    def _pass_point(self) -> None:
        if self.losses:
            self.losses[0] -= 1
            if self.losses[0] < 0:
                self.losses.pop(0)
                raise Lost

    # Replays.

    def _check_replay(self) -> None:
        """Go on with a new instance, which must decide as the one before did."""
        before = self._workflow.run_state.to_plain()
        evict(self._instance)
        self._instance = self._runner.run(new_instance())
        for act, expected in self._tasks:
            replayed = WorkflowActivation()
            replayed.CopyFrom(act)
            replayed.is_replaying = True
            replayed.available_internal_flags.extend(self._flags)
            commands, _ = decide(self._instance, replayed)
            assert [each.SerializeToString(deterministic=True) for each in commands] == expected
        assert self._workflow.run_state.to_plain() == before

    # The outcome.

    @property
    def run(self) -> Snapshot:
        """The run as it is."""
        return self._workflow.run_state

    def outcome(self) -> RunOutcome:
        """Return the parts of the run that must not depend on timing or faults."""
        run, items = self.run, self._workflow.driver.items
        source = CallValues(self.claims, items.to_plain(), ())
        values = StoredValues(self.plan.codec, source)
        place = run.places[""]
        state = {name: values.decode(value) for name, value in sorted(place.fields.items())}
        for name, length in sorted(place.lengths.items()):
            state[name] = [values.decode(item) for item in source.read_items("", name, 0, length)]
        events: dict[str, list[Any]] = {}
        for step in self.steps:
            for kind, node, token, more, index in step.patch.events:
                value = None if index is None else step.patch.values[index]
                lasting = {key: said for key, said in (more or {}).items() if key not in ("due", "delay_ms")}
                events.setdefault(token, []).append((kind, node, lasting, value))
        return RunOutcome(run.status, run.output, run.error, state, run.steps, run.inbox, events)


async def _awaited(call: Any) -> Any:
    return await call
