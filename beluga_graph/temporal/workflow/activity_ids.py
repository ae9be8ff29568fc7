"""The ids of activities, by which the server shows which attempt an activity begins with."""

from __future__ import annotations

import hashlib

__all__ = ["make_activity_id", "replace_surrogates"]

_ID_CHARS = 200


def make_activity_id(token: str, attempt: int) -> str:
    """Return the id of an activity, by the attempt that it begins with. A replay computes the same one.

    The server refuses long ids, and those with half characters of UTF-16: these become a digest.
    """
    name = f"{token}@{attempt}"
    is_accepted = len(name) <= _ID_CHARS and replace_surrogates(name) == name
    return name if is_accepted else hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def replace_surrogates(name: str) -> str:
    """Return a name with `?` for each half character of UTF-16, which the server cannot show."""
    return name.encode("utf-8", "replace").decode()
