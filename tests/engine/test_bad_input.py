"""Values that are not data, invalid ids, damaged records: never a wrong result."""

import asyncio
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from beluga_graph import (
    END,
    START,
    BadRunId,
    BelugaError,
    Engine,
    Graph,
    NotData,
    Retry,
    RunConflict,
    RunFailed,
    RunNotFound,
    add,
    append,
)
from beluga_graph.codec import DamagedRecord
from stores import MemoryStore, Put, StoreError


class Unknown:
    """A class that no flow registers."""

    def __repr__(self) -> str:
        return "<Unknown>"


class Tally(BaseModel):
    total: Annotated[int, add] = 0
    seen: Annotated[list[Any], append] = []
    last: Any = None


def same(value: Any) -> Any:
    return value


def one_node(body: Callable[..., Any], name: str = "g", **options: Any) -> Graph:
    g = Graph(name, state=Tally)
    g.edge(START, g.node(name="a", **options)(body))
    g.edge("a", END)
    return g


def choosing(choose: Callable[..., Any]) -> Graph:
    g = Graph("g")
    g.edge(START, g.node(name="a", retry=Retry(attempts=3, initial=0))(same))
    g.branch("a", choose, {"x": END})
    return g


def fanned(over: Callable[..., Any]) -> Graph:
    g = Graph("g")
    g.fan_out("f", to="n", over=over, join="j")
    g.node(name="n")(same)
    g.join("j")
    g.edge(START, "f")
    g.edge("j", END)
    return g


# Values.

LIVE = "a live object cannot be stored: pass the data that it is made from, and keep it among the engine's deps"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"k": [Unknown()]}, f"the value at ['k'][0] is not data: {__name__}.Unknown <Unknown>: {LIVE}"),
        (Unknown(), f"the value is not data: {__name__}.Unknown <Unknown>: {LIVE}"),
    ],
)
async def test_an_input_that_is_not_data_is_refused_before_anything_is_stored(value: Any, text: str) -> None:
    async with Engine() as engine:
        for options in ({"value": value}, {"context": value}):
            with pytest.raises(NotData) as caught:
                await engine.start(one_node(same), **options)
            assert str(caught.value) == text
        assert await engine.runs() == []


def file_as_output(value: Any) -> Any:
    with Path(__file__).open() as file:
        return {"deep": [file]}


def state_with_a_lock(ctx: Any, value: Any) -> None:
    ctx.update(last=threading.Lock())


def state_with_an_item(ctx: Any, value: Any) -> None:
    ctx.update(seen=[{"x": Unknown()}])


@pytest.mark.parametrize(
    ("flow", "node", "path", "kind"),
    [
        (one_node(file_as_output), "a", "['deep'][0]", "_io.TextIOWrapper"),
        (one_node(lambda value: threading.Lock()), "a", "", "_thread.lock"),
        (one_node(state_with_a_lock), "a", "state.last", "_thread.lock"),
        (one_node(state_with_an_item), "a", "state.seen['x']", f"{__name__}.Unknown"),
        (fanned(lambda value: [1, [Unknown()]]), "f", "[1][0]", f"{__name__}.Unknown"),
    ],
    ids=["output", "whole output", "state", "item of the state", "item of a fan-out"],
)
async def test_a_value_that_is_not_data_fails_its_node_and_names_the_path(
    flow: Graph, node: str, path: str, kind: str
) -> None:
    async with Engine() as engine:
        with pytest.raises(RunFailed) as caught:
            await engine.execute(flow, 1)
    assert caught.value.node == node
    error = caught.value.__cause__
    assert isinstance(error, NotData)
    assert (error.path, error.type_name) == (path, kind)
    assert str(error) in str(caught.value)


@pytest.mark.parametrize("route", ["y", threading.Lock(), Unknown(), None, 1.5, True])
async def test_a_chooser_that_returns_no_route_fails_its_node(route: Any) -> None:
    async with Engine() as engine:
        with pytest.raises(RunFailed, match=r"chose the route .*, which its branch does not have: 'x'") as caught:
            await engine.execute(choosing(lambda value: route), 1)
        assert caught.value.node == "a"
        assert caught.value.attempt == 1


