"""`Graph.on_signal` and `on_signal=` of a step: what may be declared, and what it compiles to."""

from __future__ import annotations

from typing import Any

import pytest

from beluga_graph import END, START, Graph, Workflow, sleep, step, wait_signal
from beluga_graph.errors import (
    AmbiguousExit,
    BadName,
    DuplicateNode,
    EdgeTypeMismatch,
    GraphError,
    UnclosedFanOut,
    UnknownNode,
    Unreachable,
)
from beluga_graph.kernel.shape import END as LEAVE


def chain(name: str = "g") -> Graph:
    """Return `a` then `b`, and a node `c` beside them."""
    g = Graph(name)
    for node in ("a", "b", "c"):
        g.node(name=node)(lambda value: value)
    g.edge(START, "a")
    g.edge("a", "b")
    g.edge("b", END)
    g.edge("c", END)
    g.on_error("b", "c")
    return g


def refusal(g: Graph) -> GraphError:
    with pytest.raises(GraphError) as caught:
        g.plan()
    return caught.value


def test_an_edge_out_of_a_node_is_part_of_its_shape() -> None:
    g = chain()
    g.on_signal("a", "stop", "c")
    g.on_signal("a", "skip", END)
    assert g.plan().shape.nodes["a"].interrupts == (("stop", "c", ()), ("skip", LEAVE, ()))


def test_an_edge_out_of_the_graph_exempts_its_target() -> None:
    g = chain()
    g.on_signal(g, "stop", "c")
    assert g.plan().shape.interrupts == (("stop", "c", ("c",)),)


def test_the_edges_of_a_sub_flow_are_those_of_its_frame() -> None:
    inner, outer = chain("inner"), chain("outer")
    inner.on_signal(inner, "stop", "c")
    outer.add(inner)
    outer.edge("inner", END)
    outer.on_signal("a", "go", "inner")
    outer.on_signal("inner", "stop", "c")
    frame = outer.plan().shape.nodes["inner"]
    assert frame.inner_interrupts == (("stop", "inner/c", ("inner/c",)),)
    assert frame.interrupts == (("stop", "c", ()),)
    assert outer.plan().shape.interrupts == ()


def test_a_graph_without_interrupting_edges_keeps_its_fingerprint_and_each_edge_changes_it() -> None:
    plain, other, whole = chain(), chain(), chain()
    for g in (plain, other, whole):
        g.on_error("a", "c")
    before = plain.plan().fingerprint
    other.on_signal("a", "stop", "c")
    whole.on_signal(whole, "stop", "c")
    assert "interrupts" not in plain.plan().shape.to_plain()
    assert len({before, other.plan().fingerprint, whole.plan().fingerprint}) == 3


def test_a_typed_payload_is_checked_by_a_node_before_the_target_that_shares_its_error_edge() -> None:
    g = chain()
    g.node(name="mend")(lambda failure: failure)
    g.edge("mend", END)
    g.on_error("c", "mend")
    g.on_signal("a", "stop/now", "c", type=int)
    g.on_signal("b", "stop/now", "c", type=int)
    shape = g.plan().shape
    check = shape.nodes["c.stop_now"]
    assert (check.kind, check.signal, check.checked, check.received) == ("wait", "stop/now", True, True)
    assert (check.target, check.error, check.output_type) == ("c", "mend", "int")
    assert shape.nodes["a"].interrupts == shape.nodes["b"].interrupts == (("stop/now", "c.stop_now", ()),)
    assert g.plan().waits == {"stop/now": int}


def test_an_edge_out_of_the_graph_exempts_all_nodes_that_handle_the_signal() -> None:
    g = Graph("g")
    g.node(name="a")(lambda value: value)
    g.node(name="undo", requires_approval=lambda value: True)(lambda value: value)
    g.edge(START, "a")
    g.edge("a", END)
    g.edge("undo", END)
    g.on_signal(g, "stop", "undo", type=str)
    ((signal, target, exempt),) = g.plan().shape.interrupts
    assert (signal, target) == ("stop", "undo.stop")
    assert set(exempt) == {"undo.stop", "undo.asks", "undo.approval", "undo"}


