"""Plans: declared graphs, checked and frozen by `compile_graph`."""

from beluga_graph.plan.channels import Channel, StateBinding
from beluga_graph.plan.compile import compile_graph
from beluga_graph.plan.plan import Binding, Body, Compilable, Plan

__all__ = ["Binding", "Body", "Channel", "Compilable", "Plan", "StateBinding", "compile_graph"]
