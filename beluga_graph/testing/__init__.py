"""Testing: a scripted model and a virtual clock for the tests of your graphs."""

from beluga_graph.testing.clock import VirtualClock
from beluga_graph.testing.model import ScriptedModel, ToolCall

__all__ = ["ScriptedModel", "ToolCall", "VirtualClock"]
