"""The progress of a demo run: a bar on a terminal, plain lines in a file or a pipe."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from beluga_graph import Event
from beluga_graph.cli.terminal_text import one_line

__all__ = ["Counts", "Display"]

_STAGES = {
    "ingest": "taking the list",
    "corpus": "comparing",
    "review": "summing up",
    "extend": "summing up",
    "tighten": "summing up",
    "publish": "writing the report",
}
_LINES = 10  # without a bar, reading all documents takes about this many lines


@dataclass(slots=True)
class Counts:
    """Events of a run that are on disk, counted."""

    documents: int = 0
    nodes: int = 0
    retries: int = 0
    steps: int = 0

    def add(self, event: Event) -> bool:
        """Count an event; return whether it finished a document."""
        is_document = event.type == "node_finished" and event.node in ("document", "unreadable")
        self.documents += is_document
        self.nodes += event.type == "node_finished"
        self.retries += event.type == "retry"
        self.steps = max(self.steps, event.seq or 0)
        return is_document


class Display:
    """Shows a run in progress. Used as a context manager."""

    def __init__(self, console: Console, documents: int, before: Counts) -> None:
        self.before = before
        """Work of earlier processes."""
        self.here = Counts()
        """Work of this process."""
        self._console = console
        self._documents = documents
        self._stage = ""
        self._has_bar = console.is_terminal and not console.is_dumb_terminal
        self._bar = Progress(
            TextColumn("{task.description:<18}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("documents, {task.fields[nodes]} nodes{task.fields[retries]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not self._has_bar,
        )
        self._task = self._bar.add_task("", total=documents, visible=False, nodes=0, retries="")

    def __enter__(self) -> Self:
        self._bar.start()
        if self._has_bar:  # the bar hides the cursor, and a killed process could not show it again
            self._console.show_cursor()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, event: Event) -> None:
        """Show the effect of an event."""
        is_document = self.here.add(event)
        done, nodes = self.before.documents + self.here.documents, self.before.nodes + self.here.nodes
        if event.type in ("node_started", "node_finished"):
            stage = _STAGES.get(event.node, "reading")
            if stage != self._stage and not self._has_bar:
                self._console.print(f"{stage} …")
            self._stage = stage
        if self._has_bar:
            retries = f", {self.here.retries} retries" if self.here.retries else ""
            self._bar.update(
                self._task, completed=done, description=self._stage, visible=True, nodes=nodes, retries=retries
            )
        elif is_document and (done % max(1, self._documents // _LINES) == 0 or done == self._documents):
            self._console.print(f"{done} of {self._documents} documents, {nodes} nodes finished")
        if event.type == "retry":
            failed = f"retry: {event.node}, attempt {event.attempt} failed: {one_line(event.error)}"
            self._console.print(Text(f"{failed}; again in {event.delay_s or 0:g} s"))
