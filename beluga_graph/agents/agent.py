"""`Agent`: a flow in which a model decides. It compiles to a frame of model turns, tool calls and handoffs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from beluga_graph.agents.compile import conversation_handoffs, declare_member
from beluga_graph.agents.conversation import Conversation
from beluga_graph.agents.handoffs import Handoff, handoff_to
from beluga_graph.agents.model_turn import MAX_TURNS
from beluga_graph.agents.output_type import OutputType
from beluga_graph.agents.persona import Persona
from beluga_graph.agents.tools import Tool, as_tool
from beluga_graph.errors import BadName, DelegationCycle, DuplicateNode
from beluga_graph.execution.context import Context, attempt_of
from beluga_graph.flows.checks import check_flow_name, check_types
from beluga_graph.flows.flow import Flow
from beluga_graph.models.base import Model, resolve
from beluga_graph.models.messages import ToolCall
from beluga_graph.plan.declared import START, Branch, Declared

__all__ = ["Agent"]


# The agents that are being declared, each of which delegates to the next.
_declaring: ContextVar[tuple[Agent, ...]] = ContextVar("declaring", default=())


class Agent(Flow):
    """A model with a persona, tools, handoffs to other agents, and children to which it delegates.

    Each model turn, tool call and handoff is a step of the run. An answer that was committed is never requested again.

    ```python
    triage = Agent("triage", model="openai:gpt-5", tools=[lookup], handoffs=[billing, support])
    answer = await engine.execute(triage, "I was charged twice", run_id="ticket-7", session="customer-42")
    ```

    A model call is tried up to 5 times, with pauses of 0.5 s, doubled each time, or longer (at most 2 minutes) if the
    provider sends `Retry-After`. Retried are broken connections and answers, timeouts, and the statuses 408, 409, 429
    and 5xx. Other errors, such as an exhausted quota, fail at once. `step(name, agent, timeout=60)` in a flow bounds
    the whole call. `Outcome.usage` has the tokens.

    The input is text; a dict becomes one section per key, any other value JSON. The output is the text of the answer,
    or an instance of `output_type`.

    Attributes:
        name: The name of the agent and of its node; letters, digits, `_` and `-`.
        model: A `Model`, or `"openai:NAME"` or `"anthropic:NAME"`.
        persona: Role, goal and backstory: the beginning of the system prompt.
        instructions: The rest of the system prompt: a str, or a function `f()` or `f(ctx)`, sync or async.
        tools: Functions or `Tool`s that the model may call; the calls of one turn run in parallel.
        handoffs: Agents or `handoff_to(…)`, or a function that returns them, so that two agents can name each other.
        children: Flows. A transfer to a child is a delegation: it returns, and several in one turn run in parallel.
        max_turns: The limit of model turns of one call. With the default, 10, `Limits(max_turns=…)` decides.
        output_type: A type. The answer is JSON of this type; an answer that does not fit is requested again, at most
            3 times in a row.
        settings: Options that are sent to the provider unchanged.
        types: Classes of the input, or of the run's `context=`, that the annotations of tools do not name.
        version: The version of the agent as the flow of a run. Runs keep the version that they began with. Sessions
            continue with every version.
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
        version: str | None = None,
    ) -> None:
        if type(max_turns) is not int or max_turns < 1:
            msg = f"Agent({name!r}, max_turns={max_turns!r}): a whole number of at least 1"
            raise ValueError(msg)
        check_flow_name(name, version)
        self.name = name
        self.version = version
        self.model = resolve(model)
        self.persona = persona
        self.instructions = instructions
        self.tools = tuple(as_tool(given) for given in tools)
        self._handoffs = handoffs
        self.children = tuple(children)
        self.max_turns = max_turns
        self.output_type = output_type
        self.output = None if output_type in (None, str) else OutputType(output_type)
        self.settings = dict(settings or {})
        self.types = check_types(f"agent {name!r}", types)

    @property
    def handoffs(self) -> tuple[Handoff, ...]:
        """The resolved handoffs. A child without a handoff of its own gets one."""
        given = self._handoffs() if callable(self._handoffs) else self._handoffs
        found = [handoff if isinstance(handoff, Handoff) else handoff_to(handoff) for handoff in given]
        named = {id(handoff.target) for handoff in found}
        return (*found, *(handoff_to(child) for child in self.children if id(child) not in named))

    def declare(self) -> Declared:
        """Return the agent as a graph: this agent and every agent that can get the conversation, in one frame."""
        with _declaring_agent(self):
            circle = _circle(self)
            outputs = tuple(member.output_type for member in circle.values() if member.output is not None)
            named = tuple(annotation for member in circle.values() for annotation in member.types)
            graph = Declared(self.name, version=self.version, state=Conversation, types=(ToolCall, *outputs, *named))
            for member in circle.values():
                declare_member(graph, member)
        if len(circle) == 1:
            graph.edges.append((START.name, self.name))
        else:  # a session may continue with another agent than the first
            names = frozenset(circle)
            graph.branches[START.name] = Branch(_active(self.name, names), {name: name for name in circle})
        return graph


@contextmanager
def _declaring_agent(agent: Agent) -> Iterator[None]:
    """Declare an agent inside the agents that delegate to it. Raises `DelegationCycle` if it is one of them."""
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
    """Return all agents that can get the conversation, by name, `agent` first. Raises `BadName`, `DuplicateNode`."""
    found = {agent.name: agent}
    todo = [agent]
    while todo:
        member = todo.pop(0)
        for made in conversation_handoffs(member):
            target = made.target
            if not isinstance(target, Agent):
                rule = f"it hands over to {target.name!r}, which is not an agent, so it cannot take a turn"
                raise BadName(agent.name, f"agent {member.name!r}", rule, "put it in children=, to delegate to it")
            if target.name not in found:
                todo.append(target)
            if found.setdefault(target.name, target) is not target:
                rule = f"two agents of one conversation are called {target.name!r}"
                raise DuplicateNode(agent.name, f"agent {target.name!r}", rule, "rename one")
    return found


def _active(first: str, names: frozenset[str]) -> Callable[..., Any]:
    def choose_active(ctx: Context, value: Any) -> str:
        """Return the agent that was active at the end of the session's last run, or the first agent."""
        del value
        session = attempt_of(ctx).session
        active = session.active if session is not None else ""
        return active if active in names else first

    return choose_active
