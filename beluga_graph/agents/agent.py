"""`Agent`: a flow in which a model decides. It compiles to a frame of model turns, tool calls and handoffs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from beluga_graph.agents.conversation import Conversation
from beluga_graph.agents.handoff_nodes import AGAIN, lending, transfer
from beluga_graph.agents.handoffs import Handoff, handoff_to
from beluga_graph.agents.model_turn import ANSWER, CALLS, Turn
from beluga_graph.agents.output_type import Output
from beluga_graph.agents.persona import Persona
from beluga_graph.agents.tool_calls import approval_of, revision_of, tool_body
from beluga_graph.agents.tools import Tool, as_tool
from beluga_graph.errors import BadName, DelegationCycle, DuplicateNode, ModelError, ToolError
from beluga_graph.execution.context import Context, inside
from beluga_graph.flows.checks import check_name, checked_types
from beluga_graph.flows.flow import Flow
from beluga_graph.models.base import Model, resolve
from beluga_graph.models.messages import ToolCall
from beluga_graph.plan.declared import END, START, Branch, Declared, DeclaredNode
from beluga_graph.policy import Retry

__all__ = ["Agent"]

MODEL_RETRY = Retry(attempts=5, initial=0.5, factor=2.0, maximum=30.0, jitter=0.2, retry_on=(ModelError,))
MAX_TURNS = 10  # the default of an agent and of `Limits`
OUTPUT_RETRIES = 3

_declaring: ContextVar[tuple[Agent, ...]] = ContextVar("declaring", default=())  # agents, those that delegate first


class Agent(Flow):
    """An agent: a model with a persona, tools, handoffs to other agents, and children to delegate to.

    `model` is a `Model` or `"openai:NAME"` / `"anthropic:NAME"`. `instructions` are a str or a function of
    `ctx`. `tools` are functions or `Tool`s. `handoffs` are agents or `handoff_to(…)`, or a function that returns
    them, so that two agents can name each other. `children` are flows; a transfer to a child is a delegation:
    it returns, and several in one turn run in parallel. `max_turns` bounds the model turns of one call; an agent
    that keeps the default follows `Limits(max_turns=…)`. With an `output_type` the answer is JSON of that type,
    validated, and asked for again, at most 3 times in a row, if it does not fit. `settings` go to the provider
    as they are.

    The input is text; a dict is told as a section per key, anything else as JSON. `types` are the classes of an
    input, or of the run's `context=`, that no tool's annotation names, as in a `Graph`. The output is the answer's
    text, or an `output_type`.
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
        max_turns: int = MAX_TURNS,
        output_type: Any = None,
        settings: Mapping[str, Any] | None = None,
        types: Iterable[Any] = (),
    ) -> None:
        if type(max_turns) is not int or max_turns < 1:
            msg = f"Agent({name!r}, max_turns={max_turns!r}): a whole number of at least 1"
            raise ValueError(msg)
        check_name(name, name)
        self.name = name
        self.model = resolve(model)
        self.persona = persona
        self.instructions = instructions
        self.tools = tuple(as_tool(given) for given in tools)
        self._handoffs = handoffs
        self.children = tuple(children)
        self.max_turns = max_turns
        self.output_type = output_type
        self.output = None if output_type in (None, str) else Output(output_type)
        self.output_retries = OUTPUT_RETRIES
        self.settings = dict(settings or {})
        self.types = checked_types(f"agent {name!r}", types)

    @property
    def handoffs(self) -> tuple[Handoff, ...]:
        """The agent's handoffs, resolved; a child without one of its own gets one."""
        given = self._handoffs() if callable(self._handoffs) else self._handoffs
        found = [handoff if isinstance(handoff, Handoff) else handoff_to(handoff) for handoff in given]
        named = {id(handoff.target) for handoff in found}
        return (*found, *(handoff_to(child) for child in self.children if id(child) not in named))

    def turns_allowed(self, limit: int) -> int:
        """Return how many model turns a call may have, where `limit` is in force for the run."""
        return limit if self.max_turns == MAX_TURNS else self.max_turns

    def declare(self) -> Declared:
        """Return the agent as a graph: itself and every agent it can hand over to, in one frame."""
        with _delegated(self):
            circle = _circle(self)
            outputs = tuple(member.output_type for member in circle.values() if member.output is not None)
            named = tuple(annotation for member in circle.values() for annotation in member.types)
            graph = Declared(self.name, state=Conversation, types=(ToolCall, *outputs, *named))
            for member in circle.values():
                _declare_member(graph, member)
        if len(circle) == 1:
            graph.edges.append((START.name, self.name))
        else:  # a session may go on with another agent than the first
            names = frozenset(circle)
            graph.branches[START.name] = Branch(_active(self.name, names), {name: name for name in circle})
        return graph