def test_a_signal_interrupts_also_the_question_before_a_step() -> None:
    g = chain()
    g.node(name="d", requires_approval=True)(lambda value: value)
    g.on_error("a", "d")
    g.edge("d", END)
    g.on_signal("d", "stop", "c")
    assert g.plan().shape.nodes["d.approval"].interrupts == (("stop", "c", ()),)


def test_a_payload_type_must_fit_the_target() -> None:
    g = chain()

    @g.node
    def count(value: int) -> int:
        return value

    g.edge(count, END)
    g.on_signal("a", "stop", count, type=str)
    assert isinstance(refusal(g), EdgeTypeMismatch)


def test_payload_types_that_differ_for_one_name_need_one_node_each() -> None:
    g = chain()
    g.on_signal("a", "stop", "c", type=int)
    g.on_signal("b", "stop", "c", type=str)
    error = refusal(g)
    assert isinstance(error, DuplicateNode)
    assert "'c.stop'" in str(error)


@pytest.mark.parametrize("signal", ["", "  ", "approval:a#1", 5])
def test_a_signal_has_a_name_that_can_be_sent(signal: Any) -> None:
    with pytest.raises(BadName, match="on_signal"):
        chain().on_signal("a", signal, "c")


def test_a_source_has_one_edge_for_each_signal() -> None:
    g = chain()
    g.on_signal("a", "stop", "c")
    g.on_signal(g, "stop", "c")
    with pytest.raises(AmbiguousExit, match="node 'a': the signal 'stop' interrupts it already"):
        g.on_signal("a", "stop", "b")
    with pytest.raises(AmbiguousExit, match="the graph: the signal 'stop' interrupts it already"):
        g.on_signal(g, "stop", "b")


def test_the_ends_of_an_edge_exist() -> None:
    unknown, started, other = chain(), chain(), chain()
    unknown.on_signal("a", "stop", "nowhere")
    assert isinstance(refusal(unknown), UnknownNode)
    started.on_signal("START", "stop", "c")
    assert "give the graph itself" in str(refusal(started))
    with pytest.raises(TypeError, match="cannot be an end"):
        other.on_signal(chain(), "stop", "c")  # type: ignore[arg-type]  # mypy allows any graph here
    with pytest.raises(BadName, match="belongs to graph 'g'"):
        Graph("h").on_signal(chain().add(chain("i")), "stop", END)


def test_a_node_that_only_a_signal_reaches_is_reached_and_a_loop_that_only_a_signal_ends_has_a_way_out() -> None:
    g = Graph("service")
    g.node(name="serve")(lambda value: value)
    g.node(name="last")(lambda value: value)
    g.edge("last", END)
    g.edge(START, "serve")
    g.edge("serve", "serve")
    assert isinstance(refusal(g), Unreachable)
    g.on_signal("serve", "stop", "last")
    assert g.plan()


def fanned() -> Graph:
    g = Graph("g")
    for node in ("one", "two", "c"):
        g.node(name=node)(lambda value: value)
    g.fan_out("f", to=["one", "two"], join="j")
    g.join("j")
    g.edge(START, "f")
    g.edge("j", END)
    return g


def test_an_edge_stays_in_its_scope() -> None:
    out, whole, into = fanned(), fanned(), fanned()
    out.edge("c", END)
    out.on_signal("one", "stop", "c")
    assert isinstance(refusal(out), UnclosedFanOut)
    whole.edge("c", END)
    whole.on_signal(whole, "stop", "one")
    assert isinstance(refusal(whole), (UnclosedFanOut, Unreachable))
    into.edge("one", "j")
    into.edge("two", "j")
    into.edge("c", "j")
    into.on_signal("one", "stop", "c")
    into.on_signal("two", "stop", "j")
    assert into.plan().shape.nodes["two"].interrupts == (("stop", "j", ()),)