def bad_update(ctx: Any, value: Any) -> None:
    ctx.update(total="text")


def divide_by_zero(value: Any) -> Any:
    return 1 / 0


@pytest.mark.parametrize(
    ("flow", "message"),
    [
        (choosing(divide_by_zero), "ZeroDivisionError: division by zero"),
        (
            one_node(bad_update, retry=Retry(attempts=3, initial=0)),
            "refuses the update: TypeError: unsupported operand type(s) for +: 'int' and 'str'",
        ),
        (
            one_node(lambda value: threading.Lock(), retry=Retry(attempts=3, initial=0)),
            "NotData: the value is not data",
        ),
    ],
    ids=["chooser", "reducer", "output"],
)
async def test_a_failure_that_no_attempt_can_fix_is_not_retried(flow: Graph, message: str) -> None:
    async with Engine() as engine:
        with pytest.raises(RunFailed) as caught:
            await engine.execute(flow, 1)
    assert message in str(caught.value)
    assert caught.value.attempt == 1


# Run ids.


@pytest.mark.parametrize(
    "run_id", ["", "x" * 10_000, "../../x", "a\0b", "a\nb", ".", "..", "a/b", "a\\b", "\ud800", 5, b"x", [1]]
)
async def test_an_invalid_run_id_is_refused_by_every_method(run_id: Any) -> None:
    async with Engine() as engine:
        doors = [
            lambda: engine.start(one_node(same), 1, run_id=run_id),
            lambda: engine.resume(run_id),
            lambda: engine.history(run_id),
            lambda: engine.snapshot(run_id),
            lambda: engine.status(run_id),
            lambda: engine.signal(run_id, "s"),
            lambda: engine.cancel(run_id),
            lambda: engine.fork(run_id, 1),
        ]
        for door in doors:
            with pytest.raises(BadRunId, match="is not a run id: a run id is 1 to 200 printable characters"):
                await door()
        assert await engine.runs() == []


async def test_an_id_belongs_to_one_flow_and_one_input() -> None:
    async with Engine() as engine:
        assert await engine.execute(one_node(same), 1, run_id="r") == 1
        for flow, value in ((one_node(same), 2), (one_node(same), True), (one_node(same, "h"), 1)):
            with pytest.raises(RunConflict, match="choose another id"):
                await engine.execute(flow, value, run_id="r")
        with pytest.raises(RunConflict, match="the id is taken"):
            await engine.fork("r", 1, run_id_new="r")


async def test_an_unknown_run_is_not_found_by_any_method() -> None:
    async with Engine() as engine:
        engine.register(one_node(same))
        doors = [
            engine.resume("r"),
            engine.history("r"),
            engine.snapshot("r"),
            engine.status("r"),
            engine.signal("r", "s"),
            engine.cancel("r"),
            engine.fork("r", 1),
        ]
        for door in doors:
            with pytest.raises(RunNotFound, match="no such run in this store"):
                await door


@pytest.mark.parametrize("seq", [-1, 99, 1 << 70])
async def test_a_step_that_does_not_exist_is_not_found(seq: int) -> None:
    async with Engine() as engine:
        await engine.execute(one_node(same), 1, run_id="r")
        with pytest.raises(RunNotFound, match=f"it has no step {seq}"):
            await engine.snapshot("r", seq)
        with pytest.raises(RunNotFound, match=f"it has no step {seq}"):
            await engine.fork("r", seq)


async def test_a_run_cannot_be_forked_from_before_it_began() -> None:
    async with Engine() as engine:
        await engine.execute(one_node(same), 1, run_id="r")
        with pytest.raises(RunConflict, match="before step 1 it has not begun"):
            await engine.fork("r", 0)


# Damaged records.


def everything() -> Graph:
    """A flow that leaves records of every kind."""
    g = Graph("everything", state=Tally)

    @g.node
    async def large(ctx, value):
        ctx.update(total=value, seen=[{"n": value}], last="z" * 9_000)
        return [value, "x" * 9_000]

    @g.node
    async def count(ctx, value):
        ctx.update(total=value, seen=value)
        return value * 10

    @g.node
    async def end(ctx, value):
        return [value, ctx.state.total, list(ctx.state.seen), len(ctx.state.last)]

    g.fan_out("items", to=count, over=lambda value: range(3), join="joined")
    g.join("joined")
    g.wait("approval", "go", timeout=3600)
    g.edge(START, large)
    g.edge(large, "items")
    g.edge("joined", "approval")
    g.edge("approval", end)
    g.edge(end, END)
    return g


