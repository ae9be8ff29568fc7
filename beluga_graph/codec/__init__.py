"""Values to bytes and back: a closed set of types, and nothing in the bytes can run code.

The module in four parts, lowest first:

    errors      what is refused, and why (shown: how an error shows a value)
    registry    Registry: the classes whose instances values may hold
    values      Codec: users' values (leaves, instances, standin: their kinds; walk: finds what is to blame;
                fixed: which of them cannot be changed; crowds: what would take too long)
    records     seal, unseal: the frame around everything that is stored

No name found in bytes is ever imported or called: it is looked up among the registered classes. There is one
format and none to fall back to.
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
from beluga_graph.codec.immutable import is_fixed
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
    "is_fixed",
    "seal",
    "unseal",
]
