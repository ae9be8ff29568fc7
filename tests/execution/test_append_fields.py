"""An append field behaves like a list in every use, except that it cannot be changed."""

import asyncio
import bisect
import copy
import functools
import heapq
import itertools
import json
import operator
import pickle
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, MutableSequence, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, TypeAdapter

from beluga_graph import END, START, Engine, EventBus, Graph, Limits, RunFailed, StateError, append
from beluga_graph.codec import Codec
from stores import MemoryStore


class Lines(BaseModel):
    lines: list[int]


class Anything(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    held: Any


@dataclass
class Held:
    lines: list[int]


@dataclass(frozen=True)
class Point:
    x: int


class Log(BaseModel):
    log: Annotated[list[Any], append] = [3]
    other: list[Any] = []
    anything: Any = None


ITEMS = [3, 1, 2, 2, 10]
NESTED: list[Any] = [3, {"a": [1, {"b": 2}]}, [1, [2]], (1, [2]), {"a": 1}]
OF_MODELS: list[Any] = [3, Lines(lines=[1]), [Lines(lines=[2])], Held([3]), {"a": Lines(lines=[4])}]
KINDS = {"scalars": ITEMS, "dicts and lists": NESTED, "models": OF_MODELS}

# Functions that read the memory of a list and bypass its methods. They see dicts and lists that attempts share.
RAW = ("concat", "list.__add__", "adapters", "pydantic any")


FORMS: tuple[Any, ...] = (list, list[int], list[Any], set[int], tuple[int, ...], Sequence[int], MutableSequence[int])
ORDERS = (operator.lt, operator.le, operator.gt, operator.ge)


def both_ways(items: Any, *others: Any) -> list[tuple[Any, Any]]:
    return [pair for other in others for pair in ((items, other), (other, items))]


def matched(items: list[int]) -> Any:
    match items:
        case [first, *rest]:
            return first, rest
        case _:
            return "no match"


def extended_in_place(items: list[int]) -> Any:
    found = alias = ["z"]
    found += items
    found.extend(items)
    found[0:0] = items
    return found, alias, found is alias


def unpacked(items: list[int]) -> Any:
    a, *b = items
    return a, b, [*items], (*items,), {*items}, dict.fromkeys(items)


USES: dict[str, Callable[[list[int]], Any]] = {
    "len": len,
    "bool": bool,
    "repr": repr,
    "str": str,
    "format": lambda items: f"{items} {items!r:>40}",
    "first": lambda items: items[0],
    "last": lambda items: items[-1],
    "past the end": lambda items: items[99],
    "by text": lambda items: items["0"],  # type: ignore[call-overload]
    "slice": lambda items: items[1:3],
    "step": lambda items: items[::-2],
    "whole slice": lambda items: items[:],
    "in": lambda items: (2 in items, 99 in items),
    "iter": lambda items: list(iter(items)),
    "reversed": lambda items: list(reversed(items)),
    "sorted": sorted,
    "min, max, sum": lambda items: (min(items), max(items), sum(items)),
    "index, count": lambda items: (items.index(2), items.count(2)),
    "index of none": lambda items: items.index(99),
    "add": lambda items: operator.add(items, [7]),
    "add a tuple": lambda items: operator.add(items, (7,)),
    "added to": lambda items: operator.add([7], items),
    "added to a tuple": lambda items: operator.add((7,), items),
    "concat": lambda items: (operator.concat([7], items), operator.concat(items, [7])),
    "list.__add__": lambda items: list.__add__([7], items),
    "both": lambda items: items + items,
    "times": lambda items: (items * 2, 2 * items),
    "extended": extended_in_place,
    "unpacked": unpacked,
    "matched": matched,
    "equal": lambda items: [operator.eq(*pair) for pair in both_ways(items, list(items), tuple(items), [])],
    "unequal": lambda items: [operator.ne(*pair) for pair in both_ways(items, list(items), tuple(items), [])],
    "order": lambda items: [f(*pair) for f in ORDERS for pair in both_ways(items, [4], [], list(items))],
    "copied": lambda items: (items.copy(), copy.copy(items), copy.deepcopy(items)),
    "a copy is changed": lambda items: operator.iadd(copy.copy(items), [7]),
    "pickled": lambda items: pickle.loads(pickle.dumps(items)),
    "list": list,
    "tuple": tuple,
    "set": set,
    "hash": hash,
    "is a list": lambda items: (isinstance(items, list), isinstance(items, Sequence)),
    "json": json.dumps,
    "json indented": lambda items: json.dumps({"a": [items]}, indent=2, sort_keys=True),
    "pydantic field": lambda items: Lines(lines=items),
    "pydantic strict": lambda items: Lines.model_validate({"lines": items}, strict=True),
    "pydantic dump": lambda items: Lines(lines=items).model_dump(),
    "pydantic any": lambda items: Anything(held=items).model_dump_json(),
    "pydantic unchecked": lambda items: Lines.model_construct(lines=items).model_dump_json(),
    "adapters": lambda items: [TypeAdapter(form).validate_python(items) for form in FORMS],
    "adapter of an iterable": lambda items: list(TypeAdapter(Iterable[int]).validate_python(items)),
    "made again": lambda items: type(items)(items),
    "join": lambda items: ",".join(map(str, items)),
    "zip, enumerate": lambda items: (list(zip(items, items, strict=True)), list(enumerate(items))),
    "reduce": lambda items: functools.reduce(operator.add, items),
    "islice": lambda items: list(itertools.islice(items, 1, 3)),
    "deque, counter": lambda items: (deque(items, 2), Counter(items)),
    "nlargest": lambda items: heapq.nlargest(2, items),
    "bisect": lambda items: bisect.bisect(items, 2),
    "sample": lambda items: random.Random(1).sample(items, 3),
    "called with": lambda items: max(*items),
    "bytes": bytes,
}


def outcome(use: Callable[[Any], Any], items: list[int]) -> Any:
    """Return the result of a use with the types of its contents, or the type of its exception."""
    try:
        found = use(items)
    except Exception as error:  # noqa: BLE001 - compared with what a plain list raises
        return type(error)
    return found, types_in(found)


def same_outcome(name: str, found: Any, items: list[Any]) -> bool:
    one, other = outcome(USES[name], found), outcome(USES[name], copy.deepcopy(items))
    if name in RAW and isinstance(one, tuple) and isinstance(other, tuple):
        return bool(one[0] == other[0])
    return bool(one == other)


def types_in(found: Any) -> Any:
    return type(found), [types_in(part) for part in found] if isinstance(found, list | tuple) else None


async def seen_in(place: str, look: Callable[[Any, Any], Any], items: list[Any] = ITEMS) -> Any:
    """Return the result of `look(ctx, value)` with an append field that got the items in one of several ways."""
    g = Graph("looking", state=Log)
    if place != "own items":
        g.node(name="look")(look)

    @g.node
    async def fill(ctx, value):
        ctx.update(log=items[1:] if place != "own items" else items[1:2])

    def more(ctx, value):
        assert list(ctx.state.log) == items[:2]
        ctx.update(log=items[2:])
        return look(ctx, value)

    g.edge(START, fill)
    if place == "own items":
        g.node(more)
        g.edge(fill, "more")
        g.edge("more", END)
    elif place == "in a branch":
        g.fan_out("out", to=["look"], join="in")
        g.join("in", lambda results: results[0])
        g.edge(fill, "out")
        g.edge("in", END)
    else:
        g.edge(fill, "look")
        g.edge("look", END)
    flow = g
    if place == "in a sub-flow":
        flow = Graph("around", state=Log)
        flow.add(g)
        flow.edge(START, "looking")
        flow.edge("looking", END)
    g.declare().types = (Lines, Held)
    async with Engine() as engine:
        return await engine.execute(flow, 1)


PLACES = ["committed", "own items", "in a branch", "in a sub-flow"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("items", KINDS.values(), ids=KINDS)
async def test_an_append_field_offers_all_reading_operations_of_a_list(place: str, items: list[Any]) -> None:
    wrong = {}

    def look(ctx, value):
        for name, use in USES.items():
            if not same_outcome(name, ctx.state.log, items):
                wrong[name] = outcome(use, ctx.state.log), outcome(use, items)
        return ctx.state.log

    assert await seen_in(place, look, items) == items
    assert wrong == {}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("use", USES)
async def test_each_use_gives_the_same_result_when_it_is_the_first(place: str, use: str) -> None:
    def look(ctx, value):
        assert same_outcome(use, ctx.state.log, NESTED)

    await seen_in(place, look, NESTED)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "put",
    [
        lambda items: items,
        lambda items: {"log": items, "deep": [[(items, {"x": items})]]},
        lambda items: (items, items),
        Held,
        lambda items: Lines(lines=items),
        lambda items: Lines.model_construct(lines=items),
        lambda items: [Held(items), {"a": Lines.model_construct(lines=items)}],
    ],
    ids=["itself", "nested", "tuple", "dataclass", "model", "unchecked model", "in instances"],
)
async def test_an_append_field_is_a_value_in_every_position(place: str, put: Callable[[Any], Any]) -> None:
    found = await seen_in(place, lambda ctx, value: put(ctx.state.log))
    assert found == put(list(ITEMS))
    assert types_in(found) == types_in(put(list(ITEMS)))


async def test_an_append_field_goes_through_fan_outs_joins_updates_and_the_bus() -> None:
    g = Graph("passing", state=Log)
    heard = []

    @g.node
    async def fill(ctx, value):
        ctx.update(log=ITEMS[1:])

    @g.node
    async def each(ctx, item):
        return [item, ctx.state.log]

    def joined(ctx, results):
        ctx.update(other=ctx.state.log, anything=ctx.state.log)
        ctx.update(log=ctx.state.log)
        ctx.publish("seen", {"log": ctx.state.log})
        return ctx.state.log

    g.fan_out("out", to=each, over=lambda ctx, value: [ctx.state.log, *ctx.state.log[:1]], join="in")
    g.join("in", joined)
    g.node(name="end")(lambda ctx, value: [value, ctx.state.log, ctx.state.other, ctx.state.anything])
    g.edge(START, fill)
    g.edge(fill, "out")
    g.edge("in", "end")
    g.edge("end", END)
    there = asyncio.Event()

    async def hear(event):
        heard.append(event.data)
        there.set()

    async with EventBus() as bus, Engine(bus=bus) as engine:
        bus.subscribe("seen", hear)
        assert await engine.execute(g, 1) == [[*ITEMS, *ITEMS], [*ITEMS, *ITEMS], ITEMS, ITEMS]
        await asyncio.wait_for(there.wait(), 60)
    assert heard == [{"log": [*ITEMS, *ITEMS]}]


CHANGES: dict[str, Callable[[Any], Any]] = {
    "append": lambda items: items.append(1),
    "clear": lambda items: items.clear(),
    "extend": lambda items: items.extend([1]),
    "insert": lambda items: items.insert(0, 1),
    "pop": lambda items: items.pop(),
    "remove": lambda items: items.remove(1),
    "reverse": lambda items: items.reverse(),
    "sort": lambda items: items.sort(key=None),
    "set": lambda items: operator.setitem(items, 0, 1),
    "set a slice": lambda items: operator.setitem(items, slice(0, 0), [1]),
    "delete": lambda items: operator.delitem(items, 0),
    "add in place": lambda items: operator.iadd(items, [1]),
    "times in place": lambda items: operator.imul(items, 2),
    "shuffle": random.shuffle,
}


def test_every_change_that_a_list_offers_is_tried_here() -> None:
    changes = {name for name in dir(list) if not hasattr(tuple, name)} - {"copy", "__reversed__"}
    tried = set(CHANGES) | {"__setitem__", "__delitem__", "__iadd__", "__imul__"}
    assert changes <= tried


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_an_append_field_cannot_be_changed_in_place(change: Callable[[Any], Any]) -> None:
    def look(ctx, value):
        with pytest.raises(StateError, match=r"write ctx.update\(log=…\) to append, or change a copy"):
            change(ctx.state.log)
        return ctx.state.log

    assert await seen_in("committed", look) == ITEMS


# The state as a whole.


@pytest.mark.parametrize("put", [lambda state: state, lambda state: {"s": [state]}], ids=["itself", "nested"])
async def test_the_state_as_a_value_is_an_instance_of_its_model(put: Callable[[Any], Any]) -> None:
    found = await seen_in("committed", lambda ctx, value: put(ctx.state))
    assert found == put(Log(log=ITEMS))


async def test_a_state_with_missing_values_is_refused_as_a_value_with_the_reason() -> None:
    class Half(BaseModel):
        log: Annotated[list[int], append] = []
        needed: int

    g = Graph("half", state=Half)
    g.node(name="look")(lambda ctx, value: ctx.state)
    g.edge(START, "look")
    g.edge("look", END)
    async with Engine() as engine:
        with pytest.raises(RunFailed, match=r"state field Half\.needed has no value yet: give it a default"):
            await engine.execute(g, 1)


# Costs.


class Counting(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.read = 0

    def get(self, key: bytes) -> bytes | None:
        self.read += key[:1] == b"C"
        return super().get(key)

    def scan(self, prefix: bytes, **options: Any) -> Iterator[tuple[bytes, bytes]]:
        self.read += prefix[:1] == b"C"
        return super().scan(prefix, **options)


class Points(BaseModel):
    log: Annotated[list[Point], append] = []
    texts: Annotated[list[str], append] = []
    models: Annotated[list[Lines], append] = []
    dicts: Annotated[list[dict[str, int]], append] = []


def growing(turns: int, look: Callable[[Any], Any]) -> Graph:
    g = Graph("growing", state=Points, limits=Limits(max_visits=100_000))

    @g.node
    async def speak(ctx, value):
        ctx.update(log=Point(value), texts=str(value), dicts={"n": value}, models=Lines(lines=[value]))
        return value + 1

    @g.node(name="look")
    async def looked(ctx, value):
        look(ctx)
        return value

    g.edge(START, speak)
    g.edge(speak, looked)
    g.branch(looked, lambda value: value >= turns, {True: END, False: speak})
    return g


LOOKS: dict[str, Callable[[Any], Any]] = {
    "the end of it": lambda ctx: [(len(items), items[-1]) for items in (ctx.state.log, ctx.state.texts)],
    "all of it": lambda ctx: (list(ctx.state.log), sum(map(len, ctx.state.texts))),
    "the end of what could be changed": lambda ctx: (len(ctx.state.dicts), ctx.state.dicts[-1], ctx.state.dicts[-2:]),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
async def test_a_step_that_reads_the_field_decodes_only_its_new_items(
    look: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded, decode = Counter[int](), Codec.decode

    def counting(codec: Codec, blob: bytes, **options: Any) -> Any:
        decoded[turns] += 1
        return decode(codec, blob, **options)

    monkeypatch.setattr(Codec, "decode", counting)
    read = {}
    for turns in (50, 400):
        store = Counting()
        async with Engine(store) as engine:
            await engine.execute(growing(turns, look), 0)
        read[turns] = store.read
    assert read[400] <= 8 * read[50] <= 8 * 50 * 3
    assert decoded[400] <= 8 * decoded[50] <= 8 * 50 * 15


async def test_a_step_that_does_not_use_the_field_reads_none_of_it() -> None:
    store = Counting()
    async with Engine(store) as engine:
        await engine.execute(growing(300, lambda ctx: ctx.state), 0)
    assert store.read == 0


async def test_a_node_that_changes_an_item_changes_only_its_own_copy() -> None:
    seen = []

    def spoil(ctx):
        seen.append([item["n"] for item in ctx.state.dicts])
        for item in ctx.state.dicts:
            item["n"] = -1
        assert all(item["n"] == -1 for item in ctx.state.dicts), "an attempt has one copy"
        for item in ctx.state.models:
            item.lines.append(1)
        assert [len(item.lines) for item in ctx.state.models] == [2] * len(ctx.state.models)

    async with Engine() as engine:
        await engine.execute(growing(4, spoil), 0)
    assert seen == [list(range(n)) for n in range(1, 5)]


READERS_OF_MEMORY: dict[str, Callable[[Any], Any]] = {
    "pydantic": lambda items: TypeAdapter(list).validate_python(items),
    "concat": lambda items: operator.concat([], items),
}


@pytest.mark.parametrize("read", READERS_OF_MEMORY.values(), ids=READERS_OF_MEMORY)
async def test_code_that_reads_the_memory_of_the_list_cannot_change_other_copies(read: Callable[[Any], Any]) -> None:
    def spoil(ctx, value):
        found = read(ctx.state.log)
        assert found == NESTED
        for change in (
            lambda: found[1].update(a=1),
            lambda: operator.setitem(found[1]["a"][1], "b", 3),
            lambda: found[2].append(1),
            found[3][1].clear,
        ):
            with pytest.raises(StateError, match=r"change a copy.deepcopy of it"):
                change()
        free = copy.deepcopy(found)
        assert types_in(free) == types_in(NESTED)
        free[1]["a"][1]["b"] = 3
        free[2].append(1)
        return found

    assert await seen_in("committed", spoil, NESTED) == NESTED
