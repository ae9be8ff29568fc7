"""Invalid graphs: the class and the whole message of the error, which names the place, the rule and the way out."""

from collections.abc import Callable
from typing import Annotated

import pytest
from pydantic import BaseModel

from beluga_graph import (
    END,
    START,
    AmbiguousExit,
    BadName,
    BadState,
    DuplicateNode,
    EdgeTypeMismatch,
    Graph,
    GraphError,
    NoWayOut,
    UnclosedFanOut,
    UnknownNode,
    Unreachable,
    add,
    append,
    maximum,
)


def same(value):
    return value


def graph(*names: str) -> Graph:
    g = Graph("g")
    for name in names:
        g.node(name=name)(same)
    return g


def edge_from_nowhere() -> None:
    g = graph("a")
    g.edge(START, "a")
    g.edge("a", END)
    g.edge("b", "a")
    g.plan()


def edge_to_nowhere() -> None:
    g = graph("a")
    g.edge(START, "a")
    g.edge("a", "b")
    g.plan()


def route_to_nowhere() -> None:
    g = graph("a")
    g.edge(START, "a")
    g.branch("a", same, {1: "b", 2: END})
    g.plan()


def handler_that_is_not_there() -> None:
    g = graph("a")
    g.edge(START, "a")
    g.edge("a", END)
    g.on_error("a", "b")
    g.plan()


def fan_out_to_nowhere() -> None:
    g = graph("a")
    g.fan_out("f", to=["a", "b"], join="j")
    g.join("j")
    g.edge(START, "f")
    g.edge("a", "j")
    g.edge("j", END)
    g.plan()


def edge_into_start() -> None:
    g = graph("a")
    g.edge(START, "a")
    g.edge("a", START)
    g.plan()


def two_of_one_name() -> None:
    graph("a", "a")


def two_flows_of_one_name() -> None:
    inner, g = graph("a"), Graph("outer")
    g.add(inner)
    g.add(inner)


def join_of_a_taken_name() -> None:
    graph("a").join("a")


def name_with_a_slash() -> None:
    graph("a/b")


def name_that_is_reserved() -> None:
    graph("END")


def node_of_another_graph() -> None:
    other = Graph("other")
    stranger = other.node(name="stranger")(same)
    graph("a").edge("a", stranger)


def no_start() -> None:
    g = graph("a")
    g.edge("a", END)
    g.plan()


def island() -> None:
    g = graph("a", "island")
    g.edge(START, "a")
    g.edge("a", END)
    g.edge("island", END)
    g.plan()


def dead_end() -> None:
    g = graph("a", "b")
    g.edge(START, "a")
    g.edge("a", "b")
    g.plan()


def loop_for_ever() -> None:
    g = graph("a", "b")
    g.edge(START, "a")
    g.edge("a", "b")
    g.edge("b", "a")
    g.plan()


def two_ways_out() -> None:
    g = graph("a", "b", "c")
    g.edge(START, "a")
    g.edge("a", "b")
    g.edge("a", "c")
    g.edge("b", END)
    g.edge("c", END)
    g.plan()


def two_branches() -> None:
    g = graph("a")
    g.branch("a", same, {1: END})
    g.branch("a", same, {1: END})


def branch_without_routes() -> None:
    graph("a").branch("a", same, {})


def two_handlers() -> None:
    g = graph("a", "b", "c")
    g.on_error("a", "b")
    g.on_error("a", "c")


def fan_out_without_targets() -> None:
    graph().fan_out("f", to=[], join="j")


def over_with_two_targets() -> None:
    graph("a", "b").fan_out("f", to=["a", "b"], over=same, join="j")


def fan_out_without_a_join() -> None:
    g = graph("a", "b")
    g.fan_out("f", to=["a"], join="b")
    g.edge(START, "f")
    g.edge("a", "b")
    g.edge("b", END)
    g.plan()


def path_past_the_join() -> None:
    g = graph("a", "b")
    g.fan_out("f", to=["a", "b"], join="j")
    g.join("j")
    g.edge(START, "f")
    g.edge("a", "j")
    g.edge("b", END)
    g.edge("j", END)
    g.plan()