async def interrupted() -> dict[bytes, bytes]:
    """Return the records of a waiting run with an unread signal."""
    store = MemoryStore()
    async with Engine(store) as engine:
        run = await engine.start(everything(), 5, run_id="r")
        async for event in run.events():
            if event.type == "waiting":
                break
    async with Engine(store) as engine:
        await engine.signal("r", "go", "yes")
    return dict(store.scan(b""))


async def what_comes_of(records: dict[bytes, bytes]) -> list[Any]:
    """Query a run in every way and finish it; return the results, errors as the names of their classes."""
    store = MemoryStore()
    store.commit(*(Put(key, value) for key, value in records.items()))
    seen: list[Any] = []
    async with Engine(store) as engine:
        engine.register(everything())

        async def runs() -> Any:
            return [(info.run_id, info.status) for info in await engine.runs()]

        async def history() -> Any:
            return [(step.seq, step.trigger, step.token, step.events) for step in await engine.history("r")]

        async def snapshot() -> Any:
            return await engine.snapshot("r")

        async def recovered() -> Any:
            return [run.id for run in await engine.recover()]

        async def output() -> Any:
            return await engine.execute(everything(), 5, run_id="r")

        for look in (runs, history, snapshot, recovered, output):
            try:
                seen.append(await asyncio.wait_for(look(), 60))
            except (BelugaError, StoreError) as error:
                seen.append(type(error))
    return seen


async def test_a_damaged_record_is_reported_and_never_half_read() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    records = await interrupted()
    whole = await what_comes_of(records)
    assert whole[-1] == ["yes", 8, [{"n": 5}, 0, 1, 2], 9_000]
    kinds = {bytes([key[0]]) for key in records}
    assert kinds >= {b"H", b"L", b"N", b"S", b"C", b"V", b"W", b"X", b"P", b"I", b"A", b"T", b"D"}
    for key, value in records.items():
        places = {*range(min(len(value), 7)), *(chance.randrange(len(value)) for _ in range(5))}
        for place in places:
            damaged = bytearray(value)
            damaged[place] ^= 1 << chance.randrange(8)
            seen = await what_comes_of({**records, key: bytes(damaged)})
            for right, found in zip(whole, seen, strict=True):
                assert isinstance(found, type) or found == right or found == [], (key, place, found)
            if key[:1] in (b"A", b"T", b"D", b"W", b"X"):  # indexes: their values are never read
                assert seen == whole


async def test_a_missing_record_is_reported_and_never_half_read() -> None:
    records = await interrupted()
    whole = await what_comes_of(records)
    for key in records:
        if key[:1] in (b"H", b"N", b"S", b"C", b"V", b"P"):
            seen = await what_comes_of({k: v for k, v in records.items() if k != key})
            assert isinstance(seen[-1], type) or seen[-1] == whole[-1], key


async def test_one_damaged_run_does_not_prevent_the_recovery_of_others() -> None:
    records = await interrupted()
    store = MemoryStore()
    store.commit(*(Put(key, value) for key, value in records.items()))
    async with Engine(store) as engine:
        await engine.start(everything(), 6, run_id="other")
    (head,) = (key for key in records if key[:1] == b"H")
    store.commit(Put(head, records[head][:-1]))
    async with Engine(store) as engine:
        engine.register(everything())
        recovery = await engine.recover()
        assert [run.id for run in recovery] == ["other"]
        assert [type(error) for error in recovery.skipped.values()] == [DamagedRecord]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"durability": "sometimes"}, "durability 'sometimes': give one of commit, batch, none"),
        ({"max_concurrency": 0}, "max_concurrency=0: give at least 1"),
    ],
)
def test_an_engine_refuses_options_that_make_no_sense(options: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Engine(**options)
