"""Write the store that tests of earlier data read: `write_store.py FOLDER`, on the path of the earlier version.

`store_of_0_1` was written in this way by version 0.1, before its modules moved to packages.
"""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import sys
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

if importlib.util.find_spec("beluga_graph.execution") is None:  # version 0.1 had the module in its root
    sys.modules["beluga_graph.execution.approval"] = importlib.import_module("beluga_graph.answers")

from flows_of_0_1 import SWITCHES, Answer, Kept, Order, flows

from beluga_graph import BusEvent, Engine, EventBus, Outcome, RunFailed, Workflow, step
from beluga_graph.testing import VirtualClock
from stores import LMDBStore


async def until(claim: Any) -> None:
    async with asyncio.timeout(60):
        while not await claim():  # noqa: ASYNC110  # the claims are about the store
            await asyncio.sleep(0.01)


async def write_runs(store: LMDBStore, clock: VirtualClock) -> None:
    known = flows()
    async with Engine(store, clock=clock) as engine:
        for flow in known.values():
            engine.register(flow)
        await engine.execute(known["counting"], [1, 2, 3], run_id="counted")
        for number in (2, 3):
            await engine.execute(known["front"], f"question {number}", run_id=f"talked-{number}", session="s")
        failed = await engine.start(known["failing"], 4, run_id="failed")
        with suppress(RunFailed):
            await failed.result()
        await engine.start(known["branching"], 5, run_id="half")
        await engine.start(known["waiting"], 6, run_id="parked")
        await engine.start(known["waiting"], 7, run_id="cancelled")
        await engine.start(known["sleeping"], 8, run_id="asleep")
        await engine.start(known["reading"], None, run_id="unread")
        for amount in (10, 11):
            await engine.signal("unread", "second", Order(amount=amount))
        await engine.start(known["paying"], Order(amount=12), run_id="asks")
        await engine.start(known["teller"], "my money", run_id="tool-asks")
        await engine.execute(known["publishing"], Order(amount=13), run_id="published")
        await engine.cancel("cancelled")
        await (await engine.fork("counted", 3, run_id_new="forked")).result()
        await engine.fork("parked", 1, run_id_new="forked-parked")

        async def is_parked() -> bool:
            return sum(1 for _ in store.scan(b"G")) == 7 and len(await engine.pending()) == 2

        await until(is_parked)
        await write_bus(store, clock)
        await write_values(engine, store, known, await failed.outcome())


async def write_bus(store: LMDBStore, clock: VirtualClock) -> None:
    async def refuse(event: BusEvent) -> None:
        if event.data.amount == 1:
            raise ValueError("not this one")

    async with EventBus(store, clock=clock) as bus:
        bus.register(Order)
        bus.subscribe("order.*", refuse, name="mailer")
        for number in range(3):
            await bus.publish("order.new", Order(amount=number), agent_id="shop", correlation_id="c")
        for _ in range(100):
            await clock.advance(0.1)
        await bus.drain()
    async with EventBus(store, clock=clock) as bus:
        bus.register(Order)
        await bus.publish("order.new", Order(amount=3), correlation_id="c", event_id="fourth")


async def write_values(engine: Engine, store: LMDBStore, known: dict[str, Any], failed: Outcome) -> None:
    counted = await engine.resume("counted")
    async with EventBus(store) as bus:
        bus.register(Order)
        (message, *_), letters = await bus.trace("c"), await bus.dead_letters()
    changed = Workflow("waiting", step("begin", lambda number: number))
    changes = await engine.check(changed)
    kept = Kept(
        infos=tuple(await engine.runs()),
        status=await engine.status("parked"),
        steps=tuple(await engine.history("parked")),
        snapshot=await engine.snapshot("parked"),
        questions=tuple(await engine.pending()),
        outcome=await counted.outcome(),
        failed=failed,
        comparison=await engine.compare("counted", "forked"),
        changes=changes["parked"],
        answer=Answer("modify", value=Order(amount=1), reason="less"),
        events=tuple([event async for event in counted.events()]),
        failure=failed.failure,
        message=message,
        letters=tuple(letters),
        orders=(Order(amount=14),),
    )
    await engine.execute(known["keeping"], kept, run_id="kept")


async def main(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        with closing(LMDBStore(Path(scratch) / "first")) as store:
            await write_runs(store, VirtualClock())
            engine = Engine(store, clock=VirtualClock())
            await engine.start(flows()["crashing"], 15, run_id="crashed")

            async def hangs() -> bool:
                return len(await engine.history("crashed")) == 2

            await until(hangs)
            (Path(scratch) / "second").mkdir()
            store.copy(Path(scratch) / "second")  # with the lease of an owner that is dead when it is read
            SWITCHES["hangs"] = False
            await engine.close()
        shutil.copyfile(Path(scratch) / "second" / "data.mdb", folder / "data.mdb")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
