"""Sample classes, and strategies for every kind of value that the codec accepts."""

import enum
import functools
from dataclasses import dataclass, field
from datetime import UTC, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, RootModel

from beluga_graph.codec import Codec, Registry


class Color(enum.Enum):
    RED = "red"
    CRIMSON = "red"  # noqa: PIE796 - an alias
    BLUE = ("tuple", 1)


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Right(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass(frozen=True)
class Point:
    x: Any
    y: Any = None


@dataclass(slots=True, kw_only=True)
class Tally:
    name: str
    total: int = field(default=0, init=False)


class Doc(BaseModel):
    title: str
    tags: list[str] = []
    extent: float | None = Field(default=None, alias="len")
    anything: Any = None


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    n: int = 0


class Names(RootModel[list[str]]):
    pass


class Secretive(BaseModel):
    n: int
    _seen: int = PrivateAttr(default=0)

    @functools.cached_property
    def double(self) -> int:
        return self.n * 2


REGISTRY = Registry.of(Color, Level, Right, Point, Tally, Doc, Open, Names, Secretive)
CODEC = Codec(REGISTRY)

texts = st.text(alphabet=st.characters(codec=None), max_size=20)  # with NUL and lone surrogates
zones = st.one_of(
    st.none(),
    st.just(UTC),
    st.sampled_from(["Europe/Berlin", "UTC", "America/Argentina/Buenos_Aires", "Etc/GMT+5"]).map(ZoneInfo),
    st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone),
    st.builds(timezone, st.just(timedelta(hours=2)), texts),
)
hashable_leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**80), 2**80),
    st.floats(),
    texts,
    st.binary(max_size=20),
    st.builds(
        lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold),
        st.datetimes(),
        zones,
        st.integers(0, 1),
    ),
    st.dates(),
    st.builds(lambda moment, zone: moment.replace(tzinfo=zone), st.times(), zones),
    st.timedeltas(),
    st.uuids(),
    st.decimals(allow_nan=False),
    st.sampled_from([Color.RED, Color.BLUE, Level.HIGH, Right.READ, Right.READ | Right.WRITE, Right(0)]),
)
hashables = st.recursive(
    hashable_leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.frozensets(inner, max_size=3),
        st.builds(Point, inner, inner),
    ),
    max_leaves=5,
)


def tally(name: str, total: int) -> Tally:
    made = Tally(name=name)
    made.total = total
    return made


values = st.recursive(
    hashables,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(hashables, inner, max_size=4),
        st.sets(hashables, max_size=4),
        st.builds(Point, inner, inner),
        st.builds(tally, texts, st.integers()),
        st.builds(Doc, title=texts.filter(str.isprintable), anything=inner),
        st.builds(lambda extra: Open(n=1, **extra), st.dictionaries(st.sampled_from(["a", "b"]), inner)),
    ),
    max_leaves=12,
)
