"""Sending: what a person says to runs, which go on with it wherever they are driven, now or later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from rich.text import Text

from beluga_graph import Engine
from beluga_graph.cli.commands.runs import console, load_flow, new_table, print_json, print_table, with_engine
from beluga_graph.cli.terminal_text import brief, local_time, plain
from beluga_graph.inspection.reading import stored_plan
from beluga_graph.plan.declared import MISSING
from beluga_graph.storage.run_log import read_head

__all__ = ["answer", "cancel", "pending", "signal"]


def pending(store: Path, *, json: bool) -> None:
    """List what the runs of a store ask people, the oldest question first."""
    found = with_engine(store, lambda engine: engine.pending())
    if json:
        print_json(found)
        return
    if not found:
        console().print(f"no question is pending in {plain(str(store))}", soft_wrap=True)
        return
    table = new_table("run", "question", "node", "asked", "about")
    for question in found:
        table.add_row(
            Text(plain(question.run_id)),
            Text(plain(question.id)),
            Text(plain(question.node)),
            local_time(question.asked_ms),
            Text(brief(question.value)),
        )
    print_table(table)


def signal(store: Path, run_id: str, name: str, payload: Any, *, flow: str | None, json: bool) -> None:
    """Send a signal to a run; where its flow is named, a payload that does not fit is refused at once.

    That nothing in its graph waits for such a signal is told, and no error: a changed graph may.
    """
    known = load_flow(flow) if flow is not None else None

    async def call(engine: Engine) -> set[str]:
        if known is not None:
            engine.register(known)
        await engine.signal(run_id, name, payload)
        shape = stored_plan(engine.store, read_head(engine.store, run_id)).shape
        return {node.signal for node in shape.nodes.values() if node.signal is not None}

    waits = with_engine(store, call)
    said = {"run_id": run_id, "signal": name, "is_waited_for": name in waits}
    _tell(said, f"signal {name!r} is accepted for run {run_id!r}", json=json)
    if name not in waits:
        names = ", ".join(repr(known) for known in sorted(waits)) or "none"
        typer.echo(plain(f"note: no node of its graph waits for {name!r}; those waited for are: {names}"), err=True)


def answer(
    store: Path,
    run_id: str,
    question: str,
    decision: str,
    value: Any = MISSING,
    *,
    reason: str,
    flow: str | None,
    json: bool,
) -> None:
    """Answer a question of a run; where its flow is named, a value that does not fit is refused at once."""
    known = load_flow(flow) if flow is not None else None

    async def call(engine: Engine) -> None:
        if known is not None:
            engine.register(known)
        await engine.answer(run_id, question, decision, value, reason=reason)

    with_engine(store, call)
    said = {"run_id": run_id, "question": question, "decision": decision}
    _tell(
        said,
        f"question {question!r} of run {run_id!r} is answered: {decision}; it goes on where it is driven or served",
        json=json,
    )


def cancel(store: Path, run_id: str, *, json: bool) -> None:
    """End a run for good, and tell the status that won."""
    status = with_engine(store, lambda engine: engine.cancel(run_id))
    _tell({"run_id": run_id, "status": status}, f"run {run_id!r} is {status}", json=json)


def _tell(facts: dict[str, Any], line: str, *, json: bool) -> None:
    if json:
        print_json(facts)
    else:
        console().print(plain(line), soft_wrap=True)
