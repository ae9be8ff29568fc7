"""Crowds: parts of one set or dict whose hashes are one, each of which is compared with all others.

Equal hashes are easy to choose for ints, UUIDs and Decimals, and for tuples of them. A crowd costs the square of its
size, so 200 KB can keep a reader busy for seconds. The writer and the reader both refuse one.
"""

import re
from collections import Counter
from collections.abc import Collection
from typing import Any

__all__ = ["CROWD", "has_large_dict", "is_crowded", "largest_dicts"]

_ALIKE_MAX = 256
CROWD = f"more than {_ALIKE_MAX} of its parts have one hash: use a list, or a class whose hash tells its values apart"
_LARGE = re.compile(rb"\xde[\x01-\xff]|\xdf")  # how msgpack begins a dict of 256 entries or more


def is_crowded(parts: Collection[Any]) -> bool:
    """Tell whether too many elements of a set, or keys of a dict, have one hash."""
    return len(parts) > _ALIKE_MAX and max(Counter(map(hash, parts)).values()) > _ALIKE_MAX


def has_large_dict(blob: bytes) -> bool:
    """Tell whether bytes may hold a dict that could be crowded; wrong now and then, if the answer is yes."""
    return _LARGE.search(blob) is not None


def largest_dicts(value: Any) -> list[dict[Any, Any]]:
    """Return the dicts in a value that could be crowded, but for those inside instances."""
    found, todo = [], [value]
    while todo:
        part = todo.pop()
        if type(part) is dict:
            if len(part) > _ALIKE_MAX:
                found.append(part)
            part = part.values()
        todo.extend(inner for inner in part if type(inner) in (list, tuple, dict))
    return found
