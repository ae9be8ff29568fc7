"""The report: Markdown out of what a run found, and how it gets to its place on disk."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from beluga_graph.demo.documents import MARKER
from beluga_graph.demo.texts import minutes_of

__all__ = ["Report", "Row", "is_ours", "render", "write_report"]

_MEANS_SOMETHING = re.compile(r"([\\`*_\[\]<>|~&#])")
_SHOWN = 40  # hosts or broken links; the rest is counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One document in the report's table."""

    path: str
    kind: str
    title: str
    headings: int
    words: int
    urls: int
    relative: int
    broken: int


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


def render(
    *,
    folder: str,
    words: int,
    sentences: int,
    kinds: Mapping[str, int],
    longest: tuple[int, str],
    keywords: Sequence[str],
    summary: Sequence[str],
    summaries: Mapping[str, str],
    rows: Sequence[Row],
    telling: Mapping[str, Sequence[str]],
    hosts: Sequence[str],
    broken: Sequence[str],
    unread: Sequence[str],
    notes: Sequence[str],
) -> str:
    """Return the report. No time, no machine and no absolute path is in it: equal findings, equal bytes."""
    shares = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items())) or "none"
    parts = [
        MARKER,
        f"# What is in {_shown(folder) or 'the root folder'}",
        f"{len(rows)} documents ({shares}), {words:,} words in {sentences:,} sentences, "
        f"{minutes_of(words):,} min to read."
        + (f" The longest is {_shown(longest[1])} with {longest[0]:,} words." if longest[1] else ""),
        "## In short",
        _shown(" ".join(summary)) or "No sentence of the documents lends itself to a summary.",
        "Keywords: " + (", ".join(keywords) or "none") + ".",
        "## Documents",
        "| document | kind | title | headings | words | minutes | links | keywords |\n"
        "|---|---|---|---:|---:|---:|---:|---|\n" + "\n".join(_line(row, telling.get(row.path, ())) for row in rows),
        *_summaries(summaries),
        *_section("Links that lead nowhere", broken),
        *_section("Documents that could not be read", unread),
        *_section("Hosts linked to", hosts),
        *_section("How this came about", notes),
    ]
    return "\n\n".join(parts) + "\n"


def write_report(path: Path, text: str, name: str) -> None:
    """Put the report in its place, whole or not at all. `name` tells concurrent writers apart."""
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
    """Tell whether a file may be written over: it is a report of the demo, or is not there. Raises `OSError`."""
    try:
        with path.open("rb") as file:
            return file.read(len(MARKER)) == MARKER.encode()
    except FileNotFoundError:
        return True


def _line(row: Row, terms: Sequence[str]) -> str:
    links = str(row.urls + row.relative) + (f" ({row.broken} broken)" if row.broken else "")
    cells = (
        _shown(row.path),
        row.kind,
        _shown(row.title),
        row.headings,
        f"{row.words:,}",
        minutes_of(row.words),
        links,
        ", ".join(terms),
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def _section(heading: str, lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    shown = [f"- {_shown(line)}" for line in lines[:_SHOWN]]
    if len(lines) > _SHOWN:
        shown.append(f"- and {len(lines) - _SHOWN:,} more")
    return [f"## {heading}", "\n".join(shown)]


def _summaries(summaries: Mapping[str, str]) -> list[str]:
    if not summaries:
        return []
    lines = (f"- **{_shown(path)}**: {_shown(text)}" for path, text in sorted(summaries.items()))
    return ["## In a sentence each", "\n".join(lines)]


def _shown(text: str) -> str:
    """Return text that Markdown takes literally."""
    return _MEANS_SOMETHING.sub(r"\\\1", text)
