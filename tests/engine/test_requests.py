"""A request to start a run of a known id is compared with the run: by its flow, and by the digest of its input."""

from typing import Any

import pytest

from beluga_graph import END, START, Engine, Graph, RunConflict
from beluga_graph.codec.references import INLINE_BYTES
from stores import MemoryStore

INPUTS = [1, "x" * (INLINE_BYTES + 1), {"a": [1, 2.5, None]}]


def echo(name: str = "echo") -> Graph:
    graph = Graph(name)
    graph.node(name="same")(lambda value: value)
    graph.edge(START, "same")
    graph.edge("same", END)
    return graph


@pytest.mark.parametrize("given", INPUTS, ids=["inline", "large", "nested"])
async def test_the_same_input_returns_the_stored_output(given: Any) -> None:
    store = MemoryStore()
    for _ in range(2):
        async with Engine(store) as engine:
            assert await engine.execute(echo(), given, run_id="r") == given
            assert await engine.execute(echo(), given, run_id="r") == given


@pytest.mark.parametrize("other", [2, "y" * (INLINE_BYTES + 1), 1.0], ids=["inline", "large", "equal of another type"])
@pytest.mark.parametrize("given", INPUTS, ids=["inline", "large", "nested"])
async def test_another_input_is_refused(given: Any, other: Any) -> None:
    store = MemoryStore()
    async with Engine(store) as engine:
        await engine.execute(echo(), given, run_id="r")
        with pytest.raises(RunConflict, match="run 'r': the id belongs to a run with another input"):
            await engine.execute(echo(), other, run_id="r")


async def test_another_flow_is_refused() -> None:
    async with Engine() as engine:
        await engine.execute(echo(), 1, run_id="r")
        with pytest.raises(RunConflict, match="the id belongs to a run of flow 'echo', not 'other'"):
            await engine.execute(echo("other"), 1, run_id="r")
