"""The errors of the codec, one class for each reason.

    SnapshotError
    ├── NotData         a value that cannot be stored, or would not come back unchanged
    ├── TooDeep         a value or bytes nested beyond the limit
    ├── TooLarge        a value or bytes beyond the limit
    ├── NameTaken       two classes that would share one name in the bytes
    ├── UnknownType     bytes that hold an instance of an unregistered class
    ├── DoesNotFit      bytes whose fields the registered class refuses
    ├── DamagedValue    bytes that are not an encoded value
    └── DamagedRecord   bytes that are not a record, or a record other than the one requested

Every error keeps its fields, survives pickling and names a way out.
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

_NAMES_SHOWN = 8  # a flow may register hundreds of classes; the first few identify the program


class TooDeep(SnapshotError):
    """A value or bytes are nested too deep to be written or read.

    Attributes:
        levels: The deepest nesting that is written or read.
    """

    def __init__(self, levels: int) -> None:
        super().__init__(levels)
        self.levels = levels

    def __str__(self) -> str:
        return (
            f"nested deeper than {self.levels:,} levels (each list, dict or object is one or two): "
            "flatten the value, or break the cycle if it contains itself"
        )


class TooLarge(SnapshotError):
    """A value or bytes are longer than the limit. None of the bytes were parsed.

    Attributes:
        size: Number of bytes.
        limit: The most that is allowed.
        name: Name of the setting that raises the limit.
    """

    def __init__(self, size: int, limit: int, name: str = "max_bytes") -> None:
        super().__init__(size, limit, name)
        self.size, self.limit, self.name = size, limit, name

    def __str__(self) -> str:
        return (
            f"{self.size:,} bytes are more than the limit of {self.limit:,}: "
            f"pass a reference (a path, a key, a URL) instead of the content, or raise {self.name}"
        )


class NameTaken(SnapshotError):
    """Two different classes have the same name in stored bytes, so a reader could not distinguish them.

    Attributes:
        name: The shared name.
        first: The class registered first.
        second: The class that was refused.
    """

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
    """The bytes hold an instance of a class that is not registered.

    Attributes:
        name: Name of the class in the bytes.
        known: Names of the registered classes.
    """

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(name, known)
        self.name, self.known = name, known

    def __str__(self) -> str:
        names = [repr(name) for name in self.known[:_NAMES_SHOWN]]
        more = len(self.known) - len(names)
        listed = ", ".join(names) + (f" and {more:,} more" if more else "") or "none"
        return (
            f"the bytes hold a {self.name!r}, which is not registered (registered: {listed}): "
            "register the class, or read with lenient=True to only look at it"
        )


class DoesNotFit(SnapshotError):
    """The bytes hold a registered class, but an instance can no longer be made from the stored fields.

    Attributes:
        name: Name of the class in the bytes.
        detail: Why the class refuses the fields.
    """

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(name, detail)
        self.name, self.detail = name, detail

    def __str__(self) -> str:
        return (
            f"a stored {self.name!r} does not fit the current class: {self.detail}: "
            "give new fields a default, keep old ones, and let validators accept their own results"
        )


class DamagedValue(SnapshotError):
    """The bytes are not an encoded value.

    Attributes:
        detail: Why they cannot be parsed.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def __str__(self) -> str:
        return f"not an encoded value: {self.detail}: restore it from a backup; no part of it was used"


class DamagedRecord(SnapshotError):
    """A stored record differs from the one that was sealed, or is missing.

    Attributes:
        what: The record.
        detail: What is wrong with it.
    """

    def __init__(self, what: str, detail: str) -> None:
        super().__init__(what, detail)
        self.what, self.detail = what, detail

    def __str__(self) -> str:
        return f"{self.what} {self.detail}; no part of it was used"


def _origin(cls: type[Any]) -> str:
    return f"{cls.__module__}.{cls.__qualname__} at {id(cls):#x}"
