"""A driver of plans without an event loop: a tape chooses the next event, and the driver dies on schedule.

It uses the walker of every driver, makes attempts with the real executor, and writes each step with the real run log
to a store in memory. A crash drops everything but the content of the store.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random
from typing import Any

from hypothesis import strategies as st

from beluga_graph import Context
from beluga_graph.clock import SystemClock
from beluga_graph.execution.attempt import Attempt, ExecutionResources
from beluga_graph.execution.executor import run_attempt
from beluga_graph.execution.result import AttemptResult
from beluga_graph.execution.stored_values import StoredValues
from beluga_graph.execution.thread_pool import DaemonPool
from beluga_graph.kernel.listener_list import is_listener
from beluga_graph.kernel.rules import is_answer
from beluga_graph.kernel.snapshot import FAILED, RUN, Snapshot, Token
from beluga_graph.kernel.triggers import ArmTimer, AwaitSignal, RunNode, RunStarted, RunTakenOver, Trigger, Work
from beluga_graph.kernel.types import Patch, Value
from beluga_graph.kernel.walker import Walker
from beluga_graph.kernel.work import WorkChange, list_work
from beluga_graph.plan import Plan
from beluga_graph.storage.keys import Keys
from beluga_graph.storage.loading import RunReader, StoredStep, read_steps, rebuild
from beluga_graph.storage.records import decode_record
from beluga_graph.storage.run_log import RunLog, open_log
from stores import MemoryStore
from stores.base import Op, Put

__all__ = [
    "INTERRUPTS_MAX",
    "RUN_ID",
    "Crash",
    "Disk",
    "Execution",
    "Observation",
    "Observer",
    "RunOutcome",
    "Simulation",
    "Tape",
    "count_of",
    "crashes",
    "interrupts_of",
    "outcome_of",
    "payload_of",
    "steps_digest",
    "tapes",
]

RUN_ID = "simulated"
STEPS_MAX = 5000
INTERRUPTS_MAX = 3  # of each name, so that runs end


class Crash(BaseException):
    """The process died."""


class Tape:
    """Choices, drawn beforehand. Past its end the first of everything is chosen."""

    def __init__(self, choices: Sequence[int] = ()) -> None:
        self._choices = iter(choices)

    def choose(self, count: int) -> int:
        """Return a number below `count`."""
        return next(self._choices, 0) % count


def tapes() -> st.SearchStrategy[list[int]]:
    """Return a strategy for tapes: the choices of the next event when several are possible.

    A tape is some drawn choices and a long tail from a seed; the seed 0 has no tail.
    """
    return st.builds(_tape, st.lists(st.integers(0, 11), max_size=20), st.integers(0, 1 << 16))


def _tape(choices: list[int], seed: int) -> list[int]:
    chance = Random(seed)
    return [*choices, *(chance.randrange(12) for _ in range(200 if seed else 0))]


def crashes() -> st.SearchStrategy[list[tuple[int, bool]]]:
    """Return a strategy for crashes: the commits since the last crash, and whether the last commit was written.

    A commit is atomic, so a crash inside of one is a crash before or after it. A crash soon after another one
    hits the resume.
    """
    return st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=6)


@dataclass(frozen=True)
class Execution:
    """One call of one body."""

    life: int  # how many crashes came before it
    key: str
    attempt: int


@dataclass
class Disk:
    """A store that outlives its processes, and records of their calls for the test."""

    schedule: list[tuple[int, bool]] = field(default_factory=list)
    store: MemoryStore = field(default_factory=MemoryStore)
    lives: int = 0
    commits: int = 0
    over: set[tuple[str, int]] = field(default_factory=set)  # token and attempt of each node step on disk
    finished: set[str] = field(default_factory=set)  # tokens whose node is committed
    accepted: dict[str, int] = field(default_factory=dict)  # per signal name: how many are in the inbox
    executions: list[Execution] = field(default_factory=list)
    again: list[Execution] = field(default_factory=list)  # bodies called though their step was on disk
    _since: int = 0

    def commit(self, ops: Sequence[Op]) -> None:
        """Write, or die: before or after writing, as the schedule says."""
        self._since += 1
        dies = bool(self.schedule) and self.schedule[0][0] <= self._since
        if dies and not self.schedule[0][1]:
            self._die()
        self.store.commit(*ops)
        self.commits += 1
        for op in ops:
            if type(op) is Put and op.key[:1] == b"S":
                self._note(op)
        if dies:
            self._die()

    def _die(self) -> None:
        self.schedule.pop(0)
        self._since = 0
        self.lives += 1
        raise Crash

    def _note(self, op: Put) -> None:
        _, kind, token, attempt, *_ = decode_record(op.key, op.value)
        if kind in ("NodeFinished", "NodeFailed"):
            self.over.add((token, attempt))
        if kind == "NodeFinished":
            self.finished.add(token)

    async def probe(self, ctx: Context) -> None:
        """Record that a body was called; each body of a random graph does this first."""
        execution = Execution(self.lives, ctx.idempotency_key, ctx.attempt)
        token = ctx.idempotency_key.partition(":")[2]
        if (token, ctx.attempt) in self.over or token in self.finished:
            self.again.append(execution)
        self.executions.append(execution)


def interrupts_of(plan: Plan) -> list[str]:
    """Return the signals that interrupt something in a plan."""
    nodes = plan.shape.nodes.values()
    edges = [*plan.shape.interrupts, *(edge for node in nodes for edge in (*node.interrupts, *node.inner_interrupts))]
    return sorted({signal for signal, _, _ in edges})


def payload_of(signal: str, position: int) -> Any:
    """Return the payload of the signal at a position of a name's inbox: a number, or the answer to a question."""
    number = (
        len(signal.replace("x", "")) * 10 + position
    )  # a renamed node, whose name has an x more, gets the same payload
    if not is_answer(signal):
        return number
    if ".no.approval#" in signal and not position:  # asked again after a resume, the person approves
        return {"decision": "reject", "reason": "no"}
    return {"decision": "modify", "value": number} if number % 20 else {"decision": "approve"}


