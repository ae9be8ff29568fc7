"""`Persona`: the beginning of the system prompt of an agent."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Persona"]


@dataclass(frozen=True, slots=True)
class Persona:
    """Role, goal and backstory of an agent, as the beginning of its system prompt.

    Attributes:
        role: Completes "You are ...", with or without an article.
        goal: Completes "Your goal is to ...".
        backstory: Sentences that are used unchanged.
    """

    role: str | None = None
    goal: str | None = None
    backstory: str | None = None

    def prompt(self) -> str:
        """Return the persona as text for a model. Parts that are not set are omitted."""
        lines = []
        if self.role:
            lines.append(f"You are {_with_article(self.role)}.")
        if self.goal:
            lines.append(f"Your goal is to {self.goal}.")
        if self.backstory:
            lines.append(self.backstory)
        return "\n".join(lines)


def _with_article(role: str) -> str:
    if role.partition(" ")[0].lower() in ("a", "an", "the"):
        return role
    return f"an {role}" if role[0].lower() in "aeiou" else f"a {role}"
