"""Live records: the progress of one attempt, as the worker sends it to the followers of the run.

A record has consecutive pieces of the attempt's text and the position of the first one. So a follower recognizes pieces
that it has already received, by side channel or heartbeat, and notices missing ones. Records come from another process:
each field is checked.
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["LiveRecord"]

_NAME_CHARS = 100_000
_COUNT_MAX = 1 << 31


class LiveRecord(NamedTuple):
    """Pieces of text that one attempt has emitted. A record without pieces reports that the attempt has begun."""

    run_id: str
    node: str
    token: str
    attempt: int
    tries: int
    """How often workers have begun this attempt: more than once if one was lost."""
    first: int
    """The number of pieces before these."""
    pieces: tuple[str, ...]
    is_over: bool = False
    """Whether the attempt has ended. Its step follows."""

    @classmethod
    def from_plain(cls, plain: Any) -> LiveRecord:
        """Rebuild a record. Raises `ValueError` if `plain` is not one."""
        if not isinstance(plain, tuple | list) or len(plain) != len(cls._fields):
            msg = f"a live record has {len(cls._fields)} fields"
            raise ValueError(msg)
        run_id, node, token, attempt, tries, first, pieces, is_over = plain
        names, counts = (run_id, node, token), (attempt, tries, first)
        is_valid = all(isinstance(name, str) and len(name) <= _NAME_CHARS for name in names)
        is_valid &= all(type(count) is int and 0 <= count < _COUNT_MAX for count in counts)
        is_valid &= isinstance(pieces, tuple | list) and all(isinstance(piece, str) for piece in pieces)
        if not is_valid or type(is_over) is not bool:
            msg = "a field of a live record has a wrong type or is out of range"
            raise ValueError(msg)
        return cls(run_id, node, token, attempt, tries, first, tuple(pieces), is_over)
