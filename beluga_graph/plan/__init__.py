"""Plans: declared graphs, checked and frozen. `compile_graph` is the way in."""

from beluga_graph.plan.compile import compile_graph
from beluga_graph.plan.plan import Binding, Body, Compilable, Plan
from beluga_graph.plan.state import Channel, StateBinding

__all__ = ["Binding", "Body", "Channel", "Compilable", "Plan", "StateBinding", "compile_graph"]
