"""`Agent`: a flow in which a model decides. It compiles to a frame of model turns, tool calls and handoffs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from beluga_graph.agents.conversation import Conversation
from beluga_graph.agents.handoffs import Handoff, handoff_to
from beluga_graph.agents.persona import Persona
from beluga_graph.agents.tools import Tool, as_tool
from beluga_graph.agents.turn import AGAIN, ANSWER, CALLS, Turn, tool_body
from beluga_graph.context import Context, inside
from beluga_graph.errors import DelegationCycle, DuplicateNode, ModelError
from beluga_graph.flows.flow import Flow
from beluga_graph.graph import END, START, Branch, Declared, DeclaredNode
from beluga_graph.models.base import Model, resolve
from beluga_graph.models.messages import ToolCall
from beluga_graph.policy import Retry

__all__ = ["Agent"]

MODEL_RETRY = Retry(attempts=5, initial=0.5, factor=2.0, maximum=30.0, jitter=0.2, retry_on=(ModelError,))


class Agent(Flow):
    """An agent: a model with a persona, tools, handoffs to other agents, and children to delegate to.

    `model` is a `Model` or `"openai:NAME"` / `"anthropic:NAME"`. `instructions` are a str or a function of
    `ctx`. `tools` are functions or `Tool`s. `handoffs` are agents or `handoff_to(…)`, or a function that returns
    them, so that two agents can name each other. `children` are flows; a transfer to a child is a delegation:
    it returns, and several in one turn run in parallel. `max_turns` bounds the model turns of one call. With
    an `output_type` the answer is JSON of that type, validated, and asked for again if it does not fit.
    `settings` go to the provider as they are.

    The input is text (anything else is told as JSON); the output is the answer's text, or an `output_type`.
    """

    def __init__(
        self,
        name: str,
        *,
        model: Model | str,
        persona: Persona | None = None,
        instructions: str | Callable[..., Any] | None = None,
        tools: Iterable[Tool | Callable[..., Any]] = (),
        handoffs: Sequence[Handoff | Agent] | Callable[[], Sequence[Handoff | Agent]] = (),
        children: Sequence[Flow] = (),
        max_turns: int = 10,
        output_type: Any = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        if max_turns < 1:
            msg = f"Agent({name!r}, max_turns={max_turns}): at least 1 turn is made"
            raise ValueError(msg)
        self.name = name
        self.model = resolve(model)
        self.persona = persona
        self.instructions = instructions
        self.tools = tuple(as_tool(given) for given in tools)
        self._handoffs = handoffs
        self.children = tuple(children)
        self.max_turns = max_turns
        self.output_type = output_type
        self.output_retries = 3
        self.settings = dict(settings or {})

    @property
    def handoffs(self) -> tuple[Handoff, ...]:
        """The agent's handoffs, resolved; a child without one of its own gets one."""
        given = self._handoffs() if callable(self._handoffs) else self._handoffs
        found = [handoff if isinstance(handoff, Handoff) else handoff_to(handoff) for handoff in given]
        named = {id(handoff.target) for handoff in found}
        return (*found, *(handoff_to(child) for child in self.children if id(child) not in named))

    @property
    def output_schema(self) -> dict[str, Any] | None:
        """The JSON schema of the output type."""
        if self.output_type is None:
            return None
        schema: dict[str, Any] = self._adapter().json_schema()
        return schema

    def parse_output(self, text: str) -> Any:
        """Return the validated output. Raises `ValueError`."""
        stripped = text.strip()
        if stripped.startswith("```"):  # models like to fence what they were asked to give bare
            stripped = stripped.strip("`").removeprefix("json").strip()
        return self._adapter().validate_json(stripped)

    def _adapter(self) -> Any:
        from pydantic import TypeAdapter  # noqa: PLC0415 - only agents with an output type need it

        return TypeAdapter(self.output_type)

    def declare(self) -> Declared:
        """Return the agent as a graph: itself and every agent it can hand over to, in one frame."""
        return _declared(self, ())


def _declared(agent: Agent, above: tuple[Agent, ...]) -> Declared:
    """Declare an agent's frame. `above` are the agents that delegate to it."""
    if agent in above:
        path = " -> ".join(one.name for one in (*above[above.index(agent) :], agent))
        raise DelegationCycle(agent.name, f"agent {agent.name!r}", f"it delegates to itself: {path}", "drop one child")
    circle = _circle(agent)
    outputs = tuple(member.output_type for member in circle.values() if member.output_type is not None)
    graph = Declared(agent.name, state=Conversation, types=(ToolCall, *outputs))
    for member in circle.values():
        _declare_member(graph, member, circle, (*above, agent))
    if len(circle) == 1:
        graph.edges.append((START.name, agent.name))
    else:  # a session may go on with another agent than the first
        graph.branches[START.name] = Branch(_active(agent.name, frozenset(circle)), {name: name for name in circle})
    return graph


