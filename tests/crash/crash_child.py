"""A program that runs flows in child processes, which may kill themselves. It reads and prints lines of JSON.

Each job runs in a fork of this process, which has imported everything and opened nothing. So a process costs
milliseconds, and hundreds of them can be killed.
"""

import asyncio
import json
import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

from crash_flows import FLOWS, INPUT, PATIENT, RUN_ID, Effects

import beluga_graph.engine.parking
import beluga_graph.engine.store_poller
import stores.environment
from beluga_graph import Engine, RunConflict, RunFailed
from stores import LMDBStore
from stores.transactions import apply


class KillingStore:
    """A store whose process may die before, inside or after a commit."""

    def __init__(self, inner: LMDBStore, effects: Effects) -> None:
        self._inner, self._effects = inner, effects

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def commit(self, *ops) -> None:
        self._effects.passes("before_commit")
        self._inner.commit(*ops)
        self._effects.passes("after_commit")


class DyingTransaction:
    """An LMDB transaction in which everything is written when the process dies."""

    def __init__(self, inner, effects: Effects) -> None:
        self._inner, self._effects = inner, effects

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def commit(self) -> None:
        self._effects.passes("inside_commit")
        self._inner.commit()


async def parked(engine: Engine) -> None:
    """Return when the run waits for its signal and this engine holds nothing of it."""
    while (tokens := (await engine.snapshot(RUN_ID)).tokens) and (  # noqa: ASYNC110  # nothing announces it
        tokens[0].state != "wait" or engine._host.runs.actives
    ):
        await asyncio.sleep(0.002)


async def walk(job: dict) -> object:
    folder = Path(job["folder"])
    if job["flow"] == "parks":
        beluga_graph.engine.store_poller.INTERVAL_S, beluga_graph.engine.parking._SOON_MS = 0.004, 0
    effects = Effects(folder / "effects", pause=job["pause"], point=job["point"], count=job["count"])
    stores.environment.apply = lambda txn, ops: apply(DyingTransaction(txn, effects), ops)
    store = LMDBStore(folder / "store", durability=job["durability"])
    killing = KillingStore(store, effects)
    limits = PATIENT if job["patient"] else None
    async with Engine(killing, durability=job["durability"], deps=effects) as engine:
        run = await engine.start(FLOWS[job["flow"]](), INPUT, run_id=RUN_ID, limits=limits)
        sent = folder / "sent"
        if job["flow"] in ("waits", "parks") and not sent.exists():
            if job["flow"] == "parks":
                await parked(engine)
            with suppress(RunConflict):  # it was sent before the crash, and the run has completed since
                await run.signal("go", 40)
            sent.touch()
        try:
            output = await run.result(timeout=60)
        except RunFailed as error:
            output = str(error)
    store.close()
    return output


def answer(job: dict) -> None:
    try:
        said = {"output": asyncio.run(walk(job))}
    except BaseException:  # noqa: BLE001  # the parent is told, whatever it is
        said = {"error": traceback.format_exc()}
    Path(job["folder"], "said").write_text(json.dumps(said))


def main() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            answer(job)
            os._exit(0)
        if job["delay"] is not None:
            time.sleep(job["delay"])
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        print(json.dumps({"killed": os.WIFSIGNALED(status)}), flush=True)


if __name__ == "__main__":
    main()