def jump_into_a_scope() -> None:
    g = graph("a", "b", "outside")
    g.fan_out("f", to=["a", "b"], join="j")
    g.join("j")
    g.edge(START, "outside")
    g.branch("outside", same, {1: "a", 2: "f"})
    g.edge("a", "j")
    g.edge("b", "j")
    g.edge("j", END)
    g.plan()


def join_from_outside() -> None:
    g = graph("a", "outside")
    g.fan_out("f", to=["a"], join="j")
    g.join("j")
    g.edge(START, "outside")
    g.branch("outside", same, {1: "j", 2: "f"})
    g.edge("a", "j")
    g.edge("j", END)
    g.plan()


def two_fan_outs_with_one_join() -> None:
    g = graph("a", "b")
    g.fan_out("f", to=["inner"], join="j")
    g.fan_out("inner", to=["a", "b"], join="j")
    g.join("j")
    g.edge(START, "f")
    g.edge("a", "j")
    g.edge("b", "j")
    g.edge("j", END)
    g.plan()


def join_that_waits_for_too_many() -> None:
    g = graph("a", "b")
    g.fan_out("f", to=["a", "b"], join="j")
    g.join("j", wait=3)
    g.edge(START, "f")
    g.edge("j", END)
    g.plan()


def types_that_do_not_fit() -> None:
    g = Graph("g")

    @g.node
    def number(value: str) -> int:
        return len(value)

    @g.node
    def text(value: str) -> str:
        return value

    g.edge(START, number)
    g.edge("number", "text")
    g.edge(text, END)
    g.plan()


def state_that_is_no_model() -> None:
    g = Graph("g", state=dict)
    g.edge(START, g.node(name="a")(same))
    g.edge("a", END)
    g.plan()


class TwoReducers(BaseModel):
    total: Annotated[int, add, maximum] = 0


class AppendToAnInt(BaseModel):
    total: Annotated[int, append] = 0


def field_with_two_reducers() -> None:
    g = Graph("g", state=TwoReducers)
    g.edge(START, g.node(name="a")(same))
    g.edge("a", END)
    g.plan()


def append_to_what_is_no_list() -> None:
    g = Graph("g", state=AppendToAnInt)
    g.edge(START, g.node(name="a")(same))
    g.edge("a", END)
    g.plan()


def wrong_inside_a_flow_that_is_a_node() -> None:
    inner, g = Graph("inner"), Graph("outer")
    inner.edge(START, inner.node(name="a")(same))
    g.edge(START, g.add(inner))
    g.edge("inner", END)
    g.plan()