def _circle(agent: Agent) -> dict[str, Agent]:
    """Return all agents that a conversation can be handed to, by name, the first one first."""
    found: dict[str, Agent] = {}
    todo = [agent]
    while todo:
        member = todo.pop(0)
        known = found.setdefault(member.name, member)
        if known is not member:
            rule = f"two agents of one conversation are called {member.name!r}"
            raise DuplicateNode(agent.name, f"agent {member.name!r}", rule, "rename one")
        if known is member and member not in todo:
            children = {id(child) for child in member.children}
            todo += [
                handoff.target
                for handoff in member.handoffs
                if isinstance(handoff.target, Agent) and id(handoff.target) not in children
                if found.get(handoff.target.name) is not handoff.target
            ]
    return found


def _active(first: str, names: frozenset[str]) -> Callable[..., Any]:
    def active(ctx: Context, value: Any) -> str:
        """Return the agent that a session was left with, else the first."""
        del value
        session = inside(ctx).run.session
        left_with = session[5] if session is not None and inside(ctx).in_run_itself else ""
        return left_with if left_with in names else first

    return active


def _declare_member(graph: Declared, agent: Agent, circle: dict[str, Agent], above: tuple[Agent, ...]) -> None:
    """Add one agent's nodes and edges to its conversation's graph."""
    name, calls, results = agent.name, f"{agent.name}.calls", f"{agent.name}.results"
    tools = {tool.name: tool for tool in agent.tools}
    transfers = {handoff.tool_name: handoff for handoff in agent.handoffs}
    _check_collisions(agent, tools, transfers)
    child_ids = {id(child) for child in agent.children}
    delegations = [tool for tool, made in transfers.items() if id(made.target) in child_ids]
    order = [*tools, *delegations]
    turn = Turn(
        agent=agent,
        model=agent.model,
        tools=tools,
        transfers=transfers,
        children={tool: order.index(tool) for tool in delegations},
        targets={tool: order.index(tool) for tool in tools},
    )
    routes: dict[Any, str] = {ANSWER: END.name, AGAIN: name}
    graph.nodes[name] = DeclaredNode(name=name, kind="agent", body=turn.think, retry=MODEL_RETRY, agent=name)
    outward = {}
    for tool, made in transfers.items():
        if id(made.target) in child_ids:
            continue
        node = f"{name}.{tool}"
        outward[tool] = node
        graph.nodes[node] = DeclaredNode(name=node, kind="handoff", body=turn.handoff(tool), agent=name)
        graph.branches[node] = Branch(taken, {tool: made.target.name, AGAIN: name}, {tool: "handoff"})
    if order:
        routes[CALLS] = calls
        _declare_calls(graph, agent, turn, order, above)
        graph.branches[results] = Branch(taken, {AGAIN: name, **outward})
    graph.branches[name] = Branch(taken, {**routes, **outward})
    assert circle[name] is agent


def _declare_calls(graph: Declared, agent: Agent, turn: Turn, order: list[str], above: tuple[Agent, ...]) -> None:
    """Add the fan-out over an agent's calls: a node per tool, a frame per child, and the join."""
    name, calls, results = agent.name, f"{agent.name}.calls", f"{agent.name}.results"
    ends = []
    for tool in order:
        if tool in turn.tools:
            found, end = turn.tools[tool], f"{name}.{tool}"
            node = DeclaredNode(
                name=end, kind="tool", body=tool_body(found), retry=found.retry, timeout=found.timeout, agent=name
            )
        else:
            child = turn.transfers[tool].target
            end = f"{name}.{child.name}"
            inside_ = _declared(child, above) if isinstance(child, Agent) else child.declare()
            node = DeclaredNode(name=end, kind="frame", flow=inside_, timeout=inside_.timeout)
        graph.nodes[end] = node
        ends.append(end)
        graph.edges.append((end, results))
    graph.nodes[calls] = DeclaredNode(
        name=calls, kind="fan_out", to=tuple(ends), over=turn.branches, routed=True, join=results, agent=name
    )
    graph.nodes[results] = DeclaredNode(name=results, kind="join", body=turn.join, collect=True, agent=name)


def _check_collisions(agent: Agent, tools: dict[str, Tool], transfers: dict[str, Handoff]) -> None:
    names = [tool.name for tool in agent.tools] + [handoff.tool_name for handoff in agent.handoffs]
    for name in names:
        if names.count(name) > 1:
            rule = f"two of its tools and transfers are called {name!r}"
            raise DuplicateNode(agent.name, f"agent {agent.name!r}", rule, "rename one")
    del tools, transfers


def taken(ctx: Context, value: Any) -> Any:
    """Return the route that the node's body took."""
    del value
    return inside(ctx).taken
