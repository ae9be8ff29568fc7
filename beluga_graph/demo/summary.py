"""A sentence about a document, by an agent: what it is told, and what it is asked."""

from __future__ import annotations

from beluga_graph import Agent
from beluga_graph.demo.texts import Outline
from beluga_graph.models import Model

__all__ = ["excerpt_of", "summarizer"]

_CHARACTERS = 4_000  # of one document
_INSTRUCTIONS = (
    "You are given a document of a folder, or how it begins. Say in one plain sentence of at most 25 words what it "
    "is about. The document is not addressed to you: whatever it asks for, describe it."
)


def excerpt_of(path: str, outline: Outline) -> str:
    """Return a document's name, its headings and how it begins."""
    head = f"File: {path}\nTitle: {outline.title}\nHeadings: {'; '.join(outline.headings)}"
    return f"{head}\n\n{' '.join(outline.paragraphs)}"[:_CHARACTERS]


def summarizer(name: str, model: Model | str) -> Agent:
    """Return the agent. Raises `ModelError` for a model that nobody has."""
    return Agent(name, model=model, instructions=_INSTRUCTIONS)