def test_one_name_is_not_both_a_wait_and_an_interrupt_of_it() -> None:
    itself, sub, fan, whole, beside = chain(), chain(), fanned(), chain(), chain()
    itself.wait("w", "stop")
    itself.on_error("a", "w")
    itself.edge("w", END)
    itself.on_signal("w", "stop", "c")
    assert "would both end this wait and interrupt it; give one of the two another signal" in str(refusal(itself))

    inner = Graph("inner")
    inner.wait("w", "stop")
    inner.edge(START, "w")
    inner.edge("w", END)
    sub.add(inner)
    sub.edge("inner", END)
    sub.on_error("a", "inner")
    sub.on_signal("inner", "stop", "c")
    assert "node 'inner/w': the signal 'stop' would both end this wait and interrupt node 'inner'" in str(refusal(sub))

    fan.edge("c", END)
    fan.wait("w", "stop")
    fan.edge("one", "w")
    fan.edge("two", "j")
    fan.edge("w", "j")
    fan.on_signal("f", "stop", "c")
    assert "interrupt node 'f' around it" in str(refusal(fan))

    whole.wait("w", "stop")
    whole.on_error("a", "w")
    whole.edge("w", END)
    whole.on_signal(whole, "stop", "c")
    assert "interrupt the graph around it" in str(refusal(whole))

    beside.wait("w", "stop")
    beside.on_error("a", "w")
    beside.edge("w", END)
    beside.on_signal("a", "stop", "c")
    assert beside.plan().waits == {"stop": None}


def test_after_the_handler_of_a_step_the_workflow_goes_on_behind_the_step() -> None:
    def undo(value: str) -> str:
        return value

    w = Workflow("w", sleep("pause", 1), step("ship", lambda v: v, on_signal={"cancel": undo}), wait_signal("receipt"))
    nodes = w.plan().shape.nodes
    assert nodes["ship"].interrupts == (("cancel", "undo", ()),)
    assert (nodes["undo"].target, nodes["ship"].target) == ("receipt", "receipt")


def test_a_handler_may_have_handlers_and_be_a_flow() -> None:
    inner = Workflow("inner", step("x", lambda v: v))
    again = step("again", inner, on_signal={"stop": step("stopped", lambda v: v)})
    w = Workflow("w", step("ship", lambda v: v, on_signal={"retry": again}))
    nodes = w.plan().shape.nodes
    assert nodes["ship"].interrupts == (("retry", "again", ()),)
    assert nodes["again"].interrupts == (("stop", "stopped", ()),)
    assert nodes["again"].target == nodes["stopped"].target == LEAVE


def test_the_handlers_of_a_step_in_a_graph_follow_its_branch_or_their_own_edges() -> None:
    g = chain()
    g.add(step("d", lambda v: v, on_signal={"x": step("e", lambda v: v), "y": step("f", lambda v: v)}))
    g.on_error("a", "d")
    g.branch("d", lambda v: v, {True: "b", False: END})
    g.edge("f", "c")
    nodes = g.plan().shape.nodes
    assert nodes["e"].routes == nodes["d"].routes
    assert nodes["f"].target == "c"


def test_names_in_a_workflow_are_distinct_handlers_included() -> None:
    twice = step("undo", lambda v: v)
    with pytest.raises(DuplicateNode, match="'undo'"):
        Workflow("w", step("a", lambda v: v, on_signal={"x": twice}), step("b", lambda v: v, on_signal={"x": twice}))


def test_a_handler_is_a_step() -> None:
    with pytest.raises(TypeError, match="is not a step"):
        step("a", lambda v: v, on_signal={"x": 5})  # type: ignore[dict-item]  # refused at run time, too


@pytest.mark.parametrize("handlers", ["cancel", [("cancel", len)], 5])
def test_handlers_are_given_by_the_names_of_signals(handlers: Any) -> None:
    with pytest.raises(TypeError, match=r"step 'a': on_signal=.*give steps by the names of signals"):
        step("a", lambda v: v, on_signal=handlers)
