"""Updates of a field become its value: one by one in a sequence, combined when branches join."""

from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from beluga_graph import END, START, Engine, Graph, RunFailed, StateConflict, add, append, last, maximum, merge, union


def listed(current: Any, new: Any) -> list[Any]:
    """A natural reducer that is not associative: it takes a list and one more item."""
    return [*current, new]


class Kept(BaseModel):
    log: Annotated[list[str], listed] = []
    left: Annotated[int, lambda current, new: current - new] = 100
    n: Annotated[int, add] = 0
    most: Annotated[int, maximum] = 0
    tags: Annotated[set[str], union] = set()
    said: Annotated[dict[str, int], merge] = {}
    latest: Annotated[str, last] = ""
    items: Annotated[list[str], append] = []
    plain: str = ""


EVERYTHING: list[dict[str, Any]] = [
    {"log": "a", "left": 1, "n": 1, "most": 3, "tags": {"a"}, "said": {"a": 1}, "latest": "a", "items": "a"},
    {"log": "b", "left": 10, "n": 2, "most": 2, "tags": ["b"], "said": {"b": 2}, "latest": "b", "items": ["b", "c"]},
    {"log": "c", "left": 20, "n": 3, "most": 9, "tags": {"a"}, "said": {"a": 3}, "latest": "c", "items": "d"},
]
AFTER = Kept(
    log=["a", "b", "c"],
    left=69,
    n=6,
    most=9,
    tags={"a", "b"},
    said={"a": 3, "b": 2},
    latest="c",
    items=["a", "b", "c", "d"],
)


def nodes_that_update(split: list[list[dict[str, Any]]], *, look: bool = False) -> Graph:
    """Return a graph with one node in sequence for each list of updates."""
    g = Graph("kept", state=Kept)
    previous: Any = START

    def updating(updates: list[dict[str, Any]]) -> Any:
        def update(ctx, value):
            for fields in updates:
                if look:
                    _ = [getattr(ctx.state, field) for field in Kept.model_fields]
                ctx.update(**fields)
            return ctx.state

        return update

    for number, updates in enumerate(split):
        name = f"n{number}"
        g.node(name=name)(updating(updates))
        g.edge(previous, name)
        previous = name
    g.node(name="end")(lambda ctx, value: [value, ctx.state])
    g.edge(previous, "end")
    g.edge("end", END)
    return g


@pytest.mark.parametrize("look", [False, True], ids=["", "and look between"])
@pytest.mark.parametrize("sizes", [[3], [1, 2], [2, 1], [1, 1, 1]], ids=str)
async def test_updates_of_one_field_are_applied_one_by_one_regardless_of_their_nodes(
    sizes: list[int], look: bool
) -> None:
    left = list(EVERYTHING)
    split = [[left.pop(0) for _ in range(size)] for size in sizes]
    async with Engine() as engine:
        assert await engine.execute(nodes_that_update(split, look=look), 1) == [AFTER, AFTER]


def branches_that_update(split: dict[str, list[list[dict[str, Any]]]], *, within: bool = False) -> Graph:
    """Return a graph with one branch per key, and in it one node for each list of updates."""
    g = Graph("kept", state=Kept)
    for branch, nodes in split.items():
        for number, updates in enumerate(nodes):

            def update(ctx, value, updates=updates):
                for fields in updates:
                    ctx.update(**fields)

            g.node(name=f"{branch}{number}")(update)
            g.edge(f"{branch}{number}", f"{branch}{number + 1}" if number + 1 < len(nodes) else "in")
    g.fan_out("out", to=[f"{branch}0" for branch in split], join="in")
    g.join("in", lambda ctx, results: ctx.state if not within else None)
    if within:
        g.fan_out("outer", to=["out"], join="last")
        g.join("last", lambda ctx, results: ctx.state)
        g.edge(START, "outer")
        g.edge("in", "last")
        g.edge("last", END)
    else:
        g.edge(START, "out")
        g.edge("in", END)
    return g


async def test_branches_that_update_once_each_need_no_associative_reducer() -> None:
    split = {branch: [[fields]] for branch, fields in zip("abc", EVERYTHING, strict=True)}
    async with Engine() as engine:
        assert await engine.execute(branches_that_update(split), 1) == AFTER


@pytest.mark.parametrize("within", [False, True], ids=["", "in a branch"])
@pytest.mark.parametrize("nodes", [[EVERYTHING], [EVERYTHING[:1], EVERYTHING[1:]]], ids=["one node", "two nodes"])
async def test_an_associative_reducer_gives_the_same_in_branches_as_outside(nodes: Any, within: bool) -> None:
    apart = [[{k: v for k, v in fields.items() if k not in ("log", "left")} for fields in each] for each in nodes]
    flow = branches_that_update({"a": apart, "b": [[{"n": 100}]]}, within=within)
    async with Engine() as engine:
        assert await engine.execute(flow, 1) == AFTER.model_copy(update={"n": 106, "log": [], "left": 100})


@pytest.mark.parametrize(
    ("split", "within", "origins"),
    [
        ({"a": [[{"log": "x"}, {"log": "y"}]]}, False, "two updates of node 'a0'"),
        ({"a": [[{"log": "x"}], [{"log": "y"}]]}, False, "two updates of one of the nodes 'a0', 'a1' and node 'a1'"),
        (
            {"a": [[{"log": "x"}]], "b": [[{"log": "y"}]]},
            True,
            "two updates of node 'a0' (branch 0) and node 'b0' (branch 1)",
        ),
    ],
    ids=["one node", "two nodes", "two branches"],
)
async def test_a_missing_associative_reducer_is_an_error_that_names_the_field_and_the_nodes(
    split: Any, within: bool, origins: str
) -> None:
    def refusing(current: Any, new: Any) -> Any:
        if not isinstance(current, list):
            raise TypeError("not a list")
        return [*current, new]

    class Strict(BaseModel):
        log: Annotated[list[str], refusing] = []

    flow = branches_that_update(split, within=within)
    flow.declare().state = Strict
    async with Engine() as engine:
        with pytest.raises(RunFailed) as caught:
            await engine.execute(flow, 1)
    said = str(caught.value)
    assert caught.value.cause.type == "StateError"
    assert f"state field Strict.log: its reducer cannot combine {origins}: TypeError: not a list" in said
    assert "the reducer must be associative" in said


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ({"a": [[{"plain": "x"}]], "b": [[{"plain": "x"}]]}, ["node 'a0' (branch 0)", "node 'b0' (branch 1)"]),
        (
            {"a": [[{"n": 1}], [{"plain": "x"}]], "b": [[]], "c": [[{"plain": "y"}]]},
            ["one of the nodes 'a0', 'a1' (branch 0)", "node 'c0' (branch 2)"],
        ),
    ],
)
@pytest.mark.parametrize("framed", [False, True], ids=["", "in a sub-flow"])
async def test_a_conflict_names_the_nodes_whose_branches_set_one_field(
    split: Any, names: list[str], framed: bool
) -> None:
    flow = branches_that_update(split)
    if framed:
        inner, flow = flow, Graph("around")
        flow.add(inner, name="sub")
        flow.edge(START, "sub")
        flow.edge("sub", END)
        names = [name.replace(" '", " 'sub/") for name in names]
    async with Engine() as engine:
        with pytest.raises(RunFailed) as caught:
            await engine.execute(flow, 1)
    assert isinstance(caught.value.__cause__, StateConflict)
    assert f"{' and '.join(names)} both set state field 'plain', which has no reducer" in str(caught.value)
