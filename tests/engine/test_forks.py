"""A fork changes the state that it begins with."""

from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel
from wrapped_store import until

from beluga_graph import (
    END,
    START,
    Engine,
    Graph,
    NotData,
    StateError,
    add,
    append,
    last,
    maximum,
    merge,
    union,
)
from beluga_graph.cli.commands.verify import check_path
from beluga_graph.codec import DamagedRecord
from beluga_graph.storage.keys import Keys
from stores import LMDBStore, MemoryStore
from stores.base import Delete


class Kept(BaseModel):
    log: Annotated[list[str], append] = ["default"]
    bare: Annotated[list[int], append] = []
    total: Annotated[int, add] = 5
    most: Annotated[int, maximum] = 0
    tags: Annotated[set[str], union] = {"t"}
    said: Annotated[dict[str, int], merge] = {"x": 1}
    latest: Annotated[str, last] = ""
    plain: str = "plain"
    needed: int | None = None


def flow() -> Graph:
    g = Graph("kept", state=Kept)

    @g.node
    async def fill(ctx, value):
        ctx.update(log=["a", "b"], bare=[1, 2, 3], total=1, most=100, tags={"u"}, said={"y": 2}, latest="l", plain="p")

    @g.node
    async def more(ctx, value):
        ctx.update(log="c", bare=4)

    g.node(name="end")(lambda ctx, value: ctx.state)
    g.edge(START, fill)
    g.edge(fill, more)
    g.edge(more, "end")
    g.edge("end", END)
    return g


AFTER = Kept(
    log=["default", "a", "b", "c"],
    bare=[1, 2, 3, 4],
    total=6,
    most=100,
    tags={"t", "u"},
    said={"x": 1, "y": 2},
    latest="l",
    plain="p",
)

LARGE = "x" * 20_000


@pytest.mark.parametrize(
    ("replace", "update", "changed"),
    [
        ({"log": []}, {}, {"log": ["c"]}),
        ({"log": ["z", "y"]}, {}, {"log": ["z", "y", "c"]}),
        ({"log": [LARGE]}, {"log": LARGE}, {"log": [LARGE, LARGE, "c"]}),
        ({"bare": (9,)}, {"bare": [8, 7]}, {"bare": [9, 8, 7, 4]}),
        ({}, {"bare": 9}, {"bare": [1, 2, 3, 9, 4]}),
        ({"total": 0}, {}, {"total": 0}),
        ({"total": 0}, {"total": 3}, {"total": 3}),
        ({"most": 1}, {}, {"most": 1}),
        ({"tags": set()}, {"tags": {"v"}}, {"tags": {"v"}}),
        ({"said": {}}, {}, {"said": {}}),
        ({"plain": LARGE}, {}, {"plain": LARGE}),
        ({"plain": LARGE}, {"plain": "q"}, {"plain": "q"}),
        ({"needed": 7, "latest": "m"}, {"latest": "n"}, {"needed": 7, "latest": "n"}),
    ],
)
@pytest.mark.parametrize("durable", [False, True])
async def test_a_fork_replaces_fields_regardless_of_their_reducers_and_then_updates(
    tmp_path: Path, replace: Any, update: Any, changed: dict[str, Any], durable: bool
) -> None:
    store = LMDBStore(tmp_path) if durable else MemoryStore()
    wanted = AFTER.model_copy(update=changed)
    async with Engine(store) as engine:
        assert await engine.execute(flow(), 1, run_id="r") == AFTER
        fork = await engine.fork("r", 2, run_id_new="f", replace=replace, update=update)
        assert await fork.result() == wanted
        assert (await engine.snapshot("f")).state == wanted.model_dump()
        again = await engine.fork("f", 2, run_id_new="g")
        assert await again.result() == wanted
        assert await (await engine.fork("r", 2)).result() == AFTER
        items = list(engine.store.scan(b"C" + Keys("f").run_key))
    assert len(items) == len(wanted.log) + len(wanted.bare) - ("log" not in replace), "no item is left behind"


async def test_a_fork_accepts_values_that_were_read_from_the_state() -> None:
    async with Engine() as engine:
        await engine.execute(flow(), 1, run_id="r")
        state = (await engine.snapshot("r", 2)).state
        fork = await engine.fork("r", 2, replace={"log": state["log"][1:2], "bare": state["bare"][::-1]})
        found = await fork.result()
    assert (found.log, found.bare) == (["a", "c"], [3, 2, 1, 4])


@pytest.mark.parametrize(
    ("replace", "error"),
    [
        ({"nope": 1}, StateError),
        ({"log": "not a list"}, StateError),
        ({"bare": ["not a number"]}, StateError),
        ({"total": "not a number"}, StateError),
        ({"needed": object()}, StateError),
    ],
)
async def test_an_invalid_field_value_is_refused_and_nothing_is_forked(replace: Any, error: type[Exception]) -> None:
    async with Engine() as engine:
        await engine.execute(flow(), 1, run_id="r")
        with pytest.raises((error, NotData)):
            await engine.fork("r", 2, run_id_new="f", replace=replace)
        assert [info.run_id for info in await engine.runs()] == ["r"]


async def test_a_fork_of_a_run_that_lost_an_item_reports_the_damage() -> None:
    store = MemoryStore()
    async with Engine(store) as engine:
        await engine.execute(flow(), 1, run_id="r")
        lost = Keys("r").channel("", "log") + (1).to_bytes(8, "big")
        store.commit(Delete(lost))
        with pytest.raises(DamagedRecord, match="1 of field 'log' of run 'r' is missing"):
            await engine.fork("r", 2, run_id_new="f")
        assert [run.run_id for run in await engine.runs()] == ["r"]


def asking_flow() -> Graph:
    g = Graph("asking", state=Kept)

    @g.node
    def fill(ctx, value):
        ctx.update(log=["a", LARGE])

    g.wait("asks", "go")
    g.node(name="end")(lambda ctx, value: [value, ctx.state])
    g.edge(START, fill)
    g.edge(fill, "asks")
    g.edge("asks", "end")
    g.edge("end", END)
    return g


@pytest.mark.parametrize("how", ["replace", "update"])
async def test_large_items_of_a_fork_outlive_the_process_and_the_source(tmp_path: Path, how: str) -> None:
    other = "y" * 20_000
    wanted = {"replace": ["b", other], "update": ["default", "a", LARGE, "b", other]}[how]
    async with Engine(tmp_path) as engine:
        await engine.start(asking_flow(), 1, run_id="r")
        await until(lambda: engine._host.runs.head("r").status == "waiting")
        change: Any = {how: {"log": ["b", other]}}
        await engine.fork("r", 2, run_id_new="f", **change)
        items = [item for _, item in engine.store.scan(b"C" + Keys("f").run_key)]
        assert len(items) == len(wanted) - ("default" in wanted), "a default is not stored"
        assert max(map(len, items)) < 100, "a large item is stored once, by reference"
        await engine.cancel("r")
    assert check_path(tmp_path).damage == ()
    async with Engine(tmp_path) as engine:
        engine.register(asking_flow())
        assert [info.run_id for info in await engine.prune()] == ["r"]
        assert (await engine.snapshot("f")).state["log"] == wanted
    assert check_path(tmp_path).damage == ()
    async with Engine(tmp_path) as engine:
        engine.register(asking_flow())
        run = await engine.resume("f")
        await engine.signal("f", "go", 7)
        value, state = await run.result(60)
        assert (value, state.log) == (7, wanted)
        again = await engine.fork("f", 2)
        await engine.signal(again.id, "go", 8)
        assert (await again.result(60))[1].log == wanted
    assert check_path(tmp_path).damage == ()
