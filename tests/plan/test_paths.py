"""The path algorithms, compared with networkx."""

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beluga_graph.errors import NoWayOut, UnclosedFanOut, Unreachable
from beluga_graph.plan.declared import Branch, Declared, DeclaredNode
from beluga_graph.plan.paths import check_paths, find_reachable

NAMES = "abcdef"
edges = st.dictionaries(st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), max_size=3), max_size=6)


def declared(kinds: dict[str, dict], edges: list[tuple[str, str]], branches: dict[str, list[str]] | None = None):
    nodes = {name: DeclaredNode(name=name, **{"kind": "function", **fields}) for name, fields in kinds.items()}
    chosen = {source: Branch(None, dict(enumerate(targets))) for source, targets in (branches or {}).items()}
    return Declared("g", nodes=nodes, edges=edges, branches=chosen)


@given(edges, st.sampled_from(NAMES))
def test_find_reachable_agrees_with_networkx(edges: dict[str, list[str]], source: str) -> None:
    graph = nx.DiGraph(edges)
    graph.add_nodes_from(NAMES)
    assert find_reachable(edges, source) == {source} | nx.descendants(graph, source)


@given(st.dictionaries(st.sampled_from(NAMES), st.lists(st.sampled_from([*NAMES, "END"]), min_size=1, max_size=3)))
def test_a_graph_passes_if_and_only_if_every_node_is_reachable_and_reaches_the_end(edges: dict[str, list[str]]) -> None:
    edges = {
        source: [target for target in targets if target in edges or target == "END"]
        for source, targets in edges.items()
    }
    edges = {source: targets for source, targets in edges.items() if targets}
    edges = {s: [t for t in ts if t in edges or t == "END"] or ["END"] for s, ts in edges.items()}
    if not edges:
        return
    first = min(edges)
    oracle = nx.DiGraph(edges)
    oracle.add_edge("START", first)
    oracle.add_node("END")
    reached = nx.descendants(oracle, "START") >= set(edges)
    homeward = all(nx.has_path(oracle, name, "END") for name in edges)
    graph = declared({name: {} for name in edges}, [("START", first)], edges)
    if reached and homeward:
        assert check_paths(graph) == dict.fromkeys(edges, ())
    else:
        with pytest.raises(NoWayOut if reached else Unreachable):
            check_paths(graph)


def test_scopes_nest_and_a_join_is_in_the_scope_of_its_fan_out() -> None:
    graph = declared(
        {
            "outer": {"kind": "fan_out", "to": ("a", "inner"), "join": "end_outer"},
            "a": {},
            "inner": {"kind": "fan_out", "to": ("b",), "join": "end_inner"},
            "b": {},
            "end_inner": {"kind": "join"},
            "end_outer": {"kind": "join"},
        },
        [
            ("START", "outer"),
            ("a", "end_outer"),
            ("b", "end_inner"),
            ("end_inner", "end_outer"),
            ("end_outer", "END"),
        ],
    )
    assert check_paths(graph) == {
        "outer": (),
        "a": ("outer",),
        "inner": ("outer",),
        "b": ("outer", "inner"),
        "end_inner": ("outer",),
        "end_outer": (),
    }


@pytest.mark.parametrize(
    "last",
    [("b", "END"), ("b", "c"), ("b", "other")],
    ids=["to the end", "out of the scope", "to a join of another fan-out"],
)
def test_a_path_that_misses_its_join_is_refused(last: tuple[str, str]) -> None:
    graph = declared(
        {
            "split": {"kind": "fan_out", "to": ("a", "b"), "join": "merge"},
            "a": {},
            "b": {},
            "merge": {"kind": "join"},
            "c": {},
            "again": {"kind": "fan_out", "to": ("d",), "join": "other"},
            "d": {},
            "other": {"kind": "join"},
        },
        [
            ("START", "split"),
            ("a", "merge"),
            last,
            ("merge", "c"),
            ("c", "again"),
            ("d", "other"),
            ("other", "END"),
        ],
    )
    with pytest.raises(UnclosedFanOut):
        check_paths(graph)
