"""`compile_graph`: checks, inlines and freezes a declared graph, in named passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from beluga_graph.codec.former_names import former_name
from beluga_graph.codec.registry import Registry
from beluga_graph.codec.values import Codec
from beluga_graph.errors import BadState, DuplicateNode, EdgeTypeMismatch, UnclosedFanOut, Unreachable
from beluga_graph.events import Failure
from beluga_graph.kernel.join_rule import successes_needed
from beluga_graph.kernel.shape import CHOICE, FRAME, InterruptShape, NodeShape, RetryShape, Shape
from beluga_graph.kernel.shape import END as LEAVE
from beluga_graph.plan.approvals import add_questions, make_reviser
from beluga_graph.plan.channels import StateBinding, bind_state, stored_type_name, type_name
from beluga_graph.plan.declared import END, MISSING, START, WHOLE_GRAPH, Declared, DeclaredNode, make_flow_id
from beluga_graph.plan.interrupts import (
    add_follower_edges,
    add_payload_checks,
    check_waits_inside,
    freeze_interrupts,
)
from beluga_graph.plan.paths import check_paths
from beluga_graph.plan.plan import Binding, Body, Plan, TimeBinding, fingerprint_of
from beluga_graph.plan.times import TimeFunction, to_due_ms
from beluga_graph.plan.type_check import input_type, is_assignable, output_type
from beluga_graph.policy import Limits, Retry

__all__ = ["compile_graph", "complete_graph"]

_START, _END = START.name, END.name
_DECIDE_TIMES = ("timer", "wait", FRAME, "fan_out", CHOICE)  # before they wait; other nodes, as their attempt begins
_HAS_BODY = ("function", "agent", "tool", "handoff", "join", CHOICE)


def compile_graph(graph: Declared) -> Plan:
    """Return the plan of a declared graph. Raises a `GraphError` that names the node, the rule and the way out.

    A sub-flow is checked as a graph of its own and inlined: its node `x` becomes `sub/x`.
    """
    pieces = _Pieces(Registry())
    pieces.registry.add(Failure)  # the results of a join that collects
    entry, interrupts = _inline(graph, "", pieces)
    _register_types(graph, pieces.registry)
    state = bind_state(graph.name, graph.state) if graph.state is not None else None
    limits = graph.limits or Limits()
    shape = Shape(
        name=make_flow_id(graph.name, graph.version),
        version=graph.version,
        fingerprint="",
        entry=entry,
        nodes=pieces.nodes,
        limits=limits.as_dict(),
        state=tuple(channel.shape() for channel in state.channels.values()) if state else (),
        types=tuple(sorted(map(former_name, pieces.registry.names()))),
        timeout_ms=_ms(graph.timeout),
        due_ms=_due_ms(graph.due),
        input_type=stored_type_name(_input_of(graph, _START)),
        output_type="",
        interrupts=interrupts,
    )
    check_waits_inside(shape)
    shape = replace(shape, fingerprint=fingerprint_of(shape.to_plain()))
    codec = Codec(pieces.registry, max_bytes=limits.max_value_bytes, limit="max_value_bytes")
    return Plan(shape, pieces.bindings, codec, state, pieces.waits)


@dataclass(slots=True)
class _Pieces:
    """The parts that the passes over a graph and its sub-flows collect."""

    registry: Registry
    nodes: dict[str, NodeShape] = field(default_factory=dict)
    bindings: dict[str, Binding] = field(default_factory=dict)
    waits: dict[str, Any] = field(default_factory=dict)


def _inline(graph: Declared, frame: str, pieces: _Pieces) -> tuple[str, tuple[InterruptShape, ...]]:
    """Check one graph and add its nodes under the path of their frame; return its entry and interrupting edges."""
    graph = complete_graph(_check_start(graph))
    check_paths(graph)
    _check_joins(graph)
    _check_types(graph)
    prefix = f"{frame}/" if frame else ""
    paths = {name: prefix + name for name in graph.nodes} | {_END: LEAVE}
    state = bind_state(graph.name, graph.state) if graph.state is not None else None
    plain = dict(graph.edges)
    for node in graph.nodes.values():
        path, target, entry = paths[node.name], plain.get(node.name), None
        inner: tuple[InterruptShape, ...] = ()
        if node.kind == FRAME:
            pieces.nodes[path] = _shape_of(graph, node, frame, paths, target, "")  # before its inside
            assert node.flow is not None
            entry, inner = _inline(node.flow, path, pieces)
            _register_types(node.flow, pieces.registry)
        shape = _shape_of(graph, node, frame, paths, target, entry)
        pieces.nodes[path] = replace(shape, inner_interrupts=inner) if inner else shape
        pieces.bindings[path] = _binding_of(graph, node, state)
        if node.kind == "wait" and not node.asks:
            _note_payload(pieces, node.signal, node.type)
    for (_, signal), edge in graph.interrupts.items():
        _note_payload(pieces, signal, edge.type)
    return paths[plain[_START]], freeze_interrupts(graph, WHOLE_GRAPH, paths)


def _note_payload(pieces: _Pieces, signal: str, payload_type: Any) -> None:
    known = pieces.waits.setdefault(signal, payload_type)
    if known != payload_type:
        pieces.waits[signal] = None  # a sender cannot know who gets the payload


# Passes that complete the declaration.


def complete_graph(graph: Declared) -> Declared:
    """Return a graph with the nodes and edges that its declaration implies. Raises `DuplicateNode`."""
    graph = add_payload_checks(_add_join_edges(add_follower_edges(graph)))
    return _add_deadline(_add_choices(add_questions(graph)))


def _check_start(graph: Declared) -> Declared:
    starts = sum(source == _START for source, _ in graph.edges) + (_START in graph.branches)
    if starts == 0:
        raise Unreachable(graph.name, "START", "it has no outgoing edge", "add g.edge(START, <the first node>)")
    return graph


def _add_join_edges(graph: Declared) -> Declared:
    """Add edges from a fan-out's targets to its join if no edge at all goes to that join."""
    led = {target for _, target in graph.edges} | set(graph.errors.values())
    led |= {edge.target for edge in graph.interrupts.values()}
    led |= {target for branch in graph.branches.values() for target in branch.routes.values()}
    left = {source for source, _ in graph.edges} | set(graph.branches)
    added = [
        (target, node.join)
        for node in graph.nodes.values()
        if node.kind == "fan_out" and node.join not in led
        for target in dict.fromkeys(node.to)
        if target not in left and target in graph.nodes and graph.nodes[target].kind != "fan_out"
    ]
    return replace(graph, edges=[*graph.edges, *added]) if added else graph