WRONG: list[tuple[Callable[[], None], type[GraphError], str]] = [
    (
        edge_from_nowhere,
        UnknownNode,
        "graph 'g', edge 'b' -> 'a': there is no node 'b'; add the node or fix the name",
    ),
    (
        edge_to_nowhere,
        UnknownNode,
        "graph 'g', edge 'a' -> 'b': there is no node 'b'; add the node or fix the name",
    ),
    (
        route_to_nowhere,
        UnknownNode,
        "graph 'g', edge 'a' -> 'b': there is no node 'b'; add the node or fix the name",
    ),
    (
        handler_that_is_not_there,
        UnknownNode,
        "graph 'g', edge 'a' -> 'b': there is no node 'b'; add the node or fix the name",
    ),
    (
        fan_out_to_nowhere,
        UnknownNode,
        "graph 'g', edge 'f' -> 'b': there is no node 'b'; add the node or fix the name",
    ),
    (
        edge_into_start,
        UnknownNode,
        "graph 'g', edge 'a' -> 'START': START is only left and END only entered; turn the edge around",
    ),
    (
        two_of_one_name,
        DuplicateNode,
        "graph 'g', node 'a': the name is taken; give name= another one",
    ),
    (
        two_flows_of_one_name,
        DuplicateNode,
        "graph 'outer', node 'g': the name is taken; give name= another one",
    ),
    (
        join_of_a_taken_name,
        DuplicateNode,
        "graph 'g', node 'a': the name is taken; choose another name",
    ),
    (
        name_with_a_slash,
        BadName,
        (
            "graph 'g', name 'a/b': a name is 1 to 200 characters without / # [ ] $ and control characters, "
            "and not START or END; choose another one"
        ),
    ),
    (
        name_that_is_reserved,
        BadName,
        (
            "graph 'g', name 'END': a name is 1 to 200 characters without / # [ ] $ and control characters, "
            "and not START or END; choose another one"
        ),
    ),
    (
        node_of_another_graph,
        BadName,
        "graph 'g', node 'stranger': it belongs to graph 'other'; add that flow as a node with g.add",
    ),
    (
        no_start,
        Unreachable,
        "graph 'g', START: it has no outgoing edge; add g.edge(START, <the first node>)",
    ),
    (
        island,
        Unreachable,
        "graph 'g', node 'island': no path from START reaches it; add an edge to it",
    ),
    (
        dead_end,
        NoWayOut,
        "graph 'g', node 'b': it has no outgoing edge; add g.edge('b', END) or a branch",
    ),
    (
        loop_for_ever,
        NoWayOut,
        "graph 'g', node 'a': no path from it reaches END; give the loop it is in a branch that leaves it",
    ),
    (
        two_ways_out,
        AmbiguousExit,
        "graph 'g', node 'a': it has 2 ways out; use g.branch to choose one, or g.fan_out to take all",
    ),
    (
        two_branches,
        AmbiguousExit,
        "graph 'g', node 'a': it has a branch already; give it one branch",
    ),
    (
        branch_without_routes,
        AmbiguousExit,
        "graph 'g', node 'a': its branch has no route; give at least one",
    ),
    (
        two_handlers,
        AmbiguousExit,
        "graph 'g', node 'a': it has an error edge already; give it one",
    ),
    (
        fan_out_without_targets,
        AmbiguousExit,
        "graph 'g', fan-out 'f': it has no target; give to= at least one node",
    ),
    (
        over_with_two_targets,
        AmbiguousExit,
        "graph 'g', fan-out 'f': 2 targets with over=; give one target that takes an item",
    ),
    (
        fan_out_without_a_join,
        UnclosedFanOut,
        "graph 'g', fan-out 'f': its join 'b' is not a join; add g.join('b')",
    ),
    (
        path_past_the_join,
        UnclosedFanOut,
        "graph 'g', fan-out 'f': the path over 'b' reaches END without its join 'j'; route the path through the join",
    ),
    (
        jump_into_a_scope,
        UnclosedFanOut,
        (
            "graph 'g', fan-out 'f': node 'a' is reached both inside and outside of it, here from 'f'; route "
            "every path through the join first"
        ),
    ),
    (
        join_from_outside,
        UnclosedFanOut,
        (
            "graph 'g', join 'j': node 'outside' reaches it from outside of its fan-out; a join is entered "
            "only by the branches of its own fan-out"
        ),
    ),
    (
        two_fan_outs_with_one_join,
        UnclosedFanOut,
        "graph 'g', fan-out 'f': the path over 'j' reaches END without its join 'j'; route the path through the join",
    ),
    (
        join_that_waits_for_too_many,
        BadState,
        "graph 'g', join 'j': it waits for 3 of 2 branches; wait for at most 2",
    ),
    (
        types_that_do_not_fit,
        EdgeTypeMismatch,
        (
            "graph 'g', edge 'number' -> 'text': 'number' gives int and 'text' takes str; change an "
            "annotation or put a node between them"
        ),
    ),
    (
        state_that_is_no_model,
        BadState,
        "graph 'g', state <class 'dict'>: it is not a pydantic model class; derive it from BaseModel",
    ),
    (
        field_with_two_reducers,
        BadState,
        "graph 'g', state TwoReducers: field 'total' has 2 reducers; name one reducer in its Annotated",
    ),
    (
        wrong_inside_a_flow_that_is_a_node,
        NoWayOut,
        "graph 'inner', node 'a': it has no outgoing edge; add g.edge('a', END) or a branch",
    ),
    (
        append_to_what_is_no_list,
        BadState,
        "graph 'g', state AppendToAnInt: append field 'total' is a int; make it a list",
    ),
]


@pytest.mark.parametrize(("build", "kind", "message"), WRONG, ids=[build.__name__ for build, _, _ in WRONG])
def test_a_wrong_graph_is_refused_in_whole_sentences(
    build: Callable[[], None], kind: type[GraphError], message: str
) -> None:
    with pytest.raises(GraphError) as caught:
        build()
    assert type(caught.value) is kind
    assert str(caught.value) == message
