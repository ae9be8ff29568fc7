"""The runs of `demo`: which one to continue, driving it, and its report on the terminal."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
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
from beluga_graph.cli.demo_progress import Counts, Display
from beluga_graph.cli.exit_codes import CommandError, Exit
from beluga_graph.cli.terminal_text import one_line, to_printable
from beluga_graph.demo.documents import Job, list_documents
from beluga_graph.demo.pipeline import pipeline_with
from beluga_graph.demo.report import Report, is_ours, write_report
from beluga_graph.demo.values import Desk
from stores.base import Durability

__all__ = ["run_demo"]

_FRESH = "the same command with --fresh starts a new run"


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
    """Start the run over a folder's documents, or continue it, or report how it ended."""
    try:
        graph = pipeline_with(model)
    except ModelError as error:
        raise typer.BadParameter(str(error), param_hint="--model") from None
    _check_output(output)
    root = folder if folder is not None else own_documents()
    job, skipped = list_documents(root)
    if not job.documents:
        raise CommandError(f"no text documents in {root}: name another folder")
    demo = _Demo(console(), graph, job, model, store, Desk(output.absolute(), pause_s))
    demo.say_skipped(skipped)
    try:
        asyncio.run(demo.run(durability, fresh=fresh))
    except KeyboardInterrupt:
        demo.say("stopped; finished work is on disk: the same command continues from here")
        raise typer.Exit(Exit.interrupted) from None


def own_documents() -> Path:
    """Return this project's own folder: the whole checkout, or the sources of an installed package."""
    package = Path(beluga_graph.__file__).parent
    return package.parent if (package.parent / "pyproject.toml").is_file() else package


def _check_output(output: Path) -> None:
    """Refuse an output that cannot be written, before anything runs."""
    if output.is_dir() or not output.absolute().parent.is_dir():
        raise typer.BadParameter(f"{output} is not a file in a folder that exists", param_hint="--output")
    if not is_ours(output):
        message = f"{output} exists and is not a report of this demo: choose another file"
        raise typer.BadParameter(message, param_hint="--output")