@contextmanager
def _delegated(agent: Agent) -> Iterator[None]:
    """Declare an agent within those that delegate to it. Raises `DelegationCycle` if it is one of them."""
    above = _declaring.get()
    if agent in above:
        path = " -> ".join(one.name for one in (*above[above.index(agent) :], agent))
        raise DelegationCycle(agent.name, f"agent {agent.name!r}", f"it delegates to itself: {path}", "drop one child")
    token = _declaring.set((*above, agent))
    try:
        yield
    finally:
        _declaring.reset(token)


def _circle(agent: Agent) -> dict[str, Agent]:
    """Return all agents that a conversation can be handed to, by name, the first one first."""
    found = {agent.name: agent}
    todo = [agent]
    while todo:
        member = todo.pop(0)
        for made in _transfers(member):
            target = made.target
            if not isinstance(target, Agent):
                rule = f"it hands over to {target.name!r}, which is no agent and so has no turn to take"
                raise BadName(agent.name, f"agent {member.name!r}", rule, "put it among the children, to delegate to")
            if target.name not in found:
                todo.append(target)
            if found.setdefault(target.name, target) is not target:
                rule = f"two agents of one conversation are called {target.name!r}"
                raise DuplicateNode(agent.name, f"agent {target.name!r}", rule, "rename one")
    return found


def _active(first: str, names: frozenset[str]) -> Callable[..., Any]:
    def active(ctx: Context, value: Any) -> str:
        """Return the agent that a session was left with, else the first."""
        del value
        session = inside(ctx).session
        left_with = session.active if session is not None else ""
        return left_with if left_with in names else first

    return active


def _declare_member(graph: Declared, agent: Agent) -> None:
    """Add one agent's nodes and edges to its conversation's graph."""
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
            graph.branches[node] = Branch(taken, {tool: made.target.name, AGAIN: name}, {tool: "handoff"})
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
        graph.branches[results] = Branch(taken, {AGAIN: name, **outward})
    graph.branches[name] = Branch(taken, {**routes, **outward})


def _declare_call(graph: Declared, turn: Turn, tool: str, results: str) -> str:
    """Add what makes the calls of a tool: its node, or a child's frame. Return where a branch begins."""
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
    _add(graph, DeclaredNode(name=node, kind="frame", flow=flow, timeout=flow.timeout))
    if made.on_handoff is None and made.input_filter is None:
        return node
    before = f"{node}:handoff"
    _add(graph, DeclaredNode(name=before, kind="handoff", body=lending(made), agent=name))
    graph.edges.append((before, node))
    return before


def _add(graph: Declared, node: DeclaredNode) -> None:
    if node.name in graph.nodes:
        raise DuplicateNode(graph.name, f"node {node.name!r}", "two agents have one of this name", "rename one agent")
    graph.nodes[node.name] = node


def _offers(agent: Agent) -> tuple[dict[str, Tool], dict[str, Handoff]]:
    """Return an agent's tools and transfers by name.

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


def _transfer_name(agent: Agent, made: Handoff) -> str:
    try:
        return made.tool_name
    except ToolError as error:
        way_out = f"rename {made.target.name!r:.100}"
        raise BadName(agent.name, f"agent {agent.name!r}", str(error), way_out) from error


def _transfers(agent: Agent) -> list[Handoff]:
    """Return an agent's handoffs that give the conversation away: those to its children do not."""
    children = {id(child) for child in agent.children}
    return [made for made in agent.handoffs if id(made.target) not in children]


def taken(ctx: Context, value: Any) -> Any:
    """Return the route that the node's body took."""
    del value
    return inside(ctx).taken
