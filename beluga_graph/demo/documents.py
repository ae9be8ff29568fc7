"""The documents of a folder: the input of a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

__all__ = ["MARKER", "Document", "Job", "Listing", "list_documents"]

_PROSE = frozenset([".adoc", ".markdown", ".md", ".org", ".rst", ".tex", ".text", ".txt"])
_CODE = frozenset(
    """
    .c .cc .cfg .cpp .css .go .h .hpp .ini .java .js .jsx .kt .lua .php .pl .py .pyi .rb .rs .scala .sh .sql .swift
    .toml .ts .tsx .yaml .yml
    """.split()  # noqa: SIM905 - thirty suffixes read better as text
)
_PROSE_WITHOUT_SUFFIX = frozenset(["authors", "changelog", "changes", "copying", "license", "notice", "readme"])
_IGNORED_FOLDERS = frozenset(["__pycache__", "build", "dist", "node_modules", "site-packages", "venv"])

MARKER = "<!-- Written by `beluga-graph demo`. -->"
"""First line of every report: reports are never read as documents, and no other file is overwritten."""

_BYTES_MAX = 1 << 20  # a larger file is probably data
_DOCUMENTS_MAX = 2_000


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
    """The input of a run: the documents of one folder."""

    folder: str
    documents: tuple[Document, ...]


class Listing(NamedTuple):
    """The documents of a folder, and the files that are none, each with the reason."""

    job: Job
    skipped: dict[str, str]


def list_documents(folder: Path) -> Listing:
    """Return the documents under a folder, sorted by path. Raises `OSError` if the folder cannot be read.

    Ignores hidden files and folders, links, caches, stores and earlier reports. Other files that are not documents
    (binary, huge, of an unknown kind) are listed as skipped.
    """
    root = folder.resolve()
    os.scandir(root).close()  # a folder that cannot be read is an error here; below, it is ignored
    documents: list[Document] = []
    skipped: dict[str, str] = {}
    for path in sorted(_files(root), key=lambda path: path.relative_to(root).parts):
        name = path.relative_to(root).as_posix()
        found = _document(path, name)
        if isinstance(found, str):
            skipped[name] = found
        elif found is not None:
            documents.append(found)
    skipped |= {document.path: f"more than {_DOCUMENTS_MAX:,} documents" for document in documents[_DOCUMENTS_MAX:]}
    return Listing(Job(str(root), tuple(documents[:_DOCUMENTS_MAX])), skipped)


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in _IGNORED_FOLDERS and not name.endswith(".lmdb")]
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(folder, name)
            if not name.startswith(".") and not path.is_symlink() and path.is_file():
                yield path


def _document(path: Path, name: str) -> Document | str | None:
    """Return the file as a document; or the reason why it is not one; or `None` for a report of an earlier run."""
    if not name.isprintable():
        return "its name is not plain text"
    suffix = path.suffix.lower()
    is_code = suffix in _CODE
    if not (is_code or suffix in _PROSE or (not suffix and path.stem.lower() in _PROSE_WITHOUT_SUFFIX)):
        return "not a known kind of text"
    try:
        if (size := path.stat().st_size) > _BYTES_MAX:
            return f"huge: {size:,} bytes"
        content = path.read_bytes()
        content.decode()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        return "binary" if b"\0" in content else "not UTF-8"
    if content.startswith(MARKER.encode()):
        return None
    if b"\0" in content:
        return "binary"
    return Document(name, "code" if is_code else "prose", len(content), sha256(content).hexdigest())
