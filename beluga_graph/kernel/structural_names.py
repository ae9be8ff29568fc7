"""Structural names: of places and timers, made of the names of tokens and scopes.

A token is named `<place><node>#<visit>`. Branch `i` of a scope is the place `<scope>[i]/`. The timer of a token is
`t:<token>`, that of a scope `s:<scope>`. These names are part of keys and records on disk, so they never change.
"""

from __future__ import annotations

__all__ = [
    "RUN_TIMER",
    "SCOPE_TIMER",
    "TOKEN_TIMER",
    "branch_place",
    "is_inside",
    "scope_timer",
    "split_branch_place",
    "split_timer",
    "token_timer",
]

TOKEN_TIMER, SCOPE_TIMER = "t:", "s:"  # the kinds of timers: how their names begin
RUN_TIMER = SCOPE_TIMER  # the deadline of the run, whose scope has no name


def branch_place(scope: str, branch: int) -> str:
    """Return the place of a branch of a fan-out. The inside of a frame is its branch 0."""
    return f"{scope}[{branch}]/"


def split_branch_place(place: str) -> tuple[str, int]:
    """Return the scope and the branch of a place other than `""`, the place of the run itself."""
    scope, _, branch = place[:-2].rpartition("[")
    return scope, int(branch)


def is_inside(name: str, scope: str) -> bool:
    """Return whether a token, scope or place is in a branch of a scope, at any depth."""
    return name.startswith(f"{scope}[")


def token_timer(token: str) -> str:
    """Return the name of a token's timer: of a retry, a pause, or the timeout of a wait."""
    return f"t:{token}"


def scope_timer(scope: str) -> str:
    """Return the name of a scope's timer: the deadline of a frame, or the timeout of a join."""
    return f"s:{scope}"


def split_timer(timer: str) -> tuple[str, str]:
    """Return the kind of a timer, `TOKEN_TIMER` or `SCOPE_TIMER`, and the name of its token or scope.

    The name is `""` for the timer of the run itself.
    """
    return timer[:2], timer[2:]
