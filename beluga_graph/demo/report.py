"""The report as Markdown, and its file."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from beluga_graph.demo.documents import MARKER
from beluga_graph.demo.texts import minutes_of
from beluga_graph.demo.values import Corpus, Row

__all__ = ["Report", "is_ours", "render", "write_report"]

_MARKUP = re.compile(r"([\\`*_\[\]<>|~&#])")
_LINES_MAX = 40  # of hosts or broken links; the rest is counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The output of a run. The report's text is in the run's state."""

    documents: int
    words: int
    turns: int
    broken: int
    unread: int
    digest: str
    """SHA-256 of the report, in hexadecimal."""


def render(folder: str, state: Corpus, summary: Iterable[str]) -> str:
    """Return the report. It names no time, machine or absolute path: equal findings, equal bytes."""
    kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(state.kinds.items())) or "none"
    longest, path = state.longest
    parts = [
        MARKER,
        f"# What is in {_escape(folder) or 'the root folder'}",
        f"{len(state.rows)} documents ({kinds}), {state.words:,} words in {state.sentences:,} sentences, "
        f"{minutes_of(state.words):,} min to read."
        + (f" The longest is {_escape(path)} with {longest:,} words." if path else ""),
        "## In short",
        _escape(" ".join(summary)) or "No sentence of the documents lends itself to a summary.",
        "Keywords: " + (", ".join(state.keywords) or "none") + ".",
        "## Documents",
        "| document | kind | title | headings | words | minutes | links | keywords |\n"
        "|---|---|---|---:|---:|---:|---:|---|\n"
        + "\n".join(_table_row(row, state.telling.get(row.path, ())) for row in state.rows),
    ]
    if state.summaries:
        lines = (f"- **{_escape(path)}**: {_escape(text)}" for path, text in sorted(state.summaries.items()))
        parts += ["## In a sentence each", "\n".join(lines)]
    parts += _section("Links that lead nowhere", state.broken)
    parts += _section("Documents that could not be read", state.unread)
    parts += _section("Hosts linked to", sorted(state.hosts))
    parts += _section("How this came about", state.notes)
    return "\n\n".join(parts) + "\n"


def write_report(path: Path, text: str, name: str) -> None:
    """Write the report's file completely or not at all. Writers of different runs have different names."""
    content = text.encode()
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == content:
            return
    part = path.with_name(f".{path.name}.{sha256(name.encode()).hexdigest()[:12]}.part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def is_ours(path: Path) -> bool:
    """Return whether a file may be overwritten: it is a report, or does not exist. Raises `OSError`."""
    try:
        with path.open("rb") as file:
            return file.read(len(MARKER)) == MARKER.encode()
    except FileNotFoundError:
        return True


def _table_row(row: Row, terms: Sequence[str]) -> str:
    links = f"{row.urls + row.relative}" + (f" ({row.broken} broken)" if row.broken else "")
    facts = f"{row.headings} | {row.words:,} | {minutes_of(row.words)} | {links}"
    return f"| {_escape(row.path)} | {row.kind} | {_escape(row.title)} | {facts} | {', '.join(terms)} |"


def _section(heading: str, lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    shown = [f"- {_escape(line)}" for line in lines[:_LINES_MAX]]
    if len(lines) > _LINES_MAX:
        shown.append(f"- and {len(lines) - _LINES_MAX:,} more")
    return [f"## {heading}", "\n".join(shown)]


def _escape(text: str) -> str:
    """Return text that Markdown shows literally."""
    return _MARKUP.sub(r"\\\1", text)
