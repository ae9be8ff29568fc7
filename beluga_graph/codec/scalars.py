"""Scalars that msgpack cannot write: big ints, dates and times, UUID, Decimal.

Each is written as a list of plain data behind a mark (see `values`). Each reader is the inverse of its writer.
A reader may be called with hostile data and may raise any exception.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

__all__ = ["NATIVE_SCALARS", "SCALAR_READERS", "SCALAR_WRITERS", "Refused"]

NATIVE_SCALARS = frozenset({str, bytes, int, float, bool, type(None)})

# Stored in bytes: a number never changes its meaning and is never reused.
BIG_INT, DATETIME, DATE, TIME, TIMEDELTA, UUID_, DECIMAL = 1, 5, 6, 7, 8, 9, 10

_MICROSECOND = timedelta(microseconds=1)
# zoneinfo opens a file (or imports a package of tzdata) by this name, so other paths must not match.
_ZONE_KEY = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")


class Refused(Exception):
    """A value cannot be written; the message is the reason."""


def _write_int(value: int) -> list[Any]:
    # Bytes, not digits: linear, and free of Python's limit on long decimal numbers.
    return [value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)]


def _read_int(content: bytes) -> int:
    return int.from_bytes(content, "big", signed=True)


def _write_zone(zone: tzinfo | None) -> Any:
    if zone is None:
        return None
    if type(zone) is ZoneInfo and zone.key is not None and _ZONE_KEY.fullmatch(zone.key):
        return zone.key
    if type(zone) is timezone:
        offset, name = zone.utcoffset(None), zone.tzname(None)
        return [offset // _MICROSECOND, None if name == timezone(offset).tzname(None) else name]
    if (fixed := _find_pydantic_offset(zone)) is not None:
        return [fixed // _MICROSECOND, None]
    reason = f"its time zone is a {type(zone).__name__}: use zoneinfo.ZoneInfo or datetime.timezone"
    raise Refused(reason)


def _find_pydantic_offset(zone: tzinfo) -> timedelta | None:
    """Return the offset of a zone that pydantic made of a text such as `2030-01-31T09:00:00Z`; `None` for others."""
    from pydantic_core import TzInfo  # noqa: PLC0415 - slow, and loaded already if there is such a zone

    return zone.utcoffset(None) if type(zone) is TzInfo else None


def _read_zone(stored: Any) -> tzinfo | None:
    if stored is None:
        return None
    if isinstance(stored, str):
        if not _ZONE_KEY.fullmatch(stored):
            raise ValueError(f"{stored!r} is not the name of a time zone")
        return ZoneInfo(stored)
    microseconds, name = stored
    offset = timedelta(microseconds=microseconds)
    if name is not None:
        return timezone(offset, name)
    # Return the one UTC object: programs compare with it by `is`.
    return timezone(offset) if offset else UTC


def _write_datetime(value: datetime) -> list[Any]:
    return [value.replace(tzinfo=None).isoformat(), value.fold, _write_zone(value.tzinfo)]


def _read_datetime(text: str, fold: int, zone: Any) -> datetime:
    return datetime.fromisoformat(text).replace(fold=fold, tzinfo=_read_zone(zone))


def _write_time(value: time) -> list[Any]:
    return [value.replace(tzinfo=None).isoformat(), value.fold, _write_zone(value.tzinfo)]


def _read_time(text: str, fold: int, zone: Any) -> time:
    return time.fromisoformat(text).replace(fold=fold, tzinfo=_read_zone(zone))


# By exact type: a subclass may hold data that is not written here.
SCALAR_WRITERS: dict[type[Any], tuple[int, Callable[[Any], list[Any]]]] = {
    int: (BIG_INT, _write_int),
    datetime: (DATETIME, _write_datetime),
    date: (DATE, lambda value: [value.isoformat()]),
    time: (TIME, _write_time),
    timedelta: (TIMEDELTA, lambda value: [value.days, value.seconds, value.microseconds]),
    UUID: (UUID_, lambda value: [value.bytes]),
    Decimal: (DECIMAL, lambda value: [str(value)]),
}
SCALAR_READERS: dict[int, Callable[..., Any]] = {
    BIG_INT: _read_int,
    DATETIME: _read_datetime,
    DATE: date.fromisoformat,
    TIME: _read_time,
    TIMEDELTA: timedelta,
    UUID_: lambda content: UUID(bytes=content),
    DECIMAL: Decimal,
}
