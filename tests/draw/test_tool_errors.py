"""Why a tool failed is told at its visit, though the run went on and the agent got the error as a result."""

import pytest

from beluga_graph import Agent, Engine, tool
from beluga_graph.cli.tree_view import walked
from beluga_graph.testing import ScriptedModel, ToolCall
from beluga_graph.trace.tree import iter_visits


@tool
def look_up(city: str) -> str:
    """Look a city up."""
    if city != "Rome":
        raise LookupError(f"no map of {city[:10]}")
    return city


def asking(city: str) -> Agent:
    return Agent("guide", model=ScriptedModel([[ToolCall("look_up", {"city": city})], "done"]), tools=[look_up])


@pytest.mark.parametrize("times", [1, 5_000])
async def test_the_error_of_a_failed_tool_is_told_at_its_visit(times: int) -> None:
    async with Engine() as engine:
        await engine.execute(asking("Atlantis" * times), "go", run_id="bad")
        await engine.execute(asking("Rome"), "go", run_id="good")
        tree = walked(engine.store, "bad", depth=None, unfolded=True)
        found = await engine.compare("bad", "good")
    name = next(visit.name for visit in iter_visits(tree.items) if visit.node.endswith("look_up"))
    error = f"LookupError: no map of {('Atlantis' * times)[:10]}"
    assert tree.results[name] == (None, error)
    assert [(value.errors, value.values) for value in found.outputs if value.name == name] == [
        ((error, ""), (None, "Rome"))
    ]
