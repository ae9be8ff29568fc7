"""Values to bytes and back: a closed set of types, and nothing in the bytes can run code.

The modules, lowest first:

    errors            one error for each reason to refuse a value or bytes
    safe_repr         formats text and values from outside for error messages and terminals
    entry             the facts about one class whose instances values may hold
    registry          Registry: those classes, each with its entry
    scalars, instances, stand_in    how each kind of value is written
    hash_collisions   refuses sets and dicts that would take too long to build
    value_paths       finds the part of a value that cannot be written
    values            Codec: encodes and decodes users' values
    immutable         finds values that no reader can change
    to_json           converts values to JSON, for people and other programs
    references        stand for large values, which are stored apart
    records           seal, unseal: the frame around everything that is stored

No name found in bytes is ever imported or called: it is looked up among the registered classes. There is one
format and no fallback.
"""

from beluga_graph.codec.errors import (
    DamagedRecord,
    DamagedValue,
    DoesNotFit,
    NameTaken,
    NotData,
    SnapshotError,
    TooDeep,
    TooLarge,
    UnknownType,
)
from beluga_graph.codec.immutable import is_immutable
from beluga_graph.codec.records import seal, unseal
from beluga_graph.codec.registry import Registry
from beluga_graph.codec.stand_in import StandIn
from beluga_graph.codec.values import MAX_BYTES, Codec, Unregistered, decode, encode

__all__ = [
    "MAX_BYTES",
    "Codec",
    "DamagedRecord",
    "DamagedValue",
    "DoesNotFit",
    "NameTaken",
    "NotData",
    "Registry",
    "SnapshotError",
    "StandIn",
    "TooDeep",
    "TooLarge",
    "UnknownType",
    "Unregistered",
    "decode",
    "encode",
    "is_immutable",
    "seal",
    "unseal",
]
