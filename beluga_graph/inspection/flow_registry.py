"""The flows that an engine or an inspector knows, by name."""

from __future__ import annotations

import logging
from typing import Protocol

from beluga_graph.errors import RunError
from beluga_graph.inspection.reading import read_plan
from beluga_graph.plan.diff import diff_shapes
from beluga_graph.plan.plan import Compilable, Plan
from beluga_graph.storage.records import RunRecord
from stores.base import Store

__all__ = ["FlowRegistry"]

_log = logging.getLogger("beluga_graph.inspection.flow_registry")


class RunOfFlow(Protocol):
    """What names a run and its flow, such as a run record."""

    @property
    def run_id(self) -> str:
        """The run's id."""

    @property
    def flow(self) -> str:
        """The name of its flow."""


class FlowRegistry:
    """Finds the plan for a run: of a registered flow, or without code from the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._plans: dict[str, Plan] = {}

    def over(self, store: Store) -> FlowRegistry:
        """Return a registry of the same flows, now and later, that reads the shapes of others from another store."""
        registry = FlowRegistry(store)
        registry._plans = self._plans
        return registry

    def register(self, flow: Compilable) -> Plan:
        """Compile a flow and remember its plan by name. Raises `GraphError`.

        A later flow of the same name replaces the earlier one. The log warns if their graphs differ.
        """
        if not hasattr(flow, "plan"):
            msg = f"{flow!r:.100} is not a flow: build a Graph, or wrap the function in one"
            raise TypeError(msg)
        plan = flow.plan()
        known = self._plans.get(plan.name, plan)
        if known.fingerprint != plan.fingerprint:
            found = "; ".join(str(change) for change in diff_shapes(known.shape, plan.shape))
            _log.warning("flow %r is known with another graph from now on: %s", plan.name, found)
        self._plans[plan.name] = plan
        return plan

    def restore(self, plan: Plan) -> None:
        """Remember a plan again that `register` has replaced."""
        self._plans[plan.name] = plan

    def find(self, name: str) -> Plan | None:
        """Return the plan of a registered flow, or `None`."""
        return self._plans.get(name)

    def list_plans(self) -> list[Plan]:
        """Return the plans of all registered flows."""
        return list(self._plans.values())

    def plan_of(self, run: RunOfFlow) -> Plan:
        """Return the plan of a run's flow. Raises `RunError` if the flow is not registered."""
        plan = self._plans.get(run.flow)
        if plan is None:
            known = ", ".join(sorted(self._plans)) or "none"
            message = f"its flow {run.flow!r} is not known here (known: {known}): call engine.register(flow) first"
            raise RunError(run.run_id, message)
        return plan

    def plan_or_shape(self, head: RunRecord) -> Plan:
        """Return the plan of a run's flow if it is registered; otherwise its stored shape, without code."""
        return self._plans.get(head.flow) or read_plan(self._store, head)
