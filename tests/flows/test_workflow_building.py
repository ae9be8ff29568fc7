"""Building workflows: the kinds of parts, refused arguments, and parts as nodes of other flows."""

from typing import Any

import pytest

from beluga_graph import (
    END,
    START,
    BadName,
    DuplicateNode,
    Engine,
    Graph,
    ParallelAgent,
    Retry,
    SequentialAgent,
    Unreachable,
    Workflow,
    run_sync,
    sleep,
    step,
    wait_signal,
)


async def double(value: int) -> int:
    return value * 2


async def add_one(value: int) -> int:
    return value + 1


def test_functions_flows_and_parts_are_steps() -> None:
    inner = Workflow("inner", double, add_one)
    graph = Graph("graph")
    graph.edge(START, graph.add(double))
    graph.edge("double", END)
    whole = Workflow("whole", add_one, inner, graph, step("again", inner), sleep("rest", 0))
    assert run_sync(whole, 1) == 21
    assert [part.name for part in whole.parts] == ["add_one", "inner", "graph", "again", "rest"]


def test_a_step_is_made_by_a_decorator_with_or_without_a_name() -> None:
    @step
    def bare(value: int) -> int:
        return value + 1

    @step("named", retry=Retry(attempts=2))
    def other(value: int) -> int:
        return value * 2

    @step(timeout=5)
    def own_name(value: int) -> int:
        return value * 10

    assert [bare.name, other.name, own_name.name] == ["bare", "named", "own_name"]
    assert bare(1) == 2
    assert run_sync(Workflow("w", bare, other, own_name), 1) == 40


def test_a_workflow_can_be_a_node_of_another_flow() -> None:
    one, two = Workflow("one", double), Workflow("two", add_one)
    assert run_sync(SequentialAgent("row", [one, two]), 3) == 7
    assert run_sync(ParallelAgent("both", [one, two]), 3) == {"one": 6, "two": 4}


async def test_a_graph_accepts_every_part_as_a_node() -> None:
    g = Graph("g")
    first = g.add(step("first", double))
    rest = g.add(sleep("rest", 0))
    heard = g.add(wait_signal("go", type=int), name="heard")
    last = g.add(step("last", Workflow("inner", add_one)))
    for source, target in [(START, first), (first, rest), (rest, heard), (heard, last), (last, END)]:
        g.edge(source, target)
    assert await first(4) == 8
    async with Engine() as engine:
        run = await engine.start(g, 1)
        await run.signal("go", 41)
        assert await run.result(60) == 42


def test_a_part_can_be_used_in_many_flows_and_twice_under_another_name() -> None:
    part = step("part", double)
    g = Graph("g")
    g.edge(START, g.add(part))
    g.edge("part", g.add(part, name="more"))
    g.edge("more", END)
    assert run_sync(g, 1) == 4
    assert run_sync(Workflow("w", part), 1) == 2
    with pytest.raises(DuplicateNode, match="the name is taken; give name= another one"):
        g.add(part)


def test_a_workflow_is_drawn() -> None:
    assert Workflow("w", add_one, wait_signal("go", timeout=9), sleep("rest", 1)).ascii() == (
        "  ● START\n"
        "  ↓\n"
        "  add_one  function\n"
        "  ↓\n"
        "  go       wait, signal go, within 9 s\n"
        "  ↓\n"
        "  rest     timer, 1 s\n"
        "  ↓\n"
        "  ◉ END\n"
    )


def test_the_types_of_consecutive_steps_are_checked() -> None:
    def takes_text(value: str) -> str:
        return value

    with pytest.raises(Exception, match="'double' gives int and 'takes_text' takes str"):
        Workflow("w", double, takes_text).plan()


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (
            lambda: Workflow("w", double, double),
            DuplicateNode,
            "graph 'w', workflow 'w': two of its steps are called 'double'; give one another name: step(name, …)",
        ),
        (
            lambda: Workflow("w", Workflow("in", double), Workflow("in", add_one)),
            DuplicateNode,
            "graph 'w', workflow 'w': two of its steps are called 'in'; give one another name: step(name, …)",
        ),
        (lambda: Workflow("w"), Unreachable, "graph 'w', workflow 'w': it has no steps; give it at least one"),
        (
            lambda: Workflow("w", "double"),  # type: ignore[arg-type]  # the point
            TypeError,
            "'double' is not a step: give a function, a flow, step(…), wait_signal(…) or sleep(…)",
        ),
        (
            lambda: Workflow("w", Workflow),
            TypeError,
            (
                "<class 'beluga_graph.flows.workflow.Workflow'> is not a step: give a function, a flow, step(…), "
                "wait_signal(…) or sleep(…)"
            ),
        ),
        (
            lambda: step("s", 5),  # type: ignore[call-overload]  # the point
            TypeError,
            "step 's': 5 is not a step: give a function, a flow, step(…), wait_signal(…) or sleep(…)",
        ),
        (
            lambda: step("s", sleep("x", 1)),
            TypeError,
            "<part 'x'> is a part already: use it as it is",
        ),
        (
            lambda: step("s", double, timeout=-1),
            ValueError,
            "step 's': timeout=-1; seconds are >= 0, and at most a hundred years",
        ),
        (
            lambda: step("s", double, retry=3),  # type: ignore[call-overload]  # the point
            TypeError,
            "step 's': retry=3; give a Retry(…)",
        ),
        (
            lambda: step("s", Workflow("in", double), retry=Retry(retry_on=(OSError,))),
            ValueError,
            "step 's': any failure repeats the whole flow: give retry_on and give_up_on to its nodes",
        ),
        (
            lambda: Workflow("w", double, timeout="5"),  # type: ignore[arg-type]  # the point
            TypeError,
            "workflow 'w': timeout='5'; give a number of seconds, a timedelta, or a datetime with a zone",
        ),
        (
            lambda: sleep("rest", -1),
            ValueError,
            "sleep('rest'): seconds=-1; seconds are >= 0, and at most a hundred years",
        ),
        (
            lambda: sleep("rest", float("nan")),
            ValueError,
            "sleep('rest'): seconds=nan; seconds are >= 0, and at most a hundred years",
        ),
        (
            lambda: wait_signal("go", default=1),
            ValueError,
            "wait_signal('go'): default= is the output after a timeout: give timeout= too",
        ),
        (
            lambda: Graph("g").add(step("s", double), timeout=1),
            TypeError,
            "<part 's'> has its own retry and timeout: give them where the part is made",
        ),
        (
            lambda: step("a/b", double),
            BadName,
            (
                "graph 'a/b', name 'a/b': a name is 1 to 200 characters without / # [ ] $ and control characters, "
                "and not START or END; choose another one"
            ),
        ),
    ],
)
def test_an_invalid_workflow_is_refused_when_it_is_built(make: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == text


def test_a_part_that_waits_cannot_be_called() -> None:
    with pytest.raises(TypeError, match="part 'go' has no function of its own to call"):
        wait_signal("go")()


def test_a_workflow_within_itself_is_refused() -> None:
    g = Graph("g")
    with pytest.raises(Exception, match="this graph is a part of it"):
        g.add(Workflow("w", step("inner", g)))
