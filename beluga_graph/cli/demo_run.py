"""`demo`: which run to go on with, driving it, and the words around it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from pathlib import Path

import typer
from rich.console import Console
from rich.text import Text

import beluga_graph
from beluga_graph import Engine, Graph, GraphChanged, ModelError, RunBusy, RunInfo, RunStatus
from beluga_graph.cli.console import console, new_table
from beluga_graph.cli.demo_progress import Done, Walked, display_on
from beluga_graph.cli.exit_codes import CommandError, Exit
from beluga_graph.cli.terminal_text import one_line, to_printable
from beluga_graph.demo.documents import Document, Job, Skipped, list_documents
from beluga_graph.demo.pipeline import Desk, pipeline_with
from beluga_graph.demo.report import Report, is_ours, write_report
from stores.base import Durability

__all__ = ["run_demo"]

_ANEW = "the same command with --fresh starts anew"


@dataclass(frozen=True, slots=True)
class Choice:
    """The run that a command is about."""

    run_id: str
    status: RunStatus | None = None
    """`None` for a run that is still to be started."""
    before: Done | None = None
    """What of it is on disk."""


@dataclass(frozen=True, slots=True)
class Order:
    """What the command is to do: the graph, over which documents."""

    job: Job
    graph: Graph
    model: str | None


def run_demo(
    folder: Path | None,
    *,
    store: Path,
    output: Path,
    fresh: bool,
    pause_s: float,
    durability: Durability,
    model: str | None,
) -> None:
    """Start the run over a folder's documents, or go on with it, or tell how it ended."""
    out = console()
    graph = _graph(model)
    root = folder if folder is not None else own_documents()
    _check_output(output)
    listing = list_documents(root, without=(output,))
    if not listing.job.documents:
        raise CommandError(f"no text documents in {root}: name another folder")
    _tell_skipped(out, listing.skipped)
    try:
        order = Order(listing.job, graph, model)
        asyncio.run(_demo(out, order, store, Desk(output.absolute(), pause_s), durability, fresh=fresh))
    except KeyboardInterrupt:
        _say(out, "stopped; what was done is on disk: the same command goes on from here")
        raise typer.Exit(Exit.interrupted) from None


def _graph(model: str | None) -> Graph:
    try:
        return pipeline_with(model)
    except ModelError as error:
        raise typer.BadParameter(str(error), param_hint="--model") from None


def own_documents() -> Path:
    """Return this project's own folder: of a checkout the whole, of an installed package its sources."""
    package = Path(beluga_graph.__file__).parent
    checkout = package.parent
    return checkout if (checkout / "pyproject.toml").is_file() else package


async def _demo(out: Console, order: Order, store: Path, desk: Desk, durability: Durability, *, fresh: bool) -> None:
    async with Engine(store, durability=durability, deps=desk) as engine:
        engine.register(order.graph)
        choice = await _choose(out, engine, order, fresh=fresh)
        if choice.status == RunStatus.completed:
            await _tell_finished(out, engine, choice, desk)
            return
        begun = time.monotonic()
        walked = await _walk(out, engine, choice, order, store)
        await _tell_end(out, engine, choice, walked, desk, time.monotonic() - begun)


# Which run.


async def _choose(out: Console, engine: Engine, order: Order, *, fresh: bool) -> Choice:
    """Return the run of this folder and these documents: the one that is there, or the next new one.

    The id is made of the folder (and the model, if one is asked), the documents' digests and a number, so the same
    command finds its run again.
    """
    job = order.job
    of_folder = f"demo-{_digest(job.folder, *filter(None, [order.model]), length=6)}-"
    of_documents = f"{of_folder}{_digest(*(f'{d.path} {d.digest}' for d in job.documents), length=8)}-"
    earlier = sorted(
        (run for run in await engine.runs() if run.run_id.startswith(of_folder)), key=lambda run: _number(run.run_id)
    )
    same = [run for run in earlier if run.run_id.startswith(of_documents)]
    if same and not fresh and same[-1].status != RunStatus.cancelled:
        return Choice(same[-1].run_id, same[-1].status, await _done(engine, same[-1].run_id))
    new = Choice(f"{of_documents}{_number(earlier[-1].run_id) + 1 if earlier else 1}")
    if earlier and not same:
        before = (await engine.snapshot(earlier[-1].run_id)).input
        _say(out, f"the documents changed since run {earlier[-1].run_id} ({_difference(before, job)}): a new run")
    for run in earlier:
        await _give_up(out, engine, run)
    return new


async def _give_up(out: Console, engine: Engine, run: RunInfo) -> None:
    """Cancel an unfinished run that no command will go on with any more."""
    if run.status in (RunStatus.completed, RunStatus.cancelled):
        return
    try:
        await engine.cancel(run.run_id)
    except RunBusy:
        _say(out, f"run {run.run_id} is left to the process that drives it")
    else:
        _say(out, f"run {run.run_id} was not finished, and is cancelled")


async def _done(engine: Engine, run_id: str) -> Done:
    done = Done()
    for step in await engine.history(run_id):
        done.steps = step.seq
        for event in step.events:
            done.see(event)
    return done