@dataclass(frozen=True, slots=True)
class _Demo:
    """One call of the command."""

    out: Console
    graph: Graph
    job: Job
    model: str | None
    store: Path
    desk: Desk

    def say(self, text: str) -> None:
        self.out.print(Text(one_line(text)), soft_wrap=True)

    async def run(self, durability: Durability, *, fresh: bool) -> None:
        async with Engine(self.store, durability=durability, deps=self.desk) as engine:
            engine.register(self.graph)
            run_id, status = await self._choose(engine, fresh=fresh)
            if status == RunStatus.completed:
                await self._say_finished(engine, run_id)
            else:
                await self._drive(engine, run_id, status)

    # Which run.

    async def _choose(self, engine: Engine, *, fresh: bool) -> tuple[str, RunStatus | None]:
        """Return the run of these documents and its status, or the id of a new run and `None`.

        The id consists of digests of the folder (and the model, if there is one) and of the documents, and a number:
        the same command finds its run again.
        """
        of_folder = f"demo-{_digest(self.job.folder, *filter(None, [self.model]))[:6]}-"
        of_documents = f"{of_folder}{_digest(*(f'{d.path} {d.digest}' for d in self.job.documents))[:8]}-"
        runs = (run for run in await engine.runs() if run.run_id.startswith(of_folder))
        earlier = sorted(runs, key=lambda run: _number(run.run_id))
        same = [run for run in earlier if run.run_id.startswith(of_documents)]
        if same and not fresh and same[-1].status != RunStatus.cancelled:
            return same[-1].run_id, same[-1].status
        if earlier and not same:
            last = earlier[-1].run_id
            changes = _changes((await engine.snapshot(last)).input, self.job)
            self.say(f"the documents changed since run {last} ({changes}): a new run")
        for run in earlier:
            await self._cancel(engine, run)
        return f"{of_documents}{_number(earlier[-1].run_id) + 1 if earlier else 1}", None

    async def _cancel(self, engine: Engine, run: RunInfo) -> None:
        """Cancel an unfinished run that no command will continue."""
        if run.status in (RunStatus.completed, RunStatus.cancelled):
            return
        try:
            await engine.cancel(run.run_id)
        except RunBusy:
            self.say(f"run {run.run_id} is left to the process that drives it")
        else:
            self.say(f"run {run.run_id} was not finished, and is cancelled")

    # Driving it.

    async def _drive(self, engine: Engine, run_id: str, status: RunStatus | None) -> None:
        """Start or continue the run, and show it until it ends."""
        before, begun, total = Counts(), time.monotonic(), len(self.job.documents)
        for step in await engine.history(run_id) if status is not None else ():
            before.steps = step.seq
            for event in step.events:
                before.add(event)
        try:
            run = await engine.start(self.graph, self.job, run_id=run_id)
        except RunBusy as error:
            raise RunBusy(run_id, "another process is working on it: wait until it ends, or stop it") from error
        except GraphChanged as error:
            raise CommandError(f"{error}; {_FRESH}") from error
        if status is None:
            self.say(f"run {run_id}: {total} documents of {self.job.folder}, store {self.store}")
        else:
            if status == RunStatus.failed:
                self.say(f"run {run_id} had failed; trying again what failed")
            done = f"{before.documents} of {total} documents were done ({before.nodes} nodes)"
            self.say(f"continuing run {run_id}: {done}; nothing of that runs again")
        self.say(f"kill it at any moment (kill -9 {os.getpid()}), then give the same command again")
        with Display(self.out, total, before) as display:
            async for event in run.events(after=before.steps):
                display.show(event)
        await run.result()
        usage = (await run.outcome()).usage
        await self._say_end(engine, run_id, display, usage, time.monotonic() - begun)

    # Its report on the terminal.

    async def _say_end(
        self, engine: Engine, run_id: str, display: Display, usage: Mapping[str, int], seconds: float
    ) -> None:
        snapshot = await engine.snapshot(run_id)
        report: Report = snapshot.output
        here, before = display.here, display.before
        table = new_table("", "", headed=False)
        table.add_row("report", Text(to_printable(str(self.desk.report))))
        unread = f", {report.unread} not readable" if report.unread else ""
        table.add_row("documents", f"{report.documents:,}{unread}")
        table.add_row("words", f"{report.words:,}")
        table.add_row("summary", f"{report.turns} turns")
        if usage:
            calls, read, written = (usage[name] for name in ("model_calls", "input_tokens", "output_tokens"))
            table.add_row("model", f"{calls:,} answers, {read:,} tokens read, {written:,} written")
        table.add_row("broken links", str(report.broken))
        table.add_row("steps", f"{snapshot.seq:,} committed")
        table.add_row("nodes", f"{here.nodes:,} run by this process, {before.nodes:,} were done before")
        table.add_row("retries", str(before.retries + here.retries))
        table.add_row("time", f"{seconds:.1f} s in this process")
        self.say(f"finished run {run_id}")
        self.out.print(table)

    async def _say_finished(self, engine: Engine, run_id: str) -> None:
        """Report how the run ended, and restore its report if the file is missing. Nothing runs."""
        snapshot = await engine.snapshot(run_id)
        report: Report = snapshot.output
        text, path = snapshot.state["report"], self.desk.report
        if not path.exists():
            write_report(path, text, run_id)
            where = f"report written again from the store: {path}"
        elif path.read_bytes() == text.encode():
            where = f"report {path}"
        else:
            where = f"{path} was changed since, and is left as it is"
        size = f"{report.documents:,} documents, {report.words:,} words, {snapshot.seq:,} steps"
        self.say(f"run {run_id} is finished: {size}; {where}")
        self.say(f"nothing was run; {_FRESH}")

    def say_skipped(self, skipped: Mapping[str, str]) -> None:
        by_reason = sorted((reason, path) for path, reason in skipped.items())
        for reason, group in groupby(by_reason, key=lambda pair: pair[0]):
            paths = [path for _, path in group]
            more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
            self.say(f"skipped: {', '.join(paths[:3])}{more} ({reason})")


def _changes(before: object, now: Job) -> str:
    if not isinstance(before, Job):
        return "its list of documents has another form"
    old, new = ({d.path: d.digest for d in job.documents} for job in (before, now))
    changed = sum(old[path] != new[path] for path in old.keys() & new.keys())
    return f"{changed} changed, {len(new.keys() - old.keys())} new, {len(old.keys() - new.keys())} gone"


def _digest(*parts: str) -> str:
    return sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _number(run_id: str) -> int:
    number = run_id.rpartition("-")[2]
    return int(number) if number.isdecimal() else 0