def _add_choices(graph: Declared) -> Declared:
    """Add a choice for each conditional edge whose source has no body: a frame, a wait, a timer, START."""
    nodes, edges, branches = dict(graph.nodes), list(graph.edges), dict(graph.branches)
    for source in graph.branches:
        if source in nodes and nodes[source].kind in (*_HAS_BODY, "fan_out"):
            continue
        name = f"{source}?"
        nodes[name] = DeclaredNode(name=name, kind=CHOICE)
        edges.append((source, name))
        branches[name] = branches.pop(source)
    return replace(graph, nodes=nodes, edges=edges, branches=branches)


def _add_deadline(graph: Declared) -> Declared:
    """Add a choice before the first node that decides the deadline of the flow, if a function does."""
    if graph.decide is None:
        return graph
    name = f"{_START}.timeout"
    if name in graph.nodes:
        rule = "the node that decides the deadline of the flow has this name"
        raise DuplicateNode(graph.name, f"node {name!r}", rule, "choose another name")
    edges = [(name if source == _START else source, target) for source, target in graph.edges]
    nodes = {name: DeclaredNode(name=name, kind=CHOICE, decide=graph.decide), **graph.nodes}
    return replace(graph, nodes=nodes, edges=[(_START, name), *edges])


# Passes that check.


def _check_joins(graph: Declared) -> None:
    for node in graph.nodes.values():
        if node.kind != "fan_out":
            continue
        join = graph.nodes[node.join]
        if node.over is None and (needed := successes_needed(join.wait, len(node.to))) > len(node.to):
            rule = f"it waits for {needed} of {len(node.to)} branches"
            raise BadState(graph.name, f"join {join.name!r}", rule, f"wait for at most {len(node.to)}")
        for target in node.to:
            if _first_stop(graph, target) == node.join:
                rule = f"its branch over {target!r} has no node of its own"
                raise UnclosedFanOut(graph.name, f"fan-out {node.name!r}", rule, "put a node before the join")


def _first_stop(graph: Declared, name: str) -> str:
    """Return the first node that a token stops at: it passes through sub-flows without nodes."""
    seen: set[str] = set()
    next_of = dict(graph.edges)
    while name in graph.nodes and name not in seen:
        seen.add(name)
        flow = graph.nodes[name].flow
        if flow is None or _first_stop(flow, dict(flow.edges).get(_START, "")) != _END:
            break
        name = next_of.get(name, "")
    return name


def _check_types(graph: Declared) -> None:
    for source, target in graph.edges:
        if source in graph.nodes and target in graph.nodes:
            _check_edge(graph, source, target)
    for source, branch in graph.branches.items():
        for target in branch.routes.values():
            if source in graph.nodes and target in graph.nodes:
                _check_edge(graph, source, target)
    for node in graph.nodes.values():
        for target in node.to:
            if node.over is None or node.routed:
                continue
            items = output_type(node.over)
            arguments: tuple[Any, ...] = getattr(items, "__args__", ())
            if len(arguments) == 1 and not is_assignable(arguments[0], _input_of(graph, target)):
                _refuse(graph, node.name, target, arguments[0])


def _check_edge(graph: Declared, source: str, target: str) -> None:
    given = _output_of(graph, source)
    if not is_assignable(given, _input_of(graph, target)):
        _refuse(graph, source, target, given)


def _refuse(graph: Declared, source: str, target: str, given: Any) -> None:
    taken = type_name(_input_of(graph, target))
    rule = f"{source!r} gives {type_name(given)} and {target!r} takes {taken}"
    way_out = "change an annotation or put a node between them"
    raise EdgeTypeMismatch(graph.name, f"edge {source!r} -> {target!r}", rule, way_out)


