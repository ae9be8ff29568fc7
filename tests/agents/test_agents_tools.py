"""Tools: how functions become tools, how their calls are made, and how impossible calls end."""

from __future__ import annotations

import asyncio
import enum
import functools
import json
import threading
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import pytest
from agents_checks import assert_valid, last_text, results
from pydantic import BaseModel, Field

from beluga_graph import Agent, Context, Engine, Retry, ToolError, tool
from beluga_graph.models.messages import Message as WireMessage
from beluga_graph.models.messages import Reply
from beluga_graph.models.messages import ToolCall as WireCall
from beluga_graph.testing import ScriptedModel, ToolCall, VirtualClock

if TYPE_CHECKING:
    from beluga_graph import Context as OnlyForCheckers

# Schemas.


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Place(BaseModel):
    city: str
    zip: str = Field(default="", description="Postal code")


def rich(
    place: Place,
    colour: Colour,
    mode: Literal["fast", "slow"],
    note: Optional[str] = None,  # noqa: UP045 - as people write it
    tags: list[str] | None = None,
    limit: Annotated[int, Field(ge=1, description="At most so many")] = 3,
) -> str:
    """Look things up.

    Args:
        place: Where to look,
            and around it.
        colour (Colour): Which colour.
        limit: Not this text: the annotation has one.
    """
    return f"{type(place).__name__} {place.city} {colour!r} {mode} {note} {tags} {limit}"


def properties(function: Any) -> dict[str, Any]:
    found: dict[str, Any] = tool(function).spec.parameters["properties"]
    return found


