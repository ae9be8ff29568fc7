"""The flows that an engine or an inspector knows, by id: their name, with the version if they have one."""

from __future__ import annotations

import logging
from typing import Protocol

from beluga_graph.errors import BadName, RunError
from beluga_graph.inspection.reading import read_plan
from beluga_graph.plan.declared import is_version_of
from beluga_graph.plan.diff import diff_shapes
from beluga_graph.plan.plan import Compilable, Plan
from beluga_graph.storage.records import RunRecord
from stores.base import Store

__all__ = ["FlowRegistry", "compile_flow"]

_log = logging.getLogger("beluga_graph.inspection.flow_registry")


def compile_flow(flow: Compilable) -> Plan:
    """Return the plan of a flow. Raises `GraphError`, and `TypeError` for what is not a flow."""
    if not hasattr(flow, "plan"):
        msg = f"{flow!r:.100} is not a flow: build a Graph, or wrap the function in one"
        raise TypeError(msg)
    return flow.plan()


class RunOfFlow(Protocol):
    """What names a run and its flow, such as a run record."""

    @property
    def run_id(self) -> str:
        """The run's id."""

    @property
    def flow(self) -> str:
        """The id of its flow."""


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
        """Compile a flow and remember its plan by the flow's id. Raises `GraphError`.

        A later flow of the same name and version replaces the earlier one. The log warns if their graphs differ.
        """
        return self.remember(compile_flow(flow))

    def remember(self, plan: Plan) -> Plan:
        """Remember a plan, as `register` does, and return it. Raises `BadName`."""
        known = self._plans.get(plan.name, plan)
        if known.base_name != plan.base_name:  # a name that contains @, and a version of another flow
            rule = f"the id {plan.name!r} stands for flow {known.base_name!r} here, and cannot also stand for it"
            raise BadName(plan.name, f"flow {plan.base_name!r}", rule, "rename one of them")
        if known.fingerprint != plan.fingerprint:
            found = "; ".join(str(change) for change in diff_shapes(known.shape, plan.shape))
            _log.warning("flow %r is known with another graph from now on: %s", plan.name, found)
        self._plans[plan.name] = plan
        return plan

    def restore(self, plan: Plan) -> None:
        """Remember a plan again that `register` has replaced."""
        self._plans[plan.name] = plan

    def find(self, flow_id: str) -> Plan | None:
        """Return the plan of a registered flow by its id, or `None`."""
        return self._plans.get(flow_id)

    def list_plans(self) -> list[Plan]:
        """Return the plans of all registered flows."""
        return list(self._plans.values())

    def plan_of(self, run: RunOfFlow) -> Plan:
        """Return the plan of a run's flow. Raises `RunError` if this version of the flow is not registered."""
        plan = self._plans.get(run.flow)
        if plan is None:
            raise RunError(run.run_id, self.describe_missing(run.flow))
        return plan

    def plan_for(self, requested: Plan, run: RunOfFlow) -> Plan:
        """Return the plan with which a known run goes on if it is started again with a flow.

        That is the version of the flow that the run began with. For a run of another flow it is the requested plan,
        which the caller refuses. Raises `RunError` if the version is not registered.
        """
        if run.flow == requested.name or not is_version_of(run.flow, requested.base_name):
            return requested
        plan = self.plan_of(run)
        return plan if plan.base_name == requested.base_name else requested

    def plan_or_shape(self, head: RunRecord) -> Plan:
        """Return the plan of a run's flow if it is registered; otherwise its stored shape, without code."""
        return self._plans.get(head.flow) or read_plan(self._store, head)

    def describe_missing(self, flow_id: str) -> str:
        """Return why a run of a flow that is not registered cannot go on, and the way out; else an empty text."""
        if flow_id in self._plans:
            return ""
        versions = [plan for plan in self._plans.values() if is_version_of(flow_id, plan.base_name)]
        if not versions:
            known = ", ".join(sorted(self._plans)) or "none"
            return f"its flow {flow_id!r} is not known here (known: {known}): call engine.register(flow) first"
        known = ", ".join(sorted(plan.name for plan in versions))
        return (
            f"it keeps its version of the flow, {flow_id!r}, and only other ones are known here (known: {known}): "
            "call engine.register with that version too, until its runs have ended"
        )
