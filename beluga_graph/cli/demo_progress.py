"""Progress: what a person sees of a demo run while it goes on; a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from beluga_graph import Event
from beluga_graph.cli.terminal_text import one_line

__all__ = ["Display", "Done", "Walked", "display_on", "ends_a_document"]

_STAGES = {
    "ingest": "taking the list",
    "corpus": "comparing",
    "review": "summing up",
    "extend": "summing up",
    "tighten": "summing up",
    "publish": "writing the report",
}
_READING = "reading"
_LINES = 10  # about how many lines the reading of all documents takes where there is no bar


def ends_a_document(event: Event) -> bool:
    """Tell whether an event is the last of a document's branch."""
    return event.type == "node_finished" and event.node in ("document", "unreadable")


@dataclass(slots=True)
class Done:
    """How much of a run is on disk."""

    documents: int = 0
    nodes: int = 0
    retries: int = 0
    steps: int = 0

    def see(self, event: Event) -> None:
        """Count a stored event."""
        self.documents += ends_a_document(event)
        self.nodes += event.type == "node_finished"
        self.retries += event.type == "retry"
        self.steps = max(self.steps, event.seq or 0)


class Walked:
    """A run under way: what was done before this process, and what this process has done."""

    def __init__(self, documents: int, before: Done) -> None:
        self.documents = documents
        self.before = before
        self.here = Done()
        self.usage: dict[str, int] = {}  # of the whole run, once it has ended
        self.stage = ""
        self.stage_is_new = False

    @property
    def documents_done(self) -> int:
        """Documents that are done, whoever did them."""
        return self.before.documents + self.here.documents

    def see(self, event: Event) -> None:
        """Take an event in."""
        self.here.see(event)
        if event.type in ("node_started", "node_finished"):
            stage = _STAGES.get(event.node, _READING)
            self.stage_is_new, self.stage = stage != self.stage, stage
        else:
            self.stage_is_new = False


class Display(Protocol):
    """Shows a run under way. Used as a context."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, walked: Walked, event: Event) -> None:
        """Show what an event has changed."""
        ...


def display_on(console: Console, documents: int) -> Display:
    """Return the display that fits where the output goes."""
    fancy = console.is_terminal and not console.is_dumb_terminal
    return _Bar(console, documents) if fancy else _Lines(console)


class _Bar:
    """One line at the foot of the terminal."""

    def __init__(self, console: Console, documents: int) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description:<18}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("documents, {task.fields[nodes]} nodes{task.fields[retries]}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._documents = documents
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        # The bar hides the cursor, and a process that is killed would leave it hidden.
        self._console.show_cursor()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, walked: Walked, event: Event) -> None:
        """Move the bar; a retry gets a line of its own above it."""
        nodes = walked.before.nodes + walked.here.nodes
        retries = f", {walked.here.retries} retries" if walked.here.retries else ""
        if self._task is None:
            self._task = self._progress.add_task(walked.stage, total=self._documents, nodes=nodes, retries=retries)
        self._progress.update(
            self._task,
            completed=walked.documents_done,
            description=walked.stage,
            nodes=nodes,
            retries=retries,
        )
        if event.type == "retry":
            self._console.print(_retry(event))


class _Lines:
    """A line now and then, for files, pipes and terminals that cannot move the cursor."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, walked: Walked, event: Event) -> None:
        """Print what is worth a line."""
        nodes = walked.before.nodes + walked.here.nodes
        if walked.stage_is_new:
            self._console.print(f"{walked.stage} …")
        if ends_a_document(event):
            every = max(1, walked.documents // _LINES)
            if walked.documents_done % every == 0 or walked.documents_done == walked.documents:
                self._console.print(f"{walked.documents_done} of {walked.documents} documents, {nodes} nodes finished")
        if event.type == "retry":
            self._console.print(_retry(event))


def _retry(event: Event) -> Text:
    return Text(
        f"retry: {event.node}, attempt {event.attempt} failed: {one_line(event.error)}; "
        f"again in {event.delay_s or 0:g} s"
    )
