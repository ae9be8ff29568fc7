"""Processes that are killed, and readers of the records that they leave on disk."""

import asyncio
import json
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from crash_flows import RUN_ID

from beluga_graph import Engine, RunNotFound
from stores import LMDBStore

__all__ = ["Attempt", "Killer", "OnDisk", "effects", "on_disk"]

Attempt = tuple[str, int]
"""Idempotency key and attempt."""


class OnDisk(NamedTuple):
    """The records of a run on disk."""

    ended: set[Attempt]
    running: set[Attempt]
    events: dict[str, list[tuple[Any, ...]]]
    """By token, without step numbers."""


@dataclass(eq=False)
class Killer:
    """Runs a flow in processes that die."""

    process: subprocess.Popen[str]

    def walk(
        self,
        folder: Path,
        flow: str,
        durability: str,
        *,
        point: str = "",
        count: int = 0,
        delay: float | None = None,
        pause: float = 0.0,
        patient: bool = False,
    ) -> Any:
        """Return the output, or `None` if the process died before its end."""
        folder.mkdir(exist_ok=True)
        said = folder / "said"
        said.unlink(missing_ok=True)
        job = {
            "folder": str(folder),
            "flow": flow,
            "durability": durability,
            "point": point,
            "count": count,
            "delay": delay,
            "pause": pause,
            "patient": patient,
        }
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        killed = json.loads(self.process.stdout.readline())["killed"]
        if killed:
            return None
        answer = json.loads(said.read_text())
        assert "error" not in answer, answer["error"]
        return answer["output"]


def effects(folder: Path) -> Counter[Attempt]:
    """Return how often each attempt had its effect."""
    path = folder / "effects"
    lines = path.read_text().splitlines() if path.exists() else []
    return Counter((key, int(attempt)) for key, attempt in (line.rsplit(" ", 1) for line in lines))


def on_disk(folder: Path) -> OnDisk:
    """Read a run without its code."""
    return asyncio.run(_on_disk(folder / "store"))


async def _on_disk(path: Path) -> OnDisk:
    store = LMDBStore(path)
    try:
        async with Engine(store) as engine:
            try:
                steps = await engine.history(RUN_ID)
            except RunNotFound:
                return OnDisk(set(), set(), {})
            snapshot = await engine.snapshot(RUN_ID)
    finally:
        store.close()
    ended = {
        (f"{RUN_ID}:{step.token}", step.attempt) for step in steps if step.trigger in ("NodeFinished", "NodeFailed")
    }
    running = {(f"{RUN_ID}:{token.name}", token.attempt) for token in snapshot.tokens if token.state == "run"}
    events: dict[str, list[tuple[Any, ...]]] = {}
    for step in steps:
        for event in step.events:
            shown = (event.type, event.node, event.name, event.output, event.attempt, event.error)
            events.setdefault(event.token, []).append(shown)
    return OnDisk(ended, running, events)