def _difference(before: object, now: Job) -> str:
    if not isinstance(before, Job):
        return "they are not those of today"
    old, new = _by_path(before.documents), _by_path(now.documents)
    changed = sum(old[path] != new[path] for path in old.keys() & new.keys())
    return f"{changed} changed, {len(new.keys() - old.keys())} new, {len(old.keys() - new.keys())} gone"


def _by_path(documents: Sequence[Document]) -> dict[str, str]:
    return {document.path: document.digest for document in documents}


def _digest(*parts: str, length: int) -> str:
    return sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:length]


def _number(run_id: str) -> int:
    number = run_id.rpartition("-")[2]
    return int(number) if number.isdecimal() else 0


# Driving it.


async def _walk(out: Console, engine: Engine, choice: Choice, order: Order, store: Path) -> Walked:
    """Start the run or go on with it, and watch it to its end."""
    job = order.job
    before = choice.before or Done()
    try:
        run = await engine.start(order.graph, job, run_id=choice.run_id)
    except RunBusy as error:
        message = "another process is working on it: wait until that has ended, or stop it"
        raise RunBusy(choice.run_id, message) from error
    except GraphChanged as error:
        raise CommandError(f"{error}; {_ANEW}") from error
    if choice.before is None:
        _say(out, f"run {choice.run_id}: {len(job.documents)} documents of {job.folder}, store {store}")
    else:
        if choice.status == RunStatus.failed:
            _say(out, f"run {choice.run_id} had failed; trying again what failed")
        _say(
            out,
            f"continuing run {choice.run_id}: {before.documents} of {len(job.documents)} documents were done "
            f"({before.nodes} nodes); nothing of that runs again",
        )
    _say(out, f"kill it at any moment (kill -9 {os.getpid()}), then give the same command again")
    walked = Walked(len(job.documents), before)
    with display_on(out, len(job.documents)) as display:
        async for event in run.events(after=before.steps):
            walked.see(event)
            display.show(walked, event)
    await run.result()
    walked.usage = (await run.outcome()).usage
    return walked


# Words.


async def _tell_end(out: Console, engine: Engine, choice: Choice, walked: Walked, desk: Desk, seconds: float) -> None:
    snapshot = await engine.snapshot(choice.run_id)
    report: Report = snapshot.output
    table = new_table("", "", headed=False)
    table.add_row("report", Text(to_printable(str(desk.report))))
    table.add_row("documents", f"{report.documents:,}" + (f", {report.unread} not readable" if report.unread else ""))
    table.add_row("words", f"{report.words:,}")
    table.add_row("summary", f"{report.turns} turns")
    if walked.usage:
        answers, told, said = (walked.usage[name] for name in ("model_calls", "input_tokens", "output_tokens"))
        table.add_row("model", f"{answers:,} answers, {told:,} tokens read, {said:,} written")
    table.add_row("broken links", str(report.broken))
    table.add_row("steps", f"{snapshot.seq:,} committed")
    table.add_row("nodes", f"{walked.here.nodes:,} run by this process, {walked.before.nodes:,} were done before")
    table.add_row("retries", str(walked.before.retries + walked.here.retries))
    table.add_row("time", f"{seconds:.1f} s in this process")
    _say(out, f"finished run {choice.run_id}")
    out.print(table)


async def _tell_finished(out: Console, engine: Engine, choice: Choice, desk: Desk) -> None:
    """Say how the run ended; put its report back if it is gone. Nothing runs."""
    snapshot = await engine.snapshot(choice.run_id)
    report: Report = snapshot.output
    text = snapshot.state["report"]
    if not desk.report.exists():
        write_report(desk.report, text, choice.run_id)
        where = f"report written again from the store: {desk.report}"
    elif desk.report.read_bytes() == text.encode():
        where = f"report {desk.report}"
    else:
        where = f"{desk.report} is not its report any more, and is left as it is"
    _say(
        out,
        f"run {choice.run_id} is finished: {report.documents:,} documents, {report.words:,} words, "
        f"{snapshot.seq:,} steps; {where}",
    )
    _say(out, f"nothing was run; {_ANEW}")


def _tell_skipped(out: Console, skipped: Sequence[Skipped]) -> None:
    by_reason = sorted(skipped, key=lambda one: (one.reason, one.path))
    for reason, group in groupby(by_reason, key=lambda one: one.reason):
        paths = [one.path for one in group]
        more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
        _say(out, f"skipped: {', '.join(paths[:3])}{more} ({reason})")


def _check_output(output: Path) -> None:
    """Refuse a place where no report can go, before anything runs."""
    if output.is_dir() or not output.absolute().parent.is_dir():
        raise typer.BadParameter(f"{output} is not a file in a folder that exists", param_hint="--output")
    if not is_ours(output):
        message = f"{output} exists and is no report of this demo: choose another place"
        raise typer.BadParameter(message, param_hint="--output")


def _say(out: Console, text: str) -> None:
    out.print(Text(one_line(text)), soft_wrap=True)
