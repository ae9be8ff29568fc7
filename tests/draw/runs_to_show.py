"""Runs with every feature that a page shows, on a clock that the nodes move on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

from pydantic import BaseModel

from beluga_graph import END, START, Agent, Context, Engine, Failure, Graph, Retry, RunFailed, Workflow, add, append
from beluga_graph.testing import ScriptedModel, ToolCall, VirtualClock
from stores.base import Store

HOSTILE = "</script><script>alert(1)</script>\"'&<b>\u202eleft\u202c \U0001f40b\u2028\ud800"


class Report(BaseModel):
    """The state of the run."""

    title: str = ""
    cost: Annotated[int, add] = 0
    findings: Annotated[list[str], append] = []


def report(clock: VirtualClock) -> Graph:
    """Return a flow with retries, branches, an agent, a loop, a wait, and a handled failure."""

    def spend(milliseconds: int) -> None:
        clock.set(clock.now_ms() + milliseconds)

    def sales(region: str) -> int:
        """Return the sales of a region, in thousands."""
        spend(240)
        return {"north": 120, "south": 80}[region]

    analyst = Agent(
        "analyst",
        model=ScriptedModel(
            [ToolCall("sales", {"region": "north"}), "The north sold 120 thousand.\nThat is half more than the south."]
        ),
        tools=[sales],
        instructions="Say what the numbers say.",
    )
    g = Graph("quarterly-report", state=Report)

    @g.node(retry=Retry(attempts=3, initial=0.4))
    async def gather(ctx: Context, topic: str) -> str:
        """Read the archive, which is slow to wake."""
        spend(380)
        if ctx.attempt < 3:
            raise ConnectionError("the archive is not awake yet")
        ctx.update(title=topic.title(), cost=3)
        return topic

    g.add(analyst)

    @g.node
    async def check(ctx: Context, topic: str) -> str:
        """Look whether the archive knows of it."""
        spend(640)
        ctx.update(findings=["12 sources agree", "1 source is older than a year"], cost=1)
        return "no contradiction"

    @g.node
    async def price(ctx: Context, topic: str) -> str:
        spend(120)
        raise ValueError("the price list has no entry 'north-7'")

    @g.node
    async def guess(ctx: Context, failure: Failure) -> str:
        """Go on without the list."""
        spend(90)
        ctx.update(findings=[f"guessed, because: {failure.message}"])
        return "about 40"

    @g.node
    async def draft(ctx: Context, parts: Any) -> dict[str, Any]:
        for piece in ("Sales are up ", "in the north, ", "and flat elsewhere."):
            spend(150)
            ctx.emit_text(piece)
        ctx.update(cost=5)
        return {"draft": 1, "parts": list(parts) if isinstance(parts, list | tuple) else parts, "score": 0.4}

    @g.node
    async def improve(ctx: Context, text: dict[str, Any]) -> dict[str, Any]:
        spend(420)
        ctx.update(cost=2)
        return {**text, "draft": text["draft"] + 1, "score": round(text["score"] + 0.2, 1)}

    @g.node
    async def publish(ctx: Context, verdict: str) -> str:
        """Send it out, once."""
        spend(210)
        return f"published: {verdict}"

    g.fan_out("research", to=["analyst", check, price], join="together")
    g.join("together")
    g.on_error(price, guess)
    g.wait("review", "review", timeout=3600)
    g.edge(START, gather)
    g.edge(gather, "research")
    for source in ("analyst", check, price, guess):
        g.edge(source, "together")
    g.edge("together", draft)
    g.edge(draft, improve)
    g.branch(
        improve, lambda text: "better" if text["score"] < 0.9 else "enough", {"better": improve, "enough": "review"}
    )
    g.edge("review", publish)
    g.edge(publish, END)
    return g


def _run(page: Coroutine[Any, Any, str]) -> str:
    """Run in a separate thread, because the browser's driver has an event loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, page).result()


async def _through(store: Store | None, clock: VirtualClock, flow: Any, value: Any, run_id: str) -> str:
    async with Engine(store, clock=clock) as engine:
        run = await engine.start(flow, value, run_id=run_id)
        for _ in range(5_000):  # a busy machine needs more turns
            await clock.advance(0.5)
            await asyncio.sleep(0.001)
            if any(token.state == "wait" for token in (await engine.snapshot(run_id)).tokens):
                await clock.advance(2.5)
                await run.signal("review", "approved by Ada")
            if await run.status() in ("completed", "failed"):
                break
        with contextlib.suppress(RunFailed):
            await run.result(timeout=60)
        return await engine.html(run_id)


