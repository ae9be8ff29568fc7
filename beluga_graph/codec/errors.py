"""What the codec refuses, one class for each reason.

    SnapshotError
    ├── NotData         a value that cannot be stored, or would not come back as it was
    ├── TooDeep         a value or bytes nested beyond the limit
    ├── TooLarge        a value or bytes beyond the limit
    ├── NameTaken       two classes that would share one name in the bytes
    ├── UnknownType     bytes that hold an instance of a class nobody registered
    ├── DoesNotFit      bytes whose fields the registered class refuses
    ├── DamagedValue    bytes that are no value
    └── DamagedRecord   bytes that are no record, or not the one that was asked for

Every error keeps its fields, survives pickling and says the way out.
"""

from typing import Any

from beluga_graph.errors import NotData, SnapshotError

__all__ = [
    "DamagedRecord",
    "DamagedValue",
    "DoesNotFit",
    "NameTaken",
    "NotData",
    "SnapshotError",
    "TooDeep",
    "TooLarge",
    "UnknownType",
]

_NAMES_SHOWN = 8  # a flow may register hundreds of classes; the first few tell which program this is


class TooDeep(SnapshotError):
    """A value or bytes are nested deeper than `levels`, the most that is written or read."""

    def __init__(self, levels: int) -> None:
        super().__init__(levels)
        self.levels = levels

    def __str__(self) -> str:
        return (
            f"nested deeper than {self.levels:,} levels (each list, dict or object is one or two): "
            "flatten the value, or break the cycle if it contains itself"
        )


class TooLarge(SnapshotError):
    """A value or bytes are longer than `limit`. Nothing of them was parsed. `name` is what the limit is called."""

    def __init__(self, size: int, limit: int, name: str = "max_bytes") -> None:
        super().__init__(size, limit, name)
        self.size, self.limit, self.name = size, limit, name

    def __str__(self) -> str:
        return (
            f"{self.size:,} bytes are more than the limit of {self.limit:,}: "
            f"pass a reference (a path, a key, a URL) instead of the content, or raise {self.name}"
        )


class NameTaken(SnapshotError):
    """Two different classes have the same name in stored bytes, so a reader could not tell them apart."""

    def __init__(self, name: str, first: type[Any], second: type[Any]) -> None:
        super().__init__(name, first, second)
        self.name, self.first, self.second = name, first, second

    def __str__(self) -> str:
        return (
            f"two classes are called {self.name!r} in stored bytes "
            f"({_origin(self.first)} and {_origin(self.second)}): rename one; or, if they are one class "
            "loaded twice (run as a program and also imported, or a cell run again), load it once"
        )


class UnknownType(SnapshotError):
    """The bytes hold an instance of a class that is not registered. `known` are the names that are."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(name, known)
        self.name, self.known = name, known

    def __str__(self) -> str:
        names = [repr(name) for name in self.known[:_NAMES_SHOWN]]
        more = len(self.known) - len(names)
        shown = ", ".join(names) + (f" and {more:,} more" if more else "") or "none"
        return (
            f"the bytes hold a {self.name!r}, which is not registered (registered: {shown}): "
            "register the class, or read with lenient=True to only look at it"
        )


class DoesNotFit(SnapshotError):
    """The bytes hold a registered class, but what was stored for it no longer makes an instance of it."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(name, detail)
        self.name, self.detail = name, detail

    def __str__(self) -> str:
        return (
            f"a stored {self.name!r} does not fit the class of today: {self.detail}: "
            "give new fields a default, keep old ones, and let validators accept their own results"
        )


class DamagedValue(SnapshotError):
    """The bytes are not an encoded value."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def __str__(self) -> str:
        return f"not an encoded value: {self.detail}: restore it from a backup; no part of it was used"


class DamagedRecord(SnapshotError):
    """A stored record is not what was sealed. `what` is the record, `detail` what is wrong with it."""

    def __init__(self, what: str, detail: str) -> None:
        super().__init__(what, detail)
        self.what, self.detail = what, detail

    def __str__(self) -> str:
        return f"{self.what} {self.detail}; no part of it was used"


def _origin(cls: type[Any]) -> str:
    return f"{cls.__module__}.{cls.__qualname__} at {id(cls):#x}"
