"""Documents: which files of a folder are read, and what a run is told of them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

__all__ = ["CODE", "MARKER", "PROSE", "Document", "Job", "Listing", "Skipped", "Task", "list_documents"]

PROSE = frozenset((".adoc", ".markdown", ".md", ".org", ".rst", ".tex", ".text", ".txt"))
CODE = frozenset(
    [
        ".c",
        ".cc",
        ".cfg",
        ".cpp",
        ".css",
        ".go",
        ".h",
        ".hpp",
        ".ini",
        ".java",
        ".js",
        ".jsx",
        ".kt",
        ".lua",
        ".php",
        ".pl",
        ".py",
        ".pyi",
        ".rb",
        ".rs",
        ".scala",
        ".sh",
        ".sql",
        ".swift",
        ".toml",
        ".ts",
        ".tsx",
        ".yaml",
        ".yml",
    ]
)
_NAMES_OF_PROSE = frozenset(("authors", "changelog", "changes", "copying", "license", "notice", "readme"))
_FOLDERS_PASSED_OVER = frozenset(("__pycache__", "build", "dist", "node_modules", "site-packages", "venv"))

MARKER = "<!-- Written by `beluga-graph demo`. -->"
"""First line of every report: a report is never a document of a later run, and nothing else is overwritten."""

BYTES_MAX = 1 << 20  # a larger file is data, more likely than a document
DOCUMENTS_MAX = 2_000


@dataclass(frozen=True, slots=True)
class Document:
    """One text file as it was when it was listed."""

    path: str
    """Relative to the folder, with slashes."""
    kind: str
    """`prose` or `code`."""
    size: int
    """Bytes."""
    digest: str
    """SHA-256 of the content, in hexadecimal."""


@dataclass(frozen=True, slots=True)
class Job:
    """The input of a run: one folder's documents."""

    folder: str
    documents: tuple[Document, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """What one branch of the run is given."""

    folder: str
    document: Document


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that is no document, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Listing:
    """What is in a folder now."""

    job: Job
    skipped: tuple[Skipped, ...]


def list_documents(folder: Path, *, without: Collection[Path] = ()) -> Listing:
    """Return the documents under a folder, sorted by path. Raises `OSError` if the folder cannot be read.

    Hidden files and folders, links, caches and folders that hold a store are passed over; files that look
    like documents and are not (binary, huge, no text) are told. `without` are files to leave out.
    """
    root = folder.resolve()
    os.scandir(root).close()  # a folder that cannot be read is an error here; one below it is passed over
    left_out = {path.resolve() for path in without}
    documents: list[Document] = []
    skipped: list[Skipped] = []
    for path in sorted(_files(root), key=lambda path: path.relative_to(root).parts):
        if path in left_out:
            continue
        found = _look(root, path)
        if isinstance(found, Skipped):
            skipped.append(found)
        elif found is not None:
            documents.append(found)
    skipped += [Skipped(document.path, _TOO_MANY) for document in documents[DOCUMENTS_MAX:]]
    return Listing(Job(str(root), tuple(documents[:DOCUMENTS_MAX])), tuple(skipped))


_TOO_MANY = f"more than {DOCUMENTS_MAX:,} documents"


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and name not in _FOLDERS_PASSED_OVER and not name.endswith(".lmdb")
        ]
        for name in names:
            path = Path(folder, name)
            if not name.startswith(".") and not path.is_symlink() and path.is_file():
                yield path


def _look(root: Path, path: Path) -> Document | Skipped | None:
    """Return the file as a document; why it is none; or nothing, for a report of an earlier run."""
    shown = path.relative_to(root).as_posix()
    if not shown.isprintable():
        return Skipped(shown, "its name is no plain text")
    suffix, stem = path.suffix.lower(), path.stem.lower()
    kind = "code" if suffix in CODE else "prose"
    if kind == "prose" and suffix not in PROSE and not (suffix == "" and stem in _NAMES_OF_PROSE):
        return Skipped(shown, "not a kind of text that is known")
    try:
        size = path.stat().st_size
        if size > BYTES_MAX:
            return Skipped(shown, f"huge: {size:,} bytes")
        content = path.read_bytes()
    except OSError as error:
        return Skipped(shown, f"cannot be read: {error.strerror}")
    if content.startswith(MARKER.encode()):
        return None
    if b"\0" in content:
        return Skipped(shown, "binary")
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return Skipped(shown, "not UTF-8")
    return Document(shown, kind, len(content), sha256(content).hexdigest())