def report_page(store: Store | None = None) -> str:
    """Return the page of a run of `report`, which is kept in the store if one is given."""
    clock = VirtualClock()
    return _run(_through(store, clock, report(clock), "sales in the north", "report-7"))


def page_of(store: Store, run_id: str) -> str:
    """Return the page of a run in a store, rendered by another engine."""

    async def made() -> str:
        async with Engine(store) as engine:
            return await engine.html(run_id)

    return _run(made())


def failed_page(store: Store | None = None) -> str:
    """Return the page of a run that failed while a branch was running."""
    clock = VirtualClock()
    g = Graph("nightly-import")

    @g.node(retry=Retry(attempts=2, initial=0.2))
    async def load(ctx: Context, batch: str) -> str:
        clock.set(clock.now_ms() + 300)
        raise ConnectionError(f"{batch}: 503 from the warehouse, after 300 ms")

    @g.node
    async def index(ctx: Context, batch: str) -> str:
        clock.set(clock.now_ms() + 150)
        return f"{batch} indexed"

    @g.node
    async def split(ctx: Context, batch: str) -> str:
        clock.set(clock.now_ms() + 40)
        return batch

    g.fan_out("both", to=[load, index], join="joined")
    g.join("joined")
    g.edge(START, split)
    g.edge(split, "both")
    g.edge(load, "joined")
    g.edge(index, "joined")
    g.edge("joined", END)
    return _run(_through(store, clock, g, "batch 12", "import-3"))


def hostile_page(store: Store | None = None) -> str:
    """Return the page of a run whose names and values try to break it."""
    clock = VirtualClock()
    hostile = HOSTILE.replace("/", "|").replace("\ud800", "")
    g = Graph(f"flow {hostile}")

    @g.node(name=f"node {hostile}")
    async def first(ctx: Context, value: str) -> list[str]:
        ctx.emit_text(HOSTILE.replace("\ud800", ""))
        return [value, "x" * 5000, "<img src=x onerror=alert(2)>"]

    @g.node(name="y" * 200)
    async def second(ctx: Context, value: list[str]) -> dict[str, str]:
        raise ValueError("<script>alert(3)</script>")

    g.edge(START, first)
    g.edge(first, second)
    g.edge(second, END)
    return _run(_through(store, clock, g, HOSTILE.replace("\ud800", ""), "run <b>&amp;<!--"))


def long_page(turns: int = 667) -> str:
    """Return the page of a run of about three steps per turn: 2,000 steps by default."""
    clock = VirtualClock()

    class Log(BaseModel):
        last: str = ""
        lines: Annotated[list[str], append] = []

    g = Graph("long", state=Log)

    @g.node
    async def think(ctx: Context, turn: int) -> int:
        clock.set(clock.now_ms() + 20)
        ctx.update(last=f"thinking of turn {turn}")
        return turn

    @g.node
    async def act(ctx: Context, turn: int) -> dict[str, Any]:
        clock.set(clock.now_ms() + 35)
        ctx.update(lines=[f"turn {turn}: did what was to be done, and noted it in a line of some length"])
        ctx.emit_text(f"turn {turn}: a sentence that a model may have said while it acted. " * 3)
        return {"turn": turn, "notes": ["one", "two", "three"] * 4}

    @g.node
    async def judge(ctx: Context, done: dict[str, Any]) -> int:
        clock.set(clock.now_ms() + 5)
        return int(done["turn"]) + 1

    g.edge(START, think)
    g.edge(think, act)
    g.edge(act, judge)
    g.branch(judge, lambda turn: turn < turns, {True: think, False: END})
    return _run(_through(None, clock, g, 0, "long-1"))


def nested_flow() -> Workflow:
    """Return a flow with nested frames, to fold."""

    def count(text: str) -> int:
        """Count the letters."""
        return len(text)

    inner = Agent("writer", model=ScriptedModel([]), tools=[count])
    return Workflow("outer", Workflow("middle", inner))
