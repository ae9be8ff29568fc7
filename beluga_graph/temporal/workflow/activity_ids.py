"""The ids of activities, by which the server shows which attempt an activity begins with."""

from __future__ import annotations

import hashlib

__all__ = ["activity_id", "shown"]

_ID_CHARS = 200


def activity_id(token: str, attempt: int) -> str:
    """Return an id that a replay computes again. The server refuses long ones, and half characters of UTF-16."""
    name = f"{token}@{attempt}"
    is_accepted = len(name) <= _ID_CHARS and shown(name) == name
    return name if is_accepted else hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def shown(name: str) -> str:
    """Return a name as the server can show it."""
    return name.encode("utf-8", "replace").decode()
