"""What the nodes of the pipeline hand on, and the state in which it adds up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel

from beluga_graph import add, append, maximum, merge, union
from beluga_graph.demo.documents import Task
from beluga_graph.demo.report import Row
from beluga_graph.demo.texts import Outline, Sentence

__all__ = ["Corpus", "Counts", "Desk", "Draft", "Links", "Parsed", "Read", "Source", "Terms"]


def tally(current: dict[str, int], update: dict[str, int]) -> dict[str, int]:
    """Add up counts by key: a reducer of the demo's own."""
    return dict(Counter(current) + Counter(update))


class Corpus(BaseModel):
    """The state: what the branches find out adds up here, each field in its own way."""

    documents: Annotated[int, add] = 0
    words: Annotated[int, add] = 0
    sentences: Annotated[int, add] = 0
    kinds: Annotated[dict[str, int], tally] = {}
    in_documents: Annotated[dict[str, int], tally] = {}  # term -> how many documents have it
    longest: Annotated[tuple[int, str], maximum] = (0, "")
    hosts: Annotated[set[str], union] = set()
    broken: Annotated[list[str], append] = []
    unread: Annotated[list[str], append] = []
    rows: Annotated[list[Row], append] = []
    telling: Annotated[dict[str, list[str]], merge] = {}  # path -> its keywords by tf-idf
    keywords: list[str] = []  # of the corpus
    turns: Annotated[int, add] = 0
    notes: Annotated[list[str], append] = []
    summaries: Annotated[dict[str, str], merge] = {}  # path -> what an agent says of it
    report: str = ""


@dataclass(frozen=True, slots=True)
class Desk:
    """What this process lends to a run. Nothing of it is stored."""

    report: Path
    pause_s: float = 0.0
    """Before each document."""


@dataclass(frozen=True, slots=True)
class Source:
    """A document that was read."""

    task: Task
    text: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """A document whose structure is known."""

    task: Task
    outline: Outline
    links: tuple[list[str], list[str]]
    """URLs, and relative targets."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What a document is, and how long."""

    path: str
    kind: str
    title: str
    headings: int
    words: int
    sentences: int


@dataclass(frozen=True, slots=True)
class Terms:
    """What a document is about."""

    counts: dict[str, int]
    candidates: tuple[Sentence, ...]


@dataclass(frozen=True, slots=True)
class Links:
    """Where a document leads."""

    urls: int
    relative: int
    broken: int


@dataclass(frozen=True, slots=True)
class Read:
    """What one branch found out."""

    path: str
    terms: Terms


@dataclass(frozen=True, slots=True)
class Draft:
    """A summary on its way. `chosen` and `left` are sentences, the best first."""

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
        """The corpus's keywords that the summary mentions."""
        return {term for sentence in self.chosen for term in sentence.terms} & set(self.keywords)