@dataclass(frozen=True)
class Observation:
    """One step, as an observer sees it."""

    simulation: Simulation
    trigger: Trigger
    patch: Patch
    change: WorkChange
    before: list[Work]


Observer = Callable[[Observation], None]


@dataclass
class Step:
    """A step of a simulated run, before its commit."""

    trigger: Trigger
    patch: Patch
    before: list[Work]
    ops: list[Op]


Origin = tuple[AttemptResult | None, Sequence[Op]]


class Simulation:
    """One run of a plan in one world. It is the driver of its walker."""

    def __init__(self, plan: Plan, disk: Disk, tape: Tape, observer: Observer | None = None) -> None:
        self.plan = plan
        self.disk = disk
        self.tape = tape
        self.observer = observer
        self.time = 1000
        self.run: Snapshot
        self.log: RunLog
        self.walker: Walker[Origin, Step]
        # Work that the run must be doing; the result of an attempt that ended and is held back.
        self.todo: dict[Work, AttemptResult | None] = {}
        self.prefixes: list[list[StoredStep]] = []  # what was on disk after each crash
        self._interrupts = interrupts_of(plan)
        self._to_serve: dict[str, None] = {}
        self._hands = ExecutionResources(SystemClock(), DaemonPool(), None)
        self.stopped: Callable[[Simulation], bool] = lambda _: False
        self.seen_by_attempt: Callable[[Snapshot, str], Snapshot] = lambda run, _: run

    async def whole(self, value: Any) -> Snapshot:
        """Drive the run through every crash until no work is left; return its last snapshot."""
        started = False
        while True:
            try:
                if not started:
                    self._create(value)
                    started = True
                await self.go()
            except Crash:
                started = self.rebuild()
            else:
                return self.run

    def _create(self, value: Any) -> None:
        run = Snapshot(
            run_id=RUN_ID, plan=self.plan.fingerprint, started_ms=self.time, value=self.plan.codec.encode(value)
        )
        self._walk(run, RunLog(self.disk.store, RUN_ID))
        first = self.log.snapshot_ops(run, force=True)
        self.decide(RunStarted(self.time), more=first)

    def _walk(self, run: Snapshot, log: RunLog) -> None:
        """Begin a life with nothing to do."""
        self.run, self.log = run, log
        self.walker = Walker(self.plan.shape, run, self)
        self.todo = {}
        self._to_serve = {}

    def rebuild(self) -> bool:
        """Begin a new life with the records on disk; return whether the run is among them."""
        if self.disk.store.get(Keys(RUN_ID).snapshot(0)) is None:
            return False
        while True:
            self.prefixes.append(list(read_steps(self.disk.store, RUN_ID)))
            self._walk(*open_log(self.disk.store, RUN_ID))
            try:
                if self.run.status != FAILED and any(t.state == RUN for t in self.run.tokens.values()):
                    self.decide(RunTakenOver(self.time))
                self.walker.begin(self.walker.fire_overdue())
            except Crash:
                continue
            return True

    async def go(self) -> None:
        """Follow the tape until there is nothing left to do."""
        for _ in range(STEPS_MAX):
            while self._to_serve:
                self.walker.serve(self._to_serve.popitem()[0])
            if not self.todo or self.stopped(self):
                return
            if self._interrupts and self.tape.choose(8) == 7:
                self._send_interrupt()
                continue
            item = list(self.todo)[self.tape.choose(len(self.todo))]
            if isinstance(item, ArmTimer):
                self.time = max(self.time, item.due)
                self.walker.fire_timer(item.timer, item.due)
            elif isinstance(item, AwaitSignal):
                self.disk.accepted[item.signal] = self.run.inbox.get(item.signal, 0) + 1
                self.walker.serve(item.signal)
            else:
                await self._run(item)
        raise AssertionError(f"no end after {STEPS_MAX} steps")

    def _send_interrupt(self) -> None:
        """Accept an interrupting signal, or two at once, whether or not the run listens to it now."""
        signal = self._interrupts[self.tape.choose(len(self._interrupts))]
        known = self.disk.accepted.get(signal, 0)
        self.disk.accepted[signal] = min(known + 1 + self.tape.choose(2), INTERRUPTS_MAX)
        self.walker.serve(signal)

    async def _run(self, item: RunNode) -> None:
        """Make an attempt, or decide on one that was made before."""
        result = self.todo[item]
        if result is None:
            result = await run_attempt(self._attempt(item))
            if self.tape.choose(3) == 2 and item in self.todo:
                self.todo[item] = result  # it has ended, and its trigger comes later
                return
        self.decide(result.trigger._replace(at=self.time), result)

    def _attempt(self, item: RunNode) -> Attempt:
        run = self.seen_by_attempt(self.run, item.token)
        values = StoredValues(self.plan.codec, self.log.reader)
        return Attempt(self.plan, run, run.tokens[item.token], values, self._hands, None)

    def decide(self, trigger: Trigger, result: AttemptResult | None = None, more: Sequence[Op] = ()) -> bool:
        """Let a trigger change the run and commit the step; return whether the trigger changed it."""
        return self.walker.decide(trigger, (result, more)) is not None

    # The driver's methods for the walker.

    @property
    def is_halted(self) -> bool:
        return False

    def now(self) -> int:
        return self.time

    def write(self, trigger: Trigger, patch: Patch, origin: Origin | None) -> Step:
        result, more = origin or (None, ())
        self.time += 1
        ops = [*more, *self.log.step_ops(self.run, trigger, patch, result, self.time, 0)]
        return Step(trigger, patch, list_work(self.plan.shape, self.run), ops)

    def commit(self, step: Step, change: WorkChange) -> None:
        ops = [*step.ops, *self.log.snapshot_ops(self.run)]
        self.disk.commit(ops)
        self.log.on_committed(ops)
        self.walker.release(step, change)
        if self.observer is not None:
            self.observer(Observation(self, step.trigger, step.patch, change, step.before))

    def run_node(self, token: Token, step: Step | None) -> None:
        self.todo.setdefault(RunNode(token.name, token.attempt))

    def stop_node(self, token: str, step: Step) -> None:
        for item in list(self.todo):
            if isinstance(item, RunNode | AwaitSignal) and item.token == token:
                del self.todo[item]

    def arm(self, timer: str, due: int) -> None:
        self.disarm(timer)
        self.todo[ArmTimer(timer, due)] = None

    def disarm(self, timer: str) -> None:
        for item in list(self.todo):
            if isinstance(item, ArmTimer) and item.timer == timer:
                del self.todo[item]

    def await_signal(self, token: str, signal: str) -> None:
        if not is_listener(self.plan.shape, self.run, signal, token):
            self.todo.setdefault(AwaitSignal(token, signal))
        else:  # it may have come; else it comes when the tape says so
            self._to_serve[signal] = None

    def stop_all(self) -> None:
        self.todo = {}

    def read_signal(self, signal: str, position: int) -> Value | None:
        if position >= self.disk.accepted.get(signal, 0):
            return None
        return self.plan.codec.encode(payload_of(signal, position))


