"""Agents: flows in which a model decides.

persona           Persona: role, goal and backstory
docstring_params  descriptions of parameters in docstrings
output_type       OutputType: the schema and the validation of answers
tools             Tool: functions that a model may call
handoffs          Handoff: edges that the model chooses
conversation      the state of an agent call
tool_calls        the node of a tool call; its result for the model and for watchers
handoff_nodes     the nodes of a handoff
model_turn        the nodes of a turn: the model's answer, the fan-out over its calls, their join
compile           the nodes and edges of one agent
agent             Agent: all of it as a flow
"""

from beluga_graph.agents.agent import Agent
from beluga_graph.agents.handoffs import Handoff, HandoffInput, handoff_to
from beluga_graph.agents.persona import Persona
from beluga_graph.agents.tools import Tool, tool

__all__ = ["Agent", "Handoff", "HandoffInput", "Persona", "Tool", "handoff_to", "tool"]
