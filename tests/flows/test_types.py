"""`types=`: classes of values that no annotation names."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from beluga_graph import (
    END,
    START,
    Agent,
    Engine,
    Graph,
    LoopAgent,
    NotData,
    ParallelAgent,
    SequentialAgent,
    Workflow,
    sleep,
    step,
    wait_signal,
)
from beluga_graph.flows.flow import Flow
from beluga_graph.testing import ScriptedModel


class Level(Enum):
    low = "low"


class Part(BaseModel):
    level: Level = Level.low


class Asked(BaseModel):
    text: str
    parts: list[Part] = []


@dataclass
class Who:
    name: str


ASKED = Asked(text="how?", parts=[Part()])


def agent(types: Any) -> Agent:
    return Agent("a", model=ScriptedModel(lambda _: "done"), types=types, instructions=lambda ctx: f"{ctx.context}")


def handing(types: Any) -> Agent:
    return Agent("first", model=ScriptedModel(lambda _: "done"), handoffs=[agent(types)])


def graph(types: Any) -> Graph:
    g = Graph("g", types=types)
    g.node(name="n")(lambda ctx, value: [value, ctx.context])
    g.edge(START, "n")
    g.edge("n", END)
    return g


FLOWS: dict[str, Callable[[Any], Flow]] = {
    "agent": agent,
    "an agent that is handed to": handing,
    "graph": graph,
    "workflow": lambda types: Workflow("w", step("n", lambda ctx, value: value), sleep("s", 0), types=types),
    "in a workflow": lambda types: Workflow("w", step("n", graph(types))),
    "sequential": lambda types: SequentialAgent("s", [agent(types)]),
    "parallel": lambda types: ParallelAgent("p", [agent(types)]),
    "loop": lambda types: LoopAgent("l", agent(types), max_iterations=1),
}


@pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)
async def test_a_flow_accepts_an_input_and_a_context_of_the_types_that_it_names(flow: Callable[[Any], Flow]) -> None:
    await flow([Asked, Who]).invoke(ASKED, context=Who("me"))
    await flow([dict[str, list[Asked]], Who | None]).invoke({"a": [ASKED]}, context=[Who("me")])


@pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)
async def test_a_class_that_no_flow_names_is_refused_with_a_hint_where_to_name_it(
    flow: Callable[[Any], Flow],
) -> None:
    for value, context in ((ASKED, {}), (1, Who("me")), ({"deep": [ASKED]}, {})):
        with pytest.raises(NotData, match="or name it in types= of the flow"):
            await flow([]).invoke(value, context=context)


async def test_another_process_continues_with_values_of_a_type_that_only_the_flow_names(tmp_path: Path) -> None:
    def flow() -> Workflow:
        last = step("last", lambda ctx, value: [value, ctx.input, ctx.context])
        return Workflow("w", wait_signal("go"), last, types=[Asked, Who])

    async with Engine(tmp_path) as engine:
        await engine.start(flow(), ASKED, run_id="r", context=Who("me"))
    async with Engine(tmp_path) as engine:
        engine.register(flow())
        await engine.signal("r", "go", [Part()])
        assert await (await engine.resume("r")).result() == [[Part()], ASKED, Who("me")]


def test_the_fingerprint_of_a_flow_without_types_is_unchanged() -> None:
    assert graph([]).plan().fingerprint == graph(()).plan().fingerprint != graph([Who]).plan().fingerprint
    assert "Who" not in str(graph([]).plan().shape.types)


@pytest.mark.parametrize("types", [Asked, None, 1, [int], ["Asked"], [dict[str, Any]], [object]])
@pytest.mark.parametrize("make", [agent, graph, FLOWS["workflow"]], ids=["agent", "graph", "workflow"])
def test_types_without_a_class_are_refused_when_the_flow_is_built(make: Callable[[Any], Flow], types: Any) -> None:
    with pytest.raises(TypeError, match="types="):
        make(types)
