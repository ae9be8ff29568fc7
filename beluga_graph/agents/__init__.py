"""Agents: flows in which a model decides.

persona         Persona: who an agent is
tools           Tool: functions that a model may call
handoffs        Handoff: edges that the model chooses
conversation    the state of an agent call
turn            the nodes: model turn, tool call, join, handoff
agent           Agent: all of it as a flow
"""

from beluga_graph.agents.agent import Agent
from beluga_graph.agents.handoffs import Handoff, HandoffInput, handoff_to
from beluga_graph.agents.persona import Persona
from beluga_graph.agents.tools import Tool, tool

__all__ = ["Agent", "Handoff", "HandoffInput", "Persona", "Tool", "handoff_to", "tool"]
