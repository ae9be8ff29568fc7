"""Agents: flows in which a model decides.

persona         Persona: who an agent is
docstrings      what a docstring says of parameters
output          Output: what an answer must be
tools           Tool: functions that a model may call
handoffs        Handoff: edges that the model chooses
conversation    the state of an agent call
calls           the node of a tool call; how results get to model and watchers
transfers       the nodes of a handoff
turn            the nodes of a turn: the model's answer, the fan-out over its calls, their join
agent           Agent: all of it as a flow
"""

from beluga_graph.agents.agent import Agent
from beluga_graph.agents.handoffs import Handoff, HandoffInput, handoff_to
from beluga_graph.agents.persona import Persona
from beluga_graph.agents.tools import Tool, tool

__all__ = ["Agent", "Handoff", "HandoffInput", "Persona", "Tool", "handoff_to", "tool"]