@dataclass(frozen=True)
class RunOutcome:
    """The parts of a run that must not depend on timing or crashes, as plain data."""

    status: str
    output: Any
    error: Any
    state: dict[str, Any]
    steps: int
    inbox: dict[str, int]
    events: dict[str, list[Any]]  # by token


_TIMES = ("due", "delay_ms")


def outcome_of(plan: Plan, store: MemoryStore, run_id: str = RUN_ID) -> RunOutcome:
    """Return the outcome of a run on disk, without `seq` and times."""
    run, reader = rebuild(store, run_id), RunReader(store, run_id)
    place, values = run.places[""], StoredValues(plan.codec, reader)
    state: dict[str, Any] = {name: values.decode(value) for name, value in sorted(place.fields.items())}
    for name, length in sorted(place.lengths.items()):
        state[name] = [values.decode(item) for item in reader.read_items("", name, 0, length)]
    events: dict[str, list[Any]] = {}
    for step in read_steps(store, run_id):
        for kind, node, token, more, index in step.patch.events:
            value = None if index is None else step.patch.values[index]
            lasting = {key: said for key, said in (more or {}).items() if key not in _TIMES}
            events.setdefault(token, []).append((kind, node, lasting, value))
    return RunOutcome(run.status, run.output, run.error, state, run.steps, run.inbox, events)


def count_of(executions: Sequence[Execution]) -> Counter[tuple[str, int]]:
    """Return how often each attempt of each key was made."""
    return Counter((execution.key, execution.attempt) for execution in executions)


def steps_digest(spec: Any, tape: list[int], schedule: list[tuple[int, bool]], *, build: Any) -> str:
    """Return a digest of everything that a simulated run writes."""
    disk = Disk(schedule=list(schedule))
    simulation = Simulation(build(spec, disk.probe).plan(), disk, Tape(tape))
    asyncio.run(simulation.whole(7))
    return sha256(repr(list(disk.store.scan(b""))).encode()).hexdigest()