def test_a_schema_describes_the_signature_and_the_docstring() -> None:
    spec = tool(rich).spec
    assert (spec.name, spec.description.splitlines()[0]) == ("rich", "Look things up.")
    schema = spec.parameters
    assert schema["type"] == "object"
    assert schema["required"] == ["place", "colour", "mode"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["mode"] == {"enum": ["fast", "slow"], "type": "string"}
    assert schema["properties"]["limit"] == {
        "default": 3,
        "minimum": 1,
        "type": "integer",
        "description": "At most so many",
    }
    assert schema["properties"]["place"]["description"] == "Where to look, and around it."
    assert schema["properties"]["colour"]["description"] == "Which colour."
    assert schema["properties"]["note"]["anyOf"] == [{"type": "string"}, {"type": "null"}]
    assert schema["$defs"]["Place"]["properties"]["zip"]["description"] == "Postal code"
    assert schema["$defs"]["Colour"]["enum"] == ["red", "blue"]


async def test_arguments_reach_the_function_as_the_types_it_names() -> None:
    call = ToolCall("rich", {"place": {"city": "Ulm"}, "colour": "blue", "mode": "slow", "tags": ["x"]})
    model = ScriptedModel([call, last_text])
    output = await Agent("a", model=model, tools=[rich]).invoke("go")
    assert output == "Place Ulm <Colour.BLUE: 'blue'> slow None ['x'] 3"


def test_a_docstring_in_sphinx_format_describes_parameters_too() -> None:
    def old(path: str, depth: int = 1) -> None:
        """List files.

        :param path: Where
            to begin.
        :param int depth: How deep.
        """

    assert properties(old)["path"]["description"] == "Where to begin."
    assert properties(old)["depth"]["description"] == "How deep."


def test_parameters_may_have_names_that_pydantic_fields_may_not() -> None:
    def odd(schema: str, model_config: int, copy: bool, _hidden: str = "x", json: str = "y") -> str:
        return f"{schema} {model_config} {copy} {_hidden} {json}"

    made = tool(odd)
    assert list(made.spec.parameters["properties"]) == ["schema", "model_config", "copy", "_hidden", "json"]
    assert made(**made.parse('{"schema": "s", "model_config": 1, "copy": true}')) == "s 1 True x y"
    with pytest.raises(ToolError, match="argument_0: Extra inputs are not permitted"):
        made.parse('{"schema": "s", "model_config": 1, "copy": true, "argument_0": 2}')


def test_a_default_that_is_not_json_is_left_out_of_the_schema_without_a_warning() -> None:
    sentinel = object()

    def search(query: str, since: Any = sentinel) -> bool:
        return since is sentinel

    made = tool(search)
    assert "default" not in made.spec.parameters["properties"]["since"]
    assert made(**made.parse('{"query": "q"}'))


def test_an_annotation_for_type_checkers_only_is_allowed_for_the_context_and_refused_elsewhere() -> None:
    def good(ctx: OnlyForCheckers, query: str) -> str:
        return f"{ctx} {query}"

    assert list(properties(good)) == ["query"]

    def bad(query: Unknown) -> str:  # type: ignore[name-defined]  # noqa: F821 - that is the test
        return str(query)

    with pytest.raises(ToolError, match=r"tool 'bad': an annotation is unknown: name 'Unknown' is not defined"):
        tool(bad).spec  # noqa: B018 - the schema is made when it is asked for


def test_methods_partials_and_callable_objects_are_tools_too() -> None:
    class Shop:
        def price(self, item: str) -> int:
            """Tell the price."""
            return len(item)

        def __call__(self, item: str, *, count: int = 1) -> int:
            return len(item) * count

    def scaled(factor: int, item: str) -> int:
        return factor * len(item)

    assert tool(Shop().price).spec.parameters["required"] == ["item"]
    assert list(tool(name="shop")(Shop()).spec.parameters["properties"]) == ["item", "count"]
    made = tool(name="scaled")(functools.partial(scaled, 3))
    assert made.spec.parameters["properties"] == {"item": {"type": "string"}}
    assert made(**made.parse('{"item": "ab"}')) == 6


@pytest.mark.parametrize("name", ["", "with space", "ümlaut", "x" * 65, "a.b", "<lambda>"])
def test_a_tool_name_that_no_provider_accepts_is_refused_at_construction(name: str) -> None:
    with pytest.raises(ToolError, match="is not a tool name: use 1 to 64 letters, digits, _ or -"):
        tool(name=name)(lambda x: x)


def test_a_signature_without_a_schema_is_refused_when_the_agent_is_compiled() -> None:
    def anything(**kwargs: Any) -> None: ...
    def listed(*args: Any) -> None: ...
    def positional(x: int, /) -> None: ...

    for function in (anything, listed, positional):
        with pytest.raises(ToolError, match=f"tool '{function.__name__}': "):
            Agent("a", model=ScriptedModel(), tools=[function]).plan()


# Calls.


async def test_sync_async_and_context_taking_tools_are_called_and_the_model_sees_their_results() -> None:
    here = threading.get_ident()

    def sync(x: int) -> dict[str, Any]:
        return {"doubled": 2 * x, "in a thread": threading.get_ident() != here}

    async def on_loop(x: int) -> bool:
        return threading.get_ident() == here

    def with_context(ctx: Context, x: int) -> str:
        return f"{ctx.deps['db']} {ctx.context['tenant']} {ctx.idempotency_key.split(':', 1)[1]} {x}"

    def late(x: int) -> Any:
        async def later() -> int:
            return x + 1

        return later()

    names = ("sync", "on_loop", "with_context", "late")
    model = ScriptedModel([[ToolCall(name, {"x": 2}) for name in names], "done"])
    agent = Agent("a", model=model, tools=[sync, on_loop, with_context, late])
    async with Engine(deps={"db": "live"}) as engine:
        assert await engine.execute(agent, "go", context={"tenant": "t1"}) == "done"
    assert results(model.requests[1]) == [
        ("sync", '{"doubled": 4, "in a thread": true}', False),
        ("on_loop", "true", False),
        ("with_context", "live t1 a:calls#1[2]/a.with_context#1 2", False),
        ("late", "3", False),
    ]


async def test_calls_of_one_turn_overlap_and_their_results_are_in_call_order() -> None:
    everyone = asyncio.Barrier(3)
    order: list[int] = []
    turns = [asyncio.Event() for _ in range(3)]

    async def work(n: int) -> str:
        await everyone.wait()  # passes only when all three run at once
        if n < 2:
            await turns[n + 1].wait()  # the last call is the first to end
        order.append(n)
        turns[n].set()
        return f"r{n}"

    model = ScriptedModel([[ToolCall("work", {"n": n}) for n in range(3)], "done"])
    events = [event async for event in Agent("a", model=model, tools=[work]).stream("go")]
    assert order == [2, 1, 0]
    assert [text for _, text, _ in results(model.requests[1])] == ["r0", "r1", "r2"]
    assert [e.output for e in events if e.type == "tool_result"] == ["r2", "r1", "r0"], "watchers see them as they end"


async def test_a_tool_is_retried_and_timed_out_as_declared() -> None:
    clock = VirtualClock()
    tries: list[int] = []
    stuck = asyncio.Event()

    @tool(retry=Retry(attempts=3, initial=1.0))
    def flaky(ctx: Context) -> str:
        tries.append(ctx.attempt)
        if len(tries) < 3:
            raise ConnectionError("again")
        return "third time lucky"

    @tool(timeout=5.0)
    async def slow() -> str:
        stuck.set()
        await asyncio.Event().wait()
        return "never"

    model = ScriptedModel([[ToolCall("flaky"), ToolCall("slow")], "done"])
    async with Engine(clock=clock) as engine:
        run = await engine.start(Agent("a", model=model, tools=[flaky, slow]), "go")
        await stuck.wait()
        while (await run.status()).value != "completed":
            await clock.advance(1.0)
        assert await run.result() == "done"
    assert tries == [1, 2, 3]
    assert results(model.requests[1]) == [
        ("flaky", "third time lucky", False),
        ("slow", "Timeout: attempt 1 took longer than 5 s", True),
    ]


async def test_a_call_that_cannot_be_made_becomes_an_error_result_and_the_run_continues() -> None:
    made: list[str] = []

    def divide(a: float, b: float) -> float:
        made.append("divide")
        return a / b

    def unprintable() -> Any:
        return {(1, 2): "no JSON"}

    calls = [
        ToolCall("divide", {"a": 1, "b": 0}),
        ToolCall("no such tool", {}),
        ToolCall("divide", {"a": "x", "c": 1}),
        ToolCall("divide", '{"a": 1, "b": '),
        ToolCall("divide", "[1, 2]"),
        ToolCall("unprintable"),
        ToolCall("divide", {"a": 1, "b": 2}),
    ]
    model = ScriptedModel([calls, "done"])
    events = [event async for event in Agent("a", model=model, tools=[divide, unprintable]).stream("go")]
    assert_valid(model.requests[1].messages)
    told = results(model.requests[1])
    assert [(text, error) for _, text, error in told] == [
        ("ZeroDivisionError: float division by zero", True),
        ("there is no tool 'no such tool'; the tools are: divide, unprintable", True),
        (
            (
                "ToolError: bad arguments for divide: a: Input should be a valid number, unable to parse string as a "
                "number; b: Field required; c: Extra inputs are not permitted"
            ),
            True,
        ),
        ("ToolError: the arguments of divide are not JSON: Expecting value: line 1 column 15 (char 14)", True),
        ("ToolError: the arguments of divide are not a JSON object but list", True),
        ("TypeError: keys must be str, int, float, bool or None, not tuple", True),
        ("0.5", False),
    ]
    assert made == ["divide", "divide"], "nothing is called with arguments that do not fit"
    shown = {event.call_id: event for event in events if event.type == "tool_result"}
    assert [shown[f"call_1_{n}"].error for n in range(1, 7)] == [text for _, text, _ in told[:6]]
    assert shown["call_1_7"].output == "0.5"
    asked = [event for event in events if event.type == "tool_call"]
    assert [event.arguments for event in asked[2:5]] == [{"a": "x", "c": 1}, '{"a": 1, "b": ', "[1, 2]"]


async def test_an_empty_text_for_arguments_means_no_arguments() -> None:
    model = ScriptedModel([[ToolCall("now", ""), ToolCall("now", "  ")], "done"])
    assert await Agent("a", model=model, tools=[tool(name="now")(lambda: "noon")]).invoke("go") == "done"
    assert results(model.requests[1]) == [("now", "noon", False)] * 2


async def test_calls_without_ids_or_with_equal_ids_get_distinct_ids() -> None:
    calls = tuple(WireCall(name, "echo", json.dumps({"n": n})) for n, name in enumerate(["", "same", "same", ""]))
    reply = Reply(message=WireMessage(role="assistant", tool_calls=calls))
    model = ScriptedModel([reply, "done"])
    agent = Agent("a", model=model, tools=[tool(name="echo")(echo)])
    assert await agent.invoke("go") == "done"
    assert_valid(model.requests[1].messages)
    assert [text for _, text, _ in results(model.requests[1])] == ["0", "1", "2", "3"]


def echo(n: int) -> int:
    return n


async def test_a_tool_may_share_its_name_with_any_other_part_of_its_agent() -> None:
    worker = Agent("search", model=ScriptedModel(["from the worker"]))
    names = ("calls", "results", "search", "again", "answer", "a")
    tools = [tool(name=name)(_named(name)) for name in names]
    script: list[Any] = [
        [*(ToolCall(name) for name in names), ToolCall("transfer_to_search", {"message": "go"})],
        "done",
    ]
    model = ScriptedModel(script)
    assert await Agent("a", model=model, tools=tools, children=[worker]).invoke("go") == "done"
    assert results(model.requests[1]) == [
        *((name, name, False) for name in names),
        ("transfer_to_search", "from the worker", False),
    ]


def _named(name: str) -> Any:
    def named() -> str:
        return name

    return named


def test_a_tool_can_still_be_called_as_a_function() -> None:
    @tool
    def add(a: int, b: int) -> int:
        return a + b

    assert add(1, b=2) == 3
