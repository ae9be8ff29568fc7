"""Parts for the tests of your own graphs."""

from beluga_graph.testing.clock import VirtualClock
from beluga_graph.testing.model import ScriptedModel, ToolCall

__all__ = ["ScriptedModel", "ToolCall", "VirtualClock"]
