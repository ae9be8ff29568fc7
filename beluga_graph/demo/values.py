"""The values that nodes of the pipeline pass on, and the state that they update."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel

from beluga_graph import add, append, maximum, merge, union
from beluga_graph.demo.documents import Document
from beluga_graph.demo.texts import Outline, Sentence

__all__ = ["Corpus", "Desk", "Draft", "Parsed", "Row", "Source", "Terms"]


@dataclass(frozen=True, slots=True)
class Desk:
    """The dependencies of a run in this process. They are not stored."""

    report: Path
    pause_s: float = 0.0
    """Before each document."""


@dataclass(frozen=True, slots=True)
class Source:
    """A document and its text."""

    document: Document
    text: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """A document and its structure."""

    document: Document
    outline: Outline
    urls: list[str]
    targets: list[str]
    """Targets of relative links."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The subject of a document: its frequent words, and sentences that contain many of them."""

    path: str
    counts: dict[str, int]
    candidates: tuple[Sentence, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One document in the report's table."""

    path: str
    kind: str
    title: str
    headings: int
    words: int
    urls: int = 0
    relative: int = 0
    broken: int = 0


@dataclass(frozen=True, slots=True)
class Draft:
    """A summary in progress. `chosen` and `left` are sentences, the best first."""

    chosen: tuple[Sentence, ...]
    left: tuple[Sentence, ...]
    keywords: tuple[str, ...]
    turn: int = 0

    @property
    def words(self) -> int:
        """Length of the summary."""
        return sum(sentence.words for sentence in self.chosen)

    @property
    def covered(self) -> set[str]:
        """Keywords of the corpus that the summary mentions."""
        return {term for sentence in self.chosen for term in sentence.terms} & set(self.keywords)


def add_counts(current: dict[str, int], update: dict[str, int]) -> dict[str, int]:
    """Add up counts by key: a custom reducer."""
    return dict(Counter(current) + Counter(update))


class Corpus(BaseModel):
    """The state: the findings of all branches, each field combined by its reducer."""

    documents: Annotated[int, add] = 0
    words: Annotated[int, add] = 0
    sentences: Annotated[int, add] = 0
    kinds: Annotated[dict[str, int], add_counts] = {}
    in_documents: Annotated[dict[str, int], add_counts] = {}  # term -> number of documents that contain it
    longest: Annotated[tuple[int, str], maximum] = (0, "")
    hosts: Annotated[set[str], union] = set()
    broken: Annotated[list[str], append] = []
    unread: Annotated[list[str], append] = []
    rows: Annotated[list[Row], append] = []
    telling: Annotated[dict[str, list[str]], merge] = {}  # path -> the document's keywords by tf-idf
    keywords: list[str] = []  # of the corpus
    turns: Annotated[int, add] = 0
    notes: Annotated[list[str], append] = []
    summaries: Annotated[dict[str, str], merge] = {}  # path -> an agent's sentence
    report: str = ""
