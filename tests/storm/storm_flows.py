"""The flows of a storm: random graphs, and workflows with signals, a timer, an approval and published messages."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Annotated, Any

from graph_specs import Spec, racy_specs, settled_specs
from graphs import build
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from pydantic import BaseModel

from beluga_graph import Context, Flow, Retry, Workflow, append, sleep, step, wait_signal

__all__ = ["Effects", "Run", "answer_to", "flow_of", "payload_of", "runs_of"]

TOPIC = "storm.collected"


@dataclass(frozen=True)
class Run:
    """One run of a storm. Its id names the flow, so that every process builds the same one."""

    run_id: str
    kind: str
    """`settled`: a random graph whose output timing cannot change; `racy`: any random graph; `workflow`."""
    number: int
    """The seed of the graph."""
    signals: int = 0
    """How many signals a workflow collects."""


def runs_of(chance: Random, count: int) -> list[Run]:
    """Return the runs of one round."""
    runs = []
    for place in range(count):
        kind = chance.choice(["settled", "settled", "racy", "workflow", "workflow"])
        number = chance.randrange(1 << 30)
        runs.append(Run(f"{kind}-{place}", kind, number, chance.randrange(1, 4) if kind == "workflow" else 0))
    return runs


class Effects:
    """The effects of nodes: a line for each attempt, with its time, in one file of the round."""

    def __init__(self, path: Path, chance: Random) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._chance = chance

    async def probe(self, ctx: Context) -> None:
        """Leave a line, then work for a moment."""
        line = f"{ctx.idempotency_key} {ctx.attempt} {time.time_ns()} {os.getpid()}\n"
        os.write(self._file, line.encode())
        await asyncio.sleep(self._chance.choice([0, 0.001, 0.005, 0.03, 0.1]))


def flow_of(run: Run) -> Flow | Any:
    """Return the flow of a run, the same in every process."""
    return _workflow(run) if run.kind == "workflow" else _graph(run)


def _graph(run: Run) -> Any:
    async def probe(ctx: Context) -> None:
        await ctx.deps.probe(ctx)

    return build(_spec(run.kind, run.number), probe, run.run_id)  # each run has a graph of its own


@cache
def _spec(kind: str, number: int) -> Spec:
    """Return the largest of a few graphs that one seed draws."""
    found: list[Spec] = []

    @seeded(number)
    @settings(
        max_examples=6,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(racy_specs() if kind == "racy" else settled_specs())
    def take(spec: Spec) -> None:
        found.append(spec)

    take()
    return max(found, key=lambda spec: len(repr(spec)))


class Collected(BaseModel):
    """The state of a workflow: every payload that it was sent, in order."""

    seen: Annotated[list[str], append] = []


def _workflow(run: Run) -> Workflow:
    @step("begin", retry=Retry(attempts=3, initial=0))
    async def begin(ctx: Context, value: int) -> int:
        await ctx.deps.probe(ctx)
        if ctx.attempt < 2:
            raise ConnectionError
        return value

    @step("take")
    async def take(ctx: Context, payload: str) -> str:
        await ctx.deps.probe(ctx)
        return payload

    @step("ask", requires_approval=True)
    async def ask(ctx: Context, value: Any) -> Any:
        await ctx.deps.probe(ctx)
        return value

    @step("finish")
    async def finish(ctx: Context, value: Any) -> Any:
        await ctx.deps.probe(ctx)
        return value

    parts: list[Any] = [begin]
    for place in range(run.signals - 1):  # all wait for the same signal
        parts += [Workflow(f"round-{place}", wait_signal("go"), take), _collector(place)]
    parts.insert(1 + run.number % len(parts), sleep("pause", 0.02 + run.number % 7 / 100))
    parts += [ask, wait_signal("go")]
    if run.number % 2:  # else the run ends with the signal
        parts += [_collector(run.signals - 1), finish]
    return Workflow(run.run_id, *parts, state=Collected)


def _collector(place: int) -> Any:
    @step(f"collect-{place}")
    async def collect(ctx: Context, payload: str) -> str:
        await ctx.deps.probe(ctx)
        ctx.update(seen=payload)
        ctx.publish(TOPIC, {"key": ctx.idempotency_key, "payload": payload})
        return payload

    return collect


def payload_of(signal: str) -> int:
    """Return the payload of a random graph's signal. It is always the same, so that a second one does no harm."""
    return sum(signal.encode()) % 100


def answer_to(node: str) -> str:
    """Return a person's decision about a node of this name."""
    return "reject" if ".no" in node else "approve"
