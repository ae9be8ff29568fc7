"""Processes that ask the paid server and die, and readers of the records that they leave on disk."""

import asyncio
import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from paid_flows import RUN_ID
from paid_server import Account, PaidServer

from beluga_graph import Engine, RunNotFound
from stores import LMDBStore

__all__ = ["Case", "OnDisk", "Payer", "effects", "on_disk"]


class Case(NamedTuple):
    """The flow, API and store that a process uses."""

    flow: str
    api: str
    durability: str = "commit"


class OnDisk(NamedTuple):
    """The records of a run on disk."""

    answers: frozenset[str]
    """Digests of the requests whose answers are committed."""
    tools: frozenset[str]
    """Names and arguments of the tool calls whose results are committed."""
    messages: list[Any]
    """The conversation, if the flow is an agent."""
    events: dict[str, list[tuple[Any, ...]]]
    """By token, without step numbers."""


@dataclass(eq=False)
class Payer:
    """Runs flows in processes that die."""

    process: subprocess.Popen[str]
    server: PaidServer

    def __post_init__(self) -> None:
        self._tell(self.server.open_account().url)

    def _tell(self, what: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()

    def walk(
        self, folder: Path, case: Case, account: Account, *, point: str = "", count: int = 0
    ) -> dict[str, Any] | None:
        """Return how the run ended, or `None` if the process died before its end."""
        folder.mkdir(exist_ok=True)
        said = folder / "said"
        said.unlink(missing_ok=True)
        where = {"folder": str(folder), "url": account.url, "point": point, "count": count}
        self._tell({**case._asdict(), **where})
        assert self.process.stdout is not None
        if json.loads(self.process.stdout.readline())["killed"]:
            return None
        answer: dict[str, dict[str, Any]] = json.loads(said.read_text())
        assert "error" not in answer, answer["error"]["text"]
        return answer["outcome"]


def effects(folder: Path) -> list[str]:
    """Return the effects of the tools, one line each."""
    return (folder / "effects").read_text().splitlines()


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
                return OnDisk(frozenset(), frozenset(), [], {})
            snapshot = await engine.snapshot(RUN_ID)
    finally:
        store.close()
    answers, tools = set[str](), set[str]()
    called: dict[str, str] = {}
    events: dict[str, list[tuple[Any, ...]]] = {}
    for event in (event for step in steps for event in step.events):
        if event.type == "node_finished":
            answers.update(re.findall("#([0-9a-f]{12})", event.text))
        elif event.type == "tool_call":
            answers.update(re.findall("call_([0-9a-f]{12})", event.call_id))
            called[event.call_id] = " ".join([event.name, *map(str, event.arguments.values())])
        elif event.type == "tool_result" and not event.name.startswith("transfer_to_"):
            tools.add(called[event.call_id])
        shown = (event.type, event.node, event.agent, event.name, event.text, event.output, event.error)
        events.setdefault(event.token, []).append(shown)
    messages = snapshot.state.get("messages", [])
    return OnDisk(frozenset(answers), frozenset(tools), messages, events)
