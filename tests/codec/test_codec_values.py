"""A stored value comes back exactly as it was; every other value is refused, and the error names the part."""

import copy
import math
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import InitVar, dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import msgpack
import pytest
from codec_samples import CODEC, REGISTRY, Color, Doc, Level, Names, Open, Point, Secretive, values
from hypothesis import example, given, settings
from pydantic import BaseModel, TypeAdapter, field_validator

from beluga_graph.codec import (
    Codec,
    DoesNotFit,
    NotData,
    Registry,
    SnapshotError,
    TooDeep,
    TooLarge,
    UnknownType,
    Unregistered,
    decode,
    encode,
)


def same(left: Any, right: Any) -> bool:
    """Return whether two values are equal, of the same types at every level, with NaN equal to itself."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return math.isnan(left) == math.isnan(right) and (math.isnan(left) or repr(left) == repr(right))
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return same(list(left.items()), list(right.items()))
    if isinstance(left, set | frozenset):
        rest = list(right)
        for each in left:
            match = next((other for other in rest if same(each, other)), rest)
            if match is rest:
                return False
            rest = [other for other in rest if other is not match]
        return not rest
    if isinstance(left, datetime | time):
        return (left, left.fold, repr(left.tzinfo)) == (right, right.fold, repr(right.tzinfo))
    if isinstance(left, BaseModel):
        return (
            same(left.__dict__, right.__dict__)
            and same(left.__pydantic_extra__, right.__pydantic_extra__)
            and left.model_fields_set == right.model_fields_set
            and same(left.__pydantic_private__, right.__pydantic_private__)
        )
    if isinstance(left, Point):
        return same([left.x, left.y], [right.x, right.y])
    return bool(left == right)


@settings(max_examples=300, deadline=None)
@given(values)
@example([float("nan"), -0.0, 0.0, float("inf"), "\ud800\x00", 2**64, -(2**63) - 1, 10**6000])
@example({(1, frozenset({(2,)})): {1: [], "1": (), None: {}, b"1": set()}})
@example([UTC, 1][1:])
@example(Decimal("-0E+10"))
@example(datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")))
@example(datetime.max)  # noqa: DTZ901 - naive on purpose
@example(timedelta.min)
def test_every_value_comes_back_unchanged(value: Any) -> None:
    blob = CODEC.encode(value)
    again = CODEC.decode(blob)
    assert same(value, again)
    assert CODEC.encode(again) == blob


def test_each_decode_returns_a_new_value() -> None:
    blob = CODEC.encode({"a": [1]})
    first = CODEC.decode(blob)
    first["a"].append(2)
    assert CODEC.decode(blob) == {"a": [1]}


def test_the_functions_do_what_the_codec_does() -> None:
    blob = encode(Point(1), REGISTRY)
    assert blob == CODEC.encode(Point(1))
    assert decode(blob, REGISTRY) == Point(1)
    assert decode(blob, Registry(), lenient=True).fields == {"x": 1, "y": None}


def test_utc_is_the_same_object_again() -> None:
    assert CODEC.decode(CODEC.encode(datetime.now(UTC))).tzinfo is UTC


def test_a_decimal_that_signals_comes_back() -> None:
    assert str(CODEC.decode(CODEC.encode([Decimal("sNaN"), Decimal("-Infinity")]))[0]) == "sNaN"


def test_a_model_keeps_its_set_extra_and_private_fields() -> None:
    doc = CODEC.decode(CODEC.encode(Doc(title="t", len=1.5)))
    assert (doc.extent, doc.model_fields_set) == (1.5, {"title", "extent"})
    opened = CODEC.decode(CODEC.encode(Open.model_validate({"z": (1,), "a": {2}})))
    assert (opened.z, opened.a, opened.model_fields_set) == ((1,), {2}, {"z", "a"})
    secretive = Secretive(n=2)
    secretive._seen = 7
    assert secretive.double == 4
    assert CODEC.decode(CODEC.encode(secretive))._seen == 7
    assert CODEC.decode(CODEC.encode(Names(["a"]))) == Names(["a"])


def test_sets_of_sets_take_no_exponential_time() -> None:
    nested: frozenset[Any] = frozenset({1, "a"})
    for level in range(30):
        nested = frozenset({nested, level})
    assert CODEC.decode(CODEC.encode([nested, {nested}])) == [nested, {nested}]


def test_equal_sets_are_equal_bytes_whatever_order_they_were_filled_in() -> None:
    some = [1, "1", (2, 3), None, 2.5, b"x", frozenset({1, "a"}), *range(100, 2000, 64)]
    backwards = some[::-1]
    assert CODEC.encode(set(some)) == CODEC.encode(set(backwards))


class Pair(NamedTuple):
    a: int
    b: int


class Text(str):
    __slots__ = ()


@dataclass
class Loose:
    x: int


class Base(BaseModel):
    x: int


class Derived(Base):
    y: int = 1


class Mute:
    def __repr__(self) -> str:
        raise RuntimeError("no")


LOCK = threading.Lock()
UNREGISTERED = "its class is not registered: annotate a node or a tool with it, or name it in types= of the flow"
LIVE = "a live object cannot be stored: pass the data that it is made from, and keep it among the engine's deps"
CODE = "code is never stored: pass a name and look it up where it is used"


@pytest.mark.parametrize(
    ("value", "path", "type_name", "reason"),
    [
        (LOCK, "", "_thread.lock", LIVE),
        ({"docs": [1, 2, {"x": LOCK}]}, "['docs'][2]['x']", "_thread.lock", LIVE),
        (Point(1, [Doc(title="t", anything=(LOCK,))]), ".y[0].anything[0]", "_thread.lock", LIVE),
        (Open.model_validate({"more": [print]}), ".more[0]", "builtin_function_or_method", CODE),
        ([Doc], "[0]", "pydantic._internal._model_construction.ModelMetaclass", CODE),
        ({1, Mute}, "{}", "type", CODE),
        ([Mute()], "[0]", f"{__name__}.Mute", LIVE),
        ({Loose: 1}, f"{{key {Loose!r}}}", "type", CODE),
        ([Loose(1)], "[0]", f"{__name__}.Loose", UNREGISTERED),
        ([1, Derived(x=1)], "[1]", f"{__name__}.Derived", UNREGISTERED),
        (
            Pair(1, 2),
            "",
            f"{__name__}.Pair",
            "it would come back as a plain tuple: use a dataclass, or tuple(...)",
        ),
        (
            [Text("a")],
            "[0]",
            f"{__name__}.Text",
            "it would come back as a plain str: use str(...), or a dataclass",
        ),
        (
            OrderedDict(a=1),
            "",
            "collections.OrderedDict",
            "it would come back as a plain dict: use dict(...), or a dataclass",
        ),
        ([1j], "[0]", "complex", LIVE),
        ([[msgpack.ExtType(1, b"\x02")]], "[0][0]", "msgpack.ext.ExtType", None),
        ([msgpack.Timestamp(1)], "[0]", "msgpack.ext.Timestamp", LIVE),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_value_that_is_not_data_is_refused_with_its_path(
    value: Any, path: str, type_name: str, reason: str | None
) -> None:
    codec = Codec(Registry.of(Point, Doc, Open, Base))
    with pytest.raises(NotData) as caught:
        codec.encode(value)
    assert (caught.value.path, caught.value.type_name) == (path, type_name)
    assert reason is None or caught.value.reason == reason
    assert len(caught.value.shown) <= 80
    # The packer is reused after a failure and keeps no trace of the failed value.
    assert codec.decode(codec.encode([1, (2,)])) == [1, (2,)]


def test_the_message_names_the_path_shows_the_value_and_gives_the_way_out() -> None:
    with pytest.raises(NotData) as caught:
        CODEC.encode({"docs": [{"x": Loose(3)}]})
    assert str(caught.value) == (
        f"the value at ['docs'][0]['x'] is not data: {__name__}.Loose Loose(x=3): "
        "its class is not registered: annotate a node or a tool with it, or name it in types= of the flow"
    )
    with pytest.raises(NotData) as caught:
        CODEC.encode(Mute())
    assert str(caught.value).startswith(f"the value is not data: {__name__}.Mute <Mute instance at 0x")
    assert str(caught.value).endswith(f">: {LIVE}")


def test_a_time_zone_of_another_kind_is_refused() -> None:
    class Here(tzinfo):
        pass

    with pytest.raises(NotData, match=re.escape("the value at [0] is not data: datetime.datetime")):
        CODEC.encode([datetime(2024, 1, 1, tzinfo=Here())])


@pytest.mark.parametrize("text", ["2030-01-31T09:00:00Z", "2030-01-31T09:00:00-03:30"])
def test_a_time_that_pydantic_read_from_text_is_stored_with_its_offset(text: str) -> None:
    moment = TypeAdapter(datetime).validate_python(text)
    restored = CODEC.decode(CODEC.encode(moment))
    assert restored == moment
    assert restored.utcoffset() == moment.utcoffset()
    assert type(restored.tzinfo) is timezone


class Doubling(BaseModel):
    n: int
    inner: Any = None

    @field_validator("n")
    @classmethod
    def twice(cls, n: int) -> int:
        return n * 2


@dataclass
class Fed:
    x: int
    seed: InitVar[int]

    def __post_init__(self, seed: int) -> None:
        self.x += seed


@dataclass(eq=False)
class ByIdentity:
    x: float


class Number(BaseModel):
    x: float


def test_a_value_that_does_not_come_back_equal_is_refused() -> None:
    codec = Codec(Registry.of(Doubling, Fed, Point, Number))
    with pytest.raises(NotData) as caught:
        codec.encode([1, Point(Doubling(n=1, inner=Point(1)))])
    assert str(caught.value) == (
        f"the value at [1].x is not data: {__name__}.Doubling {Doubling(n=1, inner=Point(1))!r}: "
        "it does not come back equal (a field changed on the way): "
        "let its constructor accept its own fields unchanged"
    )
    with pytest.raises(NotData, match=r"missing 1 required positional argument: 'seed'"):
        codec.encode(Fed(1, 2))
    with pytest.raises(NotData, match="a field changed on the way"):
        codec.encode(Number.model_construct(x=1))


@pytest.mark.parametrize(
    "loose", [bytearray(b"abc"), memoryview(b"abc"), bytearray()], ids=["bytearray", "memoryview", "empty"]
)
@pytest.mark.parametrize(
    ("put", "path"),
    [
        (lambda part: part, ""),
        (lambda part: [1, {"a": part}], "[1]['a']"),
        (lambda part: (b"bytes", "text", part), "[2]"),
        (Point, ".x"),
        (lambda part: [Point(1), [Number(x=1), [part]]], "[1][1][0]"),
    ],
    ids=["itself", "in a dict", "in a tuple", "in a dataclass", "beside instances"],
)
def test_mutable_bytes_are_refused_because_they_would_come_back_as_bytes(
    loose: Any, put: Callable[[Any], Any], path: str
) -> None:
    with pytest.raises(NotData) as caught:
        Codec(Registry.of(Point, Number)).encode(put(loose))
    assert (caught.value.path, caught.value.type_name) == (path, type(loose).__name__)
    assert caught.value.reason == "it would come back as bytes: use bytes(...)"


def test_a_key_that_is_a_view_of_bytes_is_refused() -> None:
    for value in ({memoryview(b"a"): 1}, {memoryview(b"a")}, frozenset({memoryview(b"a"), 1})):
        with pytest.raises(NotData, match="it would come back as bytes"):
            CODEC.encode(value)


def test_loss_is_judged_by_content_not_by_the_equality_of_the_class() -> None:
    codec = Codec(Registry.of(ByIdentity))
    assert math.isnan(codec.decode(codec.encode([ByIdentity(float("nan"))]))[0].x)


def test_an_attribute_that_is_not_a_field_is_refused() -> None:
    loose = Loose(1)
    loose.more = 2  # type: ignore[attr-defined]
    with pytest.raises(NotData, match=r"its attribute 'more' is not a field and would be lost: declare it"):
        Codec(Registry.of(Loose)).encode(loose)


def test_nesting_ends_in_an_error_both_ways() -> None:
    nested: Any = 1
    for _ in range(500):
        nested = (nested,)
    assert CODEC.decode(CODEC.encode(nested)) == nested
    for _ in range(524):
        nested = [nested]
    blob = CODEC.encode(nested)  # the deepest that is written can be read
    assert CODEC.encode(CODEC.decode(blob)) == blob
    nested = [nested]
    with pytest.raises(
        TooDeep, match=r"^nested deeper than 1,024 levels \(each list, dict or object is one or two\): "
    ):
        CODEC.encode(nested)
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(TooDeep, match="break the cycle if it contains itself"):
        CODEC.encode(circle)
    sets: Any = frozenset()
    for _ in range(40):
        sets = frozenset({sets, 1})
    with pytest.raises(TooDeep, match="deeper than 32 levels"):
        CODEC.encode(sets)
    with pytest.raises(TooDeep):
        CODEC.decode(b"\x91" * 100_000 + b"\x90")


def test_size_ends_in_an_error_both_ways() -> None:
    codec = Codec(max_bytes=100)
    assert codec.decode(codec.encode("x" * 98)) == "x" * 98
    with pytest.raises(TooLarge) as caught:
        codec.encode("x" * 5000)
    assert str(caught.value) == (
        "5,003 bytes are more than the limit of 100: "
        "pass a reference (a path, a key, a URL) instead of the content, or raise max_bytes"
    )
    with pytest.raises(TooLarge):
        codec.decode(b"\xc1" * 101)


def test_an_unknown_class_is_refused_or_read_as_unregistered() -> None:
    blob = CODEC.encode({"d": [Point(Color.RED, Level.LOW)], "s": {Point(1)}})
    with pytest.raises(UnknownType) as caught:
        Codec(Registry.of(Doc, Color, Level)).decode(blob)
    assert str(caught.value) == (
        "the bytes hold a 'codec_samples:Point', which is not registered "
        "(registered: 'codec_samples:Color', 'codec_samples:Doc', 'codec_samples:Level'): "
        "register the class, or read with lenient=True to only look at it"
    )
    shown = Codec().decode(blob, lenient=True)
    assert shown["d"] == [
        Unregistered(
            "codec_samples:Point",
            {
                "x": Unregistered("codec_samples:Color", {"member": "RED"}),
                "y": Unregistered("codec_samples:Level", {"member": "LOW"}),
            },
        )
    ]
    with pytest.raises(NotData):
        Codec().encode(shown)


def version_of(**fields: Any) -> type[Any]:
    """Return a class of the same name with other fields, as a later release of a program could define it."""
    made = type(
        "Versioned",
        (BaseModel,),
        {"__annotations__": {n: t for n, (t, _) in fields.items()}}
        | {n: d for n, (_, d) in fields.items() if d is not ...},
    )
    made.__module__, made.__qualname__ = "app", "Versioned"
    return made


def test_a_class_may_gain_fields_with_defaults_and_nothing_else() -> None:
    old = version_of(a=(int, ...))
    blob = Codec(Registry.of(old)).encode(old(a=1))
    grown = version_of(a=(int, ...), b=(str, "new"))
    read = Codec(Registry.of(grown)).decode(blob)
    assert (read.a, read.b, read.model_fields_set) == (1, "new", {"a"})
    for changed, detail in [
        (version_of(a=(int, ...), b=(str, ...)), "b: Field required"),
        (version_of(b=(int, 1)), "it has no field 'a'"),
        (version_of(a=(list[int], ...)), "a: Input should be a valid list"),
    ]:
        with pytest.raises(DoesNotFit) as caught:
            Codec(Registry.of(changed)).decode(blob)
        assert str(caught.value) == (
            f"a stored 'app:Versioned' does not fit the current class: {detail}: "
            "give new fields a default, keep old ones, and let validators accept their own results"
        )
        shown = Codec(Registry.of(changed)).decode(blob, lenient=True)
        assert shown == Unregistered("app:Versioned", {"a": 1})


def test_an_unknown_field_or_member_of_a_known_class_is_an_error() -> None:
    blob = CODEC.encode(Point(1))
    with pytest.raises(DoesNotFit, match="it has no field '__class__'"):
        CODEC.decode(blob.replace(b"\x82\xa1x", b"\x82\xa9__class__"))
    with pytest.raises(DoesNotFit, match="it has no member 'mro'"):
        CODEC.decode(CODEC.encode(Color.RED).replace(b"RED", b"mro"))


def test_only_immutable_scalars_are_scalars() -> None:
    assert all(map(Codec.is_scalar, ["", b"", 1, 2**99, 1.5, True, None]))
    assert not any(map(Codec.is_scalar, [(), [], {}, Text("a"), bytearray(), date(2024, 1, 1), Level.LOW, UUID(int=0)]))


def test_threads_may_share_a_codec() -> None:
    wanted = [Point((i, {"k": "v" * i}), {i, str(i)}) for i in range(50)]
    got: list[bool] = []

    def work() -> None:
        got.append(all(CODEC.decode(CODEC.encode(each)) == each for each in wanted for _ in range(5)))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [True] * 8


def test_errors_survive_being_copied_between_processes() -> None:
    error = NotData("[0]", "T", "t", "no")
    again = copy.copy(error)
    assert (str(again), again.path, type(again)) == (str(error), "[0]", NotData)
    assert issubclass(NotData, SnapshotError)
