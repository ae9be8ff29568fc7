"""Compile the members of a conversation: the nodes and edges that one agent adds to its graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from beluga_graph.agents.handoff_nodes import AGAIN, delegate, transfer
from beluga_graph.agents.handoffs import Handoff
from beluga_graph.agents.model_turn import ANSWER, CALLS, Speaker, Turn
from beluga_graph.agents.tool_calls import approval_of, revision_of, tool_body
from beluga_graph.agents.tools import Tool
from beluga_graph.errors import BadName, DuplicateNode, ModelError, ToolError
from beluga_graph.execution.context import Context, attempt_of
from beluga_graph.flows.flow import Flow
from beluga_graph.plan.declared import END, Branch, Declared, DeclaredNode
from beluga_graph.policy import Retry

__all__ = ["Member", "conversation_handoffs", "declare_member"]

MODEL_RETRY = Retry(attempts=5, initial=0.5, factor=2.0, maximum=30.0, jitter=0.2, retry_on=(ModelError,))


class Member(Speaker, Protocol):
    """An agent as the compiler reads it."""

    @property
    def tools(self) -> Sequence[Tool]:
        """The tools that it offers to its model."""

    @property
    def handoffs(self) -> Sequence[Handoff]:
        """Its handoffs, and one for each child."""

    @property
    def children(self) -> Sequence[Flow]:
        """The flows to which it delegates."""


def declare_member(graph: Declared, agent: Member) -> None:
    """Add the nodes and edges of one agent to the graph of its conversation.

    Raises `DuplicateNode`, `BadName` for the name of an agent, `ToolError` for a tool without a schema.
    """
    name, calls, results = agent.name, f"{agent.name}:calls", f"{agent.name}:results"
    tools, transfers = _offers(agent)
    children = {id(child) for child in agent.children}
    order = [*tools, *(tool for tool, made in transfers.items() if id(made.target) in children)]
    turn = Turn(agent, tools, transfers, {tool: place for place, tool in enumerate(order)})
    _add(graph, DeclaredNode(name=name, kind="agent", body=turn.think, retry=MODEL_RETRY, agent=name))
    outward = {}
    for tool, made in transfers.items():
        if tool not in turn.places:
            node = outward[tool] = f"{name}.{tool}"
            _add(graph, DeclaredNode(name=node, kind="handoff", body=transfer(name, made), agent=name))
            graph.branches[node] = Branch(_chosen_route, {tool: made.target.name, AGAIN: name}, {tool: "handoff"})
    routes: dict[Any, str] = {ANSWER: END.name, AGAIN: name}
    if order:
        routes[CALLS] = calls
        to = tuple(_declare_call(graph, turn, tool, results) for tool in order)
        over = turn.branches
        _add(
            graph,
            DeclaredNode(name=calls, kind="fan_out", to=to, over=over, routed=True, join=results, agent=name),
        )
        _add(graph, DeclaredNode(name=results, kind="join", body=turn.join, collect=True, agent=name))
        graph.branches[results] = Branch(_chosen_route, {AGAIN: name, **outward})
    graph.branches[name] = Branch(_chosen_route, {**routes, **outward})


def _declare_call(graph: Declared, turn: Turn, tool: str, results: str) -> str:
    """Add the node of a tool, or the frame of a child. Return the node at which a branch of the fan-out begins."""
    name, node = turn.agent.name, f"{turn.agent.name}.{tool}"
    graph.edges.append((node, results))
    if tool in turn.tools:
        found = turn.tools[tool]
        call = DeclaredNode(
            name=node,
            kind="tool",
            body=tool_body(found),
            retry=found.retry,
            timeout=found.timeout,
            agent=name,
            requires_approval=approval_of(found),
            revise=revision_of(found),
        )
        _add(graph, call)
        return node
    made = turn.transfers[tool]
    flow = made.target.declare()
    _add(graph, DeclaredNode(name=node, kind="frame", flow=flow, timeout=flow.timeout, due=flow.due))
    if made.on_handoff is None and made.input_filter is None:
        return node
    before = f"{node}:handoff"
    _add(graph, DeclaredNode(name=before, kind="handoff", body=delegate(made), agent=name))
    graph.edges.append((before, node))
    return before


def _add(graph: Declared, node: DeclaredNode) -> None:
    if node.name in graph.nodes:
        raise DuplicateNode(graph.name, f"node {node.name!r}", "two agents have one of this name", "rename one agent")
    graph.nodes[node.name] = node


def _offers(agent: Member) -> tuple[dict[str, Tool], dict[str, Handoff]]:
    """Return the tools and the transfers of an agent, by name.

    Raises `DuplicateNode`, `BadName` for the name of an agent, `ToolError` for a tool without a schema.
    """
    tools: dict[str, Tool] = {}
    transfers: dict[str, Handoff] = {}
    offers: list[Tool | Handoff] = [*agent.tools, *agent.handoffs]
    for offered in offers:
        name = offered.spec.name if isinstance(offered, Tool) else _transfer_name(agent, offered)
        if name in tools or name in transfers:
            rule = f"two of its tools and transfers are called {name!r}"
            raise DuplicateNode(agent.name, f"agent {agent.name!r}", rule, "rename one")
        if isinstance(offered, Tool):
            tools[name] = offered
        else:
            transfers[name] = offered
    return tools, transfers


def _transfer_name(agent: Member, made: Handoff) -> str:
    try:
        return made.tool_name
    except ToolError as error:
        way_out = f"rename {made.target.name!r:.100}"
        raise BadName(agent.name, f"agent {agent.name!r}", str(error), way_out) from error


def conversation_handoffs(agent: Member) -> list[Handoff]:
    """Return the handoffs that give the conversation away, which those to children do not."""
    children = {id(child) for child in agent.children}
    return [made for made in agent.handoffs if id(made.target) not in children]


def _chosen_route(ctx: Context, value: Any) -> Any:
    """Return the route that the body of the node chose."""
    del value
    return attempt_of(ctx).chosen_route
