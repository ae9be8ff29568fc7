"""Paths through a declared graph: short algorithms on dicts of names, without any engine.

The tests compare these functions with `networkx`. The library does not use it, because its import takes longer than a
whole start of the engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from beluga_graph.errors import AmbiguousExit, NoWayOut, UnclosedFanOut, UnknownNode, Unreachable
from beluga_graph.plan.declared import END, START, Declared

__all__ = ["check_paths", "find_reachable", "find_successors"]

_START, _END = START.name, END.name


def find_reachable(successors: Mapping[str, Iterable[str]], source: str) -> set[str]:
    """Return the nodes that can be reached from `source`, itself included."""
    seen, todo = {source}, [source]
    while todo:
        for target in successors.get(todo.pop(), ()):
            if target not in seen:
                seen.add(target)
                todo.append(target)
    return seen


def find_successors(graph: Declared) -> dict[str, list[str]]:
    """Return the targets of each node, by edges of every kind; for a fan-out, where its branches begin."""
    found: dict[str, list[str]] = {name: [] for name in (_START, *graph.nodes, _END)}
    for source, target in graph.edges:
        found[source].append(target)
    for source, branch in graph.branches.items():
        found[source].extend(branch.routes.values())
    for source, target in graph.errors.items():
        found[source].append(target)
    for (source, _), edge in graph.interrupts.items():
        found[source or _START].append(edge.target)
    for node in graph.nodes.values():
        found[node.name].extend(node.to)
    return found


def check_paths(graph: Declared) -> dict[str, tuple[str, ...]]:
    """Check the paths of a graph; return for each node the fan-outs around it, outermost first.

    The checks, in order: the ends of every edge exist; every node has one way out; every node is reachable; every
    fan-out is closed by its join; every loop has a way out. Raises a `GraphError` for the first that fails.
    """
    _check_ends(graph)
    _check_exits(graph)
    next_of = find_successors(graph)
    seen = find_reachable(next_of, _START)
    for name in graph.nodes:
        if name not in seen:
            raise Unreachable(graph.name, f"node {name!r}", "no path from START reaches it", "add an edge to it")
    scopes = _scopes(graph, next_of)
    back: dict[str, list[str]] = {}
    for source, targets in next_of.items():
        for target in targets:
            back.setdefault(target, []).append(source)
    home = find_reachable(back, _END)
    for name in graph.nodes:
        if name not in home:
            rule = "no path from it reaches END"
            raise NoWayOut(graph.name, f"node {name!r}", rule, "give the loop it is in a branch that leaves it")
    return scopes


def _check_ends(graph: Declared) -> None:
    for source, target in graph.edges:
        _check_end(graph, source, target)
    for source, branch in graph.branches.items():
        for target in branch.routes.values():
            _check_end(graph, source, target)
    for source, target in graph.errors.items():
        _check_end(graph, source, target)
        if source == _START:
            raise UnknownNode(graph.name, "on_error(START)", "START cannot fail", "name a node")
    for (source, signal), edge in graph.interrupts.items():
        _check_end(graph, source or _START, edge.target)
        if source == _START:
            way_out = "name a node, or give the graph itself"
            raise UnknownNode(graph.name, f"on_signal(START, {signal!r})", "START is never under way", way_out)
    for node in graph.nodes.values():
        for target in node.to:
            _check_end(graph, node.name, target)
        if node.kind == "fan_out":
            _check_end(graph, node.name, node.join)
            if node.join not in graph.nodes or graph.nodes[node.join].kind != "join":
                rule = f"its join {node.join!r} is not a join"
                raise UnclosedFanOut(graph.name, f"fan-out {node.name!r}", rule, f"add g.join({node.join!r})")


def _check_end(graph: Declared, source: str, target: str) -> None:
    for name in (source, target):
        if name not in graph.nodes and name not in (_START, _END):
            edge = f"edge {source!r} -> {target!r}"
            raise UnknownNode(graph.name, edge, f"there is no node {name!r}", "add the node or fix the name")
    if target == _START or source == _END:
        edge = f"edge {source!r} -> {target!r}"
        raise UnknownNode(graph.name, edge, "START is only left and END only entered", "turn the edge around")


def _check_exits(graph: Declared) -> None:
    outs: dict[str, list[str]] = {name: [] for name in (_START, *graph.nodes)}
    for source, target in graph.edges:
        outs[source].append(target)
    for name, targets in outs.items():
        what = f"node {name!r}" if name != _START else "START"
        is_fan_out = name != _START and graph.nodes[name].kind == "fan_out"
        ways = len(targets) + (name in graph.branches) + is_fan_out
        if ways == 0:
            raise NoWayOut(graph.name, what, "it has no outgoing edge", f"add g.edge({name!r}, END) or a branch")
        if ways > 1:
            rule = f"it has {ways} ways out" + (", and a fan-out's targets are its way out" * is_fan_out)
            way_out = "use g.branch to choose one, or g.fan_out to take all"
            raise AmbiguousExit(graph.name, what, rule, way_out)


def _scopes(graph: Declared, next_of: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Return the stack of open fan-outs at each node. All paths to a node must have the same one."""
    stacks: dict[str, tuple[str, ...]] = {_START: ()}
    todo = [_START]
    while todo:
        source = todo.pop()
        if source == _END:
            continue
        inside = stacks[source]
        fan_out = source in graph.nodes and graph.nodes[source].kind == "fan_out"
        for target in next_of[source]:
            opened = fan_out and target in graph.nodes[source].to
            stack = _stack_at(graph, source, target, (*inside, source) if opened else inside)
            known = stacks.get(target)
            if known is None:
                stacks[target] = stack
                todo.append(target)
            elif known != stack:
                where = f"fan-out {(*stack, *known)[-1]!r}"
                rule = f"node {target!r} is reached both inside and outside of it, here from {source!r}"
                raise UnclosedFanOut(graph.name, where, rule, "route every path through the join first")
    for node in graph.nodes.values():
        if node.kind == "fan_out" and stacks[node.join] != stacks[node.name]:
            rule = f"its join {node.join!r} is not in the same scope"
            raise UnclosedFanOut(graph.name, f"fan-out {node.name!r}", rule, "give each fan-out a join of its own")
    return {name: stack for name, stack in stacks.items() if name in graph.nodes}


def _stack_at(graph: Declared, source: str, target: str, stack: tuple[str, ...]) -> tuple[str, ...]:
    """Return the stack at `target` after `stack` at `source`: a join closes the innermost fan-out."""
    if target == _END:
        if stack:
            rule = f"the path over {source!r} reaches END without its join {graph.nodes[stack[-1]].join!r}"
            raise UnclosedFanOut(graph.name, f"fan-out {stack[-1]!r}", rule, "route the path through the join")
        return stack
    if graph.nodes[target].kind != "join":
        return stack
    if not stack or graph.nodes[stack[-1]].join != target:
        rule = f"node {source!r} reaches it from outside of its fan-out"
        where = f"join {target!r}"
        if stack:
            where, rule = (
                f"fan-out {stack[-1]!r}",
                f"{source!r} goes to {target!r}, the join of another fan-out",
            )
        raise UnclosedFanOut(graph.name, where, rule, "a join is entered only by the branches of its own fan-out")
    return stack[:-1]
