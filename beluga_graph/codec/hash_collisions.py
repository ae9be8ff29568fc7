"""Refuses sets and dicts with many elements or keys of one hash.

Each of those is compared with all others of its hash, so building the set or dict takes time that grows with
the square of their number. Equal hashes are easy to choose for ints, UUIDs and Decimals, and for tuples of
them: 200 KB can keep a reader busy for seconds. The writer and the reader both refuse such a set or dict.
"""

import re
from collections import Counter
from collections.abc import Collection
from typing import Any

__all__ = ["COLLISIONS", "find_large_dicts", "has_collisions", "has_large_dict"]

_EQUAL_MAX = 256
COLLISIONS = (
    f"more than {_EQUAL_MAX} of its parts have one hash: use a list, or a class whose hash distinguishes its values"
)
_LARGE = re.compile(rb"\xde[\x01-\xff]|\xdf")  # how msgpack begins a dict of 256 entries or more


def has_collisions(parts: Collection[Any]) -> bool:
    """Return whether too many elements of a set, or keys of a dict, have one hash."""
    return len(parts) > _EQUAL_MAX and max(Counter(map(hash, parts)).values()) > _EQUAL_MAX


def has_large_dict(blob: bytes) -> bool:
    """Return whether bytes may hold a dict large enough for too many collisions; may be a false alarm."""
    return _LARGE.search(blob) is not None


def find_large_dicts(value: Any) -> list[dict[Any, Any]]:
    """Return the dicts in a value that are large enough for too many collisions, except those inside instances."""
    found, todo = [], [value]
    while todo:
        part = todo.pop()
        if type(part) is dict:
            if len(part) > _EQUAL_MAX:
                found.append(part)
            part = part.values()
        todo.extend(inner for inner in part if type(inner) in (list, tuple, dict))
    return found