def _input_of(graph: Declared, name: str) -> Any:
    """Return the type of a node's input, as far as it is known."""
    if name == _START:
        targets = [target for source, target in graph.edges if source == _START]
        return _input_of(graph, targets[0]) if targets and targets[0] in graph.nodes else Any
    node = graph.nodes[name]
    if node.asked:
        return _input_of(graph, node.asked)
    if node.kind == FRAME:
        return _input_of(node.flow, _START) if node.flow is not None else Any
    if node.kind == "join" or node.body is None:
        return Any
    return input_type(node.body)


def _output_of(graph: Declared, name: str) -> Any:
    node = graph.nodes[name]
    if node.kind == "wait":
        return Any if node.type is None or node.default is not MISSING else node.type
    if node.body is None or node.kind in (FRAME, "timer"):
        return Any
    return output_type(node.body)


# The pass that freezes.


def _shape_of(
    graph: Declared,
    node: DeclaredNode,
    frame: str,
    paths: dict[str, str],
    target: str | None,
    entry: str | None,
) -> NodeShape:
    branch = graph.branches.get(node.name)
    routes = (
        tuple((route, paths[target], branch.kinds.get(route, "conditional")) for route, target in branch.routes.items())
        if branch
        else ()
    )
    error = graph.errors.get(node.name)
    inside = bind_state(graph.name, node.flow.state) if node.flow and node.flow.state else None
    default = None if node.default is MISSING else Codec(Registry()).encode(node.default)
    return NodeShape(
        name=paths[node.name],
        local=node.name,
        kind=node.kind,
        frame=frame,
        target=paths[target] if target is not None else None,
        routes=routes,
        error=paths[error] if error else None,
        interrupts=freeze_interrupts(graph, node.name, paths),
        retry=_retry(node.retry),
        timeout_ms=_ms(node.timeout),
        join=paths[node.join] if node.kind == "fan_out" else None,
        branches=tuple(paths[target] for target in node.to),
        over=node.over is not None,
        agent=node.agent,
        max_concurrency=node.max_concurrency,
        wait=node.wait,
        collect=node.collect,
        signal=node.signal or None,
        default=default,
        checked=node.kind == "wait" and (node.type is not None or bool(node.asks)),
        received=bool(node.receives_for),
        asks=node.asks,
        delay_ms=_ms(node.seconds) or 0,
        due_ms=_due_ms(node.due),
        decides_time=node.kind in _DECIDE_TIMES and _decider(graph, node) is not None,
        entry=entry,
        state=tuple(channel.shape() for channel in inside.channels.values()) if inside else (),
        input_type=stored_type_name(_input_of(graph, node.name)),
        output_type=stored_type_name(_output_of(graph, node.name) if node.type is None else node.type),
        description=node.description,
    )


def _binding_of(graph: Declared, node: DeclaredNode, state: StateBinding | None) -> Binding:
    branch, decide = graph.branches.get(node.name), _decider(graph, node)
    return Binding(
        body=_body(node.body),
        choose=_body(branch.choose) if branch else None,
        routes=frozenset((type(route), route) for route in branch.routes) if branch else frozenset(),
        over=_body(node.over),
        routed=node.routed,
        targets=len(node.to),
        retry=node.retry,
        timeout_ms=_ms(node.timeout),
        due_ms=_due_ms(node.due),
        time=TimeBinding(Body.of(decide.call), decide.parameter) if decide is not None else None,
        state=state,
        payload_type=node.type,
        revise=(node.revise or make_reviser(_input_of(graph, node.asked))) if node.asks else None,
    )


def _decider(graph: Declared, node: DeclaredNode) -> TimeFunction | None:
    """Return the function that a node's attempt calls to decide a time. A fan-out decides that of its join."""
    if node.kind == "fan_out":
        return graph.nodes[node.join].decide
    return None if node.kind == "join" else node.decide


def _register_types(graph: Declared, registry: Registry) -> None:
    """Register every class in the graph's annotations, so that values of them can be stored."""
    for annotation in graph.types:
        registry.add(annotation)
    if graph.state is not None:
        registry.add(graph.state)
    for edge in graph.interrupts.values():
        if edge.type is not None:
            registry.add(edge.type)
    for node in graph.nodes.values():
        if node.type is not None:
            registry.add(node.type)
        for call in (node.body, node.over):
            if call is not None:
                registry.add(input_type(call))
                registry.add(output_type(call))


def _body(call: Callable[..., Any] | None) -> Body | None:
    return None if call is None else Body.of(call)


def _retry(retry: Retry | None) -> RetryShape | None:
    if retry is None:
        return None
    return RetryShape(
        attempts=retry.attempts,
        initial_ms=_ms(retry.initial) or 0,
        factor=float(retry.factor),
        maximum_ms=_ms(retry.maximum) or 0,
        jitter=float(retry.jitter),
    )


def _due_ms(due: datetime | None) -> int | None:
    return None if due is None else to_due_ms(due)


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)
