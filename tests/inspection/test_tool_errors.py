"""The error of a failed tool is shown at its visit, although the agent got it as a result and the run continued."""

import pytest

from beluga_graph import Agent, Engine, tool
from beluga_graph.inspection.run_tree import read_run_tree
from beluga_graph.storage.loading import read_run_record
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
async def test_the_error_of_a_failed_tool_is_shown_at_its_visit(times: int) -> None:
    async with Engine() as engine:
        await engine.execute(asking("Atlantis" * times), "go", run_id="bad")
        await engine.execute(asking("Rome"), "go", run_id="good")
        tree = read_run_tree(engine.store, read_run_record(engine.store, "bad"), depth=None, unfolded=True)
        found = await engine.compare("bad", "good")
    name = next(visit.name for visit in iter_visits(tree.items) if visit.node.endswith("look_up"))
    error = f"LookupError: no map of {('Atlantis' * times)[:10]}"
    assert tree.results[name] == (None, error)
    assert [(value.errors, value.values) for value in found.outputs if value.name == name] == [
        ((error, ""), (None, "Rome"))
    ]
