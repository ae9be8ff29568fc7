"""Runs on disk that the commands act on, and helpers to call the commands and to read what they print."""

import asyncio
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cli_documents import invoke, spawn, wait_for

from beluga_graph import Engine, RunStatus
from beluga_graph.flows.flow import Flow

__all__ = ["HERE", "PATIENCE_S", "as_json", "begin", "eventually", "log", "said", "serving", "status"]

HERE = Path(__file__).parent
PATIENCE_S = 60.0


def begin(store: Path, flow: Flow, value: Any, run_id: str, until: str = "waiting") -> None:
    """Start a run in this process, and leave it on disk once it has a status."""

    async def start() -> None:
        async with Engine(store) as engine:
            run = await engine.start(flow, value, run_id=run_id)
            async with asyncio.timeout(PATIENCE_S):
                while await run.status() != until:  # noqa: ASYNC110  # status changes are not announced
                    await asyncio.sleep(0.005)

    asyncio.run(start())


def status(store: Path, run_id: str) -> RunStatus:
    async def ask() -> RunStatus:
        async with Engine(store) as engine:
            return await engine.status(run_id)

    return asyncio.run(ask())


def said(*args: object, code: int = 0) -> str:
    """Return the output of a command on one line."""
    result = invoke(*args)
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def as_json(*args: object, code: int = 0) -> Any:
    result = invoke(*args, "--json")
    assert result.exit_code == code, result.output
    assert result.stdout.isascii()
    return json.loads(result.stdout)


def eventually(holds: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, "the condition never became true"
        time.sleep(0.01)


def log(folder: Path) -> list[str]:
    return (folder / "log").read_text().splitlines() if (folder / "log").exists() else []


@contextmanager
def serving(store: Path, *flows: str, grace: float = 10.0) -> Iterator["subprocess.Popen[str]"]:
    """Serve flows in another process, which is killed at the end."""
    process = spawn("serve", *flows, "--store", store, "--grace", grace, cwd=HERE)
    try:
        wait_for(process, "SIGTERM or Ctrl-C ends it")
        yield process
    finally:
        process.kill()
        process.communicate()
