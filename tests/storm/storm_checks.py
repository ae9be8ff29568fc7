"""The promises that must hold after a storm, checked on the store and on the effects of nodes."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from storm_flows import TOPIC, Effects, Run, answer_to, flow_of, payload_of
from storm_processes import Round

from beluga_graph import BelugaError, Context, Engine, EventBus, StepInfo
from beluga_graph.storage.verify import verify_store
from stores import LMDBStore

__all__ = ["violations"]

_NODE_STEPS = ("NodeFinished", "NodeFailed")
_PATIENCE_S = 60
_DEFECTS = ("Traceback", "DamagedRecord", "StoreDamaged")


async def violations(round_: Round) -> list[str]:
    """Return each broken promise of a round as a line."""
    found = list(_defects(round_))
    store = LMDBStore(round_.store, durability=round_.durability)
    try:
        found += [f"verify: {damage.where}: {damage.detail}" for damage in verify_store(store).damage]
        starts = _starts(round_)
        async with EventBus(store) as bus, Engine(store, durability=round_.durability, bus=bus) as engine:
            await engine.recover()  # what the last process had committed and not yet published
            async with asyncio.timeout(_PATIENCE_S):
                while next(iter(store.scan(b"Q", limit=1)), None) is not None:  # noqa: ASYNC110  # nothing announces it
                    await asyncio.sleep(0.01)
            for run in round_.runs:
                try:
                    found += [f"{run.run_id}: {line}" for line in await _broken(engine, bus, round_, run, starts)]
                except BelugaError as error:
                    found.append(f"{run.run_id}: {type(error).__name__}: {error}")
    finally:
        store.close()
    return found


def _defects(round_: Round) -> Iterator[str]:
    """Yield the lines of output that only a defect prints."""
    for path in sorted(round_.folder.glob("*.txt")):
        for line in path.read_text().splitlines():
            if any(defect in line for defect in _DEFECTS):
                yield f"{path.name}: {line}"


def _starts(round_: Round) -> dict[tuple[str, int], list[int]]:
    """Return when each attempt's body was begun, in milliseconds."""
    starts: dict[tuple[str, int], list[int]] = defaultdict(list)
    for line in (round_.folder / "effects").read_text().splitlines():
        key, attempt, time_ns, _ = line.rsplit(" ", 3)
        starts[key, int(attempt)].append(int(time_ns) // 1_000_000)
    return starts


async def _broken(
    engine: Engine, bus: EventBus, round_: Round, run: Run, starts: dict[tuple[str, int], list[int]]
) -> list[str]:
    steps = await engine.history(run.run_id)
    snapshot = await engine.snapshot(run.run_id)
    found = [*_out_of_order(steps), *_run_again(run, steps, starts), *_timers(steps)]
    if run.kind == "settled":
        expected = await _undisturbed(run)
        outcome = (snapshot.status, snapshot.output, snapshot.failure and snapshot.failure.message)
        if outcome != expected:
            found.append(f"it ended as {outcome}, and as {expected} where nothing was killed")
    if run.kind == "workflow":
        seen = [*snapshot.state["seen"], *([] if run.number % 2 else [snapshot.output])]
        found += _signals(round_, run, seen)
        found += await _published(bus, run, steps)
    return found


def _out_of_order(steps: list[StepInfo]) -> Iterator[str]:
    if [step.seq for step in steps] != list(range(1, len(steps) + 1)):
        yield f"its steps are {[step.seq for step in steps]}"


def _run_again(run: Run, steps: list[StepInfo], starts: dict[tuple[str, int], list[int]]) -> Iterator[str]:
    """Check that a node never runs again after its step is committed, and that an attempt has one step."""
    ended: dict[tuple[str, int], int] = {}
    for step in steps:
        if step.trigger in _NODE_STEPS:
            attempt = (f"{run.run_id}:{step.token}", step.attempt)
            if attempt in ended:
                yield f"{attempt} has two steps"
            ended[attempt] = step.at_ms
    for attempt, times in starts.items():
        late = [time_ms for time_ms in times if attempt in ended and time_ms > ended[attempt]]
        if late:
            yield f"{attempt} ended at {ended[attempt]} and began again at {late}"


def _timers(steps: list[StepInfo]) -> Iterator[str]:
    """Check that a timer fires once."""
    fired = Counter(step.token for step in steps if step.trigger == "TimerFired" and step.token)
    for token, count in fired.items():
        if count > 1 and token.rpartition("/")[2].startswith("pause"):
            yield f"the timer {token} fired {count} times"


def _signals(round_: Round, run: Run, got: list[Any]) -> Iterator[str]:
    """Check that each accepted signal is delivered exactly once, in order.

    One that was sent twice may be delivered twice.
    """
    sent = [f"payload {place}" for place in range(run.signals)]
    is_repeated = any((round_.folder / "sent").glob(f"{run.run_id} repeated-*"))
    if is_repeated and len(got) == len(sent) and set(got) <= set(sent):
        return
    if got != sent:
        yield f"it was sent {sent} and got {got}"


async def _published(bus: EventBus, run: Run, steps: list[StepInfo]) -> Iterator[str]:
    """Check that each message of a committed node is on the bus exactly once."""
    keys = [f"{run.run_id}:{step.token}" for step in steps if step.trigger == "NodeFinished"]
    expected = Counter(key for key in keys if key.partition(":")[2].startswith("collect-"))
    events = [event for event in await bus.trace(run.run_id) if event.topic == TOPIC]
    found = Counter(event.data["key"] for event in events)
    return iter([] if found == expected else [f"published {dict(found)}, not {dict(expected)}"])


async def _undisturbed(run: Run) -> tuple[Any, Any, Any]:
    """Return the end of a run in one undisturbed process."""

    class Still(Effects):
        def __init__(self) -> None:
            """Leave no lines."""

        async def probe(self, ctx: Context) -> None:
            """Do nothing."""

    async with Engine(deps=Still()) as engine:
        handle = await engine.start(flow_of(run), 7, run_id=run.run_id)
        ending = asyncio.ensure_future(handle.outcome())
        while not (await asyncio.wait({ending}, timeout=0.002))[0]:
            for question in await engine.pending():
                await engine.answer(question.run_id, question.id, answer_to(question.node))
            sent = await engine.snapshot(run.run_id)
            for token in sent.tokens:
                name = token.node.rpartition("/")[2]
                if token.state == "wait" and name.startswith("await"):
                    await engine.signal(run.run_id, name, payload_of(name))
            await asyncio.sleep(0)
        snapshot = await engine.snapshot(run.run_id)
        return snapshot.status, snapshot.output, snapshot.failure and snapshot.failure.message
