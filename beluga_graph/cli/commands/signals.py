"""`pending`, `answer`, `signal`, `cancel`: input for runs, which take it wherever they are driven, now or later."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.text import Text

import beluga_graph
from beluga_graph.cli.console import load_flow, new_table, print_json, print_line, print_table
from beluga_graph.cli.options import FittingFlow, Json, RunId, command
from beluga_graph.cli.parsing import parse_json
from beluga_graph.cli.places import AnyEngine, Place, at_place
from beluga_graph.cli.terminal_text import brief, local_time, to_printable
from beluga_graph.kernel.shape import Shape

app = typer.Typer()


class Decision(StrEnum):
    """The decision of a person about a question."""

    approve = "approve"
    reject = "reject"
    modify = "modify"


@command(app)
@at_place
def pending(
    waits: Annotated[bool, typer.Option("--waits", help="List the waits for signals, too.")] = False,
    *,
    place: Place,
    json: Json = False,
) -> None:
    """List the questions that runs ask people, the oldest first."""
    found: list[beluga_graph.Question | beluga_graph.SignalWait] = place.run(lambda engine: engine.pending(waits=waits))
    if json:
        print_json(found)
        return
    if not found:
        print_line(f"no question {'or wait for a signal ' if waits else ''}is pending in {place}")
        return
    headings = ("question or wait", "node", "since") if waits else ("question", "node", "asked")
    table = new_table("run", *headings, "about")
    for each in found:
        table.add_row(
            Text(to_printable(each.run_id)),
            Text(to_printable(each.id)),
            Text(to_printable(each.node)),
            local_time(each.asked_ms if isinstance(each, beluga_graph.Question) else each.since_ms),
            Text(brief(each.value) if isinstance(each, beluga_graph.Question) else _describe_wait(each)),
        )
    print_table(table)


def _describe_wait(wait: beluga_graph.SignalWait) -> str:
    """Return the signal that a run waits for, and the type of its payload."""
    return to_printable(f"signal {wait.signal!r}" + (f" ({wait.type})" if wait.type else ""))


@command(app)
@at_place
def answer(
    run: RunId,
    question: Annotated[str, typer.Argument(help="The question, as `pending` lists it.", metavar="QUESTION")],
    decision: Annotated[Decision, typer.Argument(help="The decision.")],
    value: Annotated[
        str | None,
        typer.Option(
            "--value", help="With modify: the value to continue with instead.", metavar="JSON", show_default=False
        ),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="The reason; stored with the answer.", metavar="TEXT")] = "",
    flow: FittingFlow = None,
    *,
    place: Place,
    json: Json = False,
) -> None:
    """Answer a question of a run, once. The run continues where it is driven or served, now or later."""
    if (decision is Decision.modify) != (value is not None):
        message = "modify needs it, and no other decision takes it"
        raise typer.BadParameter(message, param_hint="--value")
    more = {} if value is None else {"value": parse_json(value, "--value")}
    loaded = None if flow is None else load_flow(flow)

    async def call(engine: AnyEngine) -> None:
        if loaded is not None:
            engine.register(loaded)
        await engine.answer(run, question, decision.value, reason=reason, **more)

    place.run(call)
    _print_result(
        {"run_id": run, "question": question, "decision": decision.value},
        f"answered question {question!r} of run {run!r}: {decision.value}; the run continues where it is driven or "
        "served",
        json=json,
    )


@command(app)
@at_place
def signal(
    run: RunId,
    name: Annotated[str, typer.Argument(help="The signal's name.", metavar="NAME")],
    payload: Annotated[
        str | None, typer.Argument(help="The payload; null by default.", metavar="JSON", show_default=False)
    ] = None,
    text: Annotated[bool, typer.Option("--text", help="The payload is plain text, not JSON.")] = False,
    flow: FittingFlow = None,
    *,
    place: Place,
    json: Json = False,
) -> None:
    """Send a signal to a run. It is delivered once, even if no process drives the run now.

    Warns, but does not fail, if the run's graph neither waits for this signal nor is interrupted by it: a changed graph
    may be. Of a run on a server, the graph is not known here.
    """
    if text and payload is None:
        raise typer.BadParameter("it needs the text, after the signal's name", param_hint="--text")
    value = payload if text or payload is None else parse_json(payload, "JSON", alternative="; or pass --text")
    loaded = None if flow is None else load_flow(flow)

    async def call(engine: AnyEngine) -> set[str] | None:
        if loaded is not None:
            engine.register(loaded)
        await engine.signal(run, name, value)
        if not isinstance(engine, beluga_graph.Engine):
            return None
        return _list_signals(await engine.inspector.shape(run))

    awaited = place.run(call)
    facts = {"run_id": run, "signal": name, "is_waited_for": None if awaited is None else name in awaited}
    _print_result(facts, f"signal {name!r} is accepted for run {run!r}", json=json)
    if awaited is not None and name not in awaited:
        names = ", ".join(repr(known) for known in sorted(awaited)) or "none"
        note = f"note: the run's graph has no use for signal {name!r}; it waits for or is interrupted by: {names}"
        typer.echo(to_printable(note), err=True)


@command(app)
@at_place
def cancel(run: RunId, *, place: Place, json: Json = False) -> None:
    """End a run for good, wherever it is driven. Prints the run's final status."""
    status = place.run(lambda engine: engine.cancel(run))
    _print_result({"run_id": run, "status": status}, f"run {run!r} is {status}", json=json)


def _list_signals(shape: Shape) -> set[str]:
    """Return the signals that a run's graph waits for or is interrupted by."""
    found = {node.signal for node in shape.nodes.values() if node.signal is not None}
    edges = [edge for node in shape.nodes.values() for edge in (*node.interrupts, *node.inner_interrupts)]
    return found | {signal for signal, _, _ in (*shape.interrupts, *edges)}


def _print_result(facts: dict[str, Any], line: str, *, json: bool) -> None:
    if json:
        print_json(facts)
    else:
        print_line(line)
