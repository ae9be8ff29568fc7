"""A run continues with a changed graph as with its own graph, for every graph and at every step."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from effort import examples
from graph_specs import Spec, racy_specs, settled_specs
from graphs import build
from hypothesis import assume, event, given
from hypothesis import strategies as st
from simulation import RUN_ID, Disk, Observation, Simulation, Tape, outcome_of, tapes

from beluga_graph.kernel import ops
from beluga_graph.kernel.shape import END, FUNCTION, TIMER_NODE, WAIT_NODE, NodeShape, Shape
from beluga_graph.kernel.snapshot import COMPLETED, FAILED, RUN
from beluga_graph.kernel.structural_names import is_inside
from beluga_graph.kernel.transition import advance
from beluga_graph.kernel.triggers import PlanAdopted
from beluga_graph.kernel.types import Renames
from beluga_graph.kernel.work import diff_work, list_work
from beluga_graph.plan import Binding, Body, Plan
from beluga_graph.plan.compatibility import assess_changes
from beluga_graph.plan.renames import rename_shape
from beluga_graph.storage.loading import read_steps
from beluga_graph.storage.run_log import open_log

INPUT = 7


def begun(spec: Spec, tape: list[int], steps: int) -> Simulation:
    """Walk a graph for so many steps, at most."""
    disk = Disk()
    simulation = Simulation(build(spec, disk.probe).plan(), disk, Tape(tape))
    simulation.stopped = lambda simulation: simulation.run.seq > steps
    asyncio.run(simulation.whole(INPUT))
    return simulation


def whole(plan: Plan) -> Simulation:
    simulation = Simulation(plan, Disk(), Tape())
    asyncio.run(simulation.whole(INPUT))
    return simulation


def go_on(before: Simulation, plan: Plan, tape: list[int], renames: Renames = ()) -> Simulation:
    """Let another process take a run over with another plan, and walk it to its end."""
    store = before.disk.store
    run, log = open_log(store, RUN_ID)
    todo = list_work(before.plan.shape, run)
    trigger = PlanAdopted(plan.fingerprint, before.time, renames)
    patch = advance(plan.shape, run, trigger)
    ops = log.step_ops(run, trigger, patch, None, before.time, 0)
    status = run.status
    run.apply(patch)
    assert run.status == status
    store.commit(*ops)
    change = diff_work(plan.shape, run, patch)
    assert change.whole == (status == FAILED)
    assert (change.tokens, change.timers, change.new) == ((), (), ())
    assert list_work(plan.shape, run) == todo
    simulation = Simulation(plan, before.disk, Tape(tape))
    assert simulation.rebuild()
    asyncio.run(simulation.go())
    return simulation


def with_names(plan: Plan, local: Callable[[str], str]) -> tuple[Plan, Renames]:
    """Return a plan with other names for all nodes, and the map of the names."""
    paths: dict[str, str] = {"": ""}
    for path, node in plan.shape.nodes.items():
        frame = paths[node.frame]
        paths[path] = f"{frame}/{local(path)}" if frame else local(path)
    del paths[""]
    renames = tuple(paths.items())
    everywhere = replace(plan.shape, nodes={name: plan.shape.nodes[path] for path, name in paths.items()})
    shape = rename_shape(plan.shape, everywhere, renames)
    bindings = {paths[path]: binding for path, binding in plan.bindings.items()}
    return replace(plan, shape=replace(shape, fingerprint="renamed"), bindings=bindings), renames


def names_given(simulation: Simulation) -> list[str]:
    steps = read_steps(simulation.disk.store, RUN_ID)
    return [ops.token_name(op) for step in steps for op in step.patch.ops if op[0] == ops.PUT_TOKEN]


@examples(60)
@given(racy_specs(), tapes())
def test_an_equal_graph_is_safe_at_every_step_and_so_is_a_wholly_renamed_one(spec: Spec, tape: list[int]) -> None:
    disk = Disk()
    plan = build(spec, disk.probe).plan()
    other, renames = with_names(plan, lambda path: "x" + path.rpartition("/")[2])
    again = Shape.from_plain(build(spec, disk.probe).plan().shape.to_plain())

    def check(seen: Observation) -> None:
        run = seen.simulation.run
        assert assess_changes(run, plan.shape, again) == []
        assert {found.change.what for found in assess_changes(run, plan.shape, other.shape, renames)} == {"renamed"}

    asyncio.run(Simulation(plan, disk, Tape(tape), check).whole(INPUT))


@examples(120)
@given(settled_specs(), tapes(), tapes(), st.integers(0, 12))
def test_a_renamed_run_has_the_same_end_and_runs_no_committed_node_again(
    spec: Spec, tape: list[int], later: list[int], steps: int
) -> None:
    before = begun(spec, tape, steps)
    assume(before.run.status not in (COMPLETED, FAILED))
    plain = whole(build(spec, before.disk.probe).plan())
    expected = outcome_of(plain.plan, plain.disk.store)
    before.disk.again.clear()
    keys = {item.token for item in before.todo if hasattr(item, "attempt")}
    plan, renames = with_names(before.plan, lambda path: "x" + path.rpartition("/")[2])
    after = go_on(before, plan, later, renames)
    outcome = outcome_of(after.plan, after.disk.store)
    assert (outcome.status, outcome.output, outcome.state, outcome.steps, sorted(outcome.inbox.values())) == (
        (expected.status, expected.output, expected.state, expected.steps, sorted(expected.inbox.values()))
    ), "but for the names of answers, which are those of the tokens that ask"
    assert after.disk.again == []
    assert keys <= {step.token for step in read_steps(after.disk.store, RUN_ID)}, "under the keys that they had"


@examples(120)
@given(racy_specs(), tapes(), tapes(), st.integers(0, 12), st.integers(0, 1000))
def test_renames_give_no_name_twice_even_if_nodes_swap_names(
    spec: Spec, tape: list[int], later: list[int], steps: int, seed: int
) -> None:
    before = begun(spec, tape, steps)
    assume(before.run.status not in (COMPLETED, FAILED))
    frames: dict[str, list[str]] = {}
    for path, node in before.plan.shape.nodes.items():
        frames.setdefault(node.frame, []).append(path)
    new: dict[str, str] = {}
    for paths in frames.values():
        mixed = [path.rpartition("/")[2] for path in paths]
        Random(seed).shuffle(mixed)
        new.update(zip(paths, mixed, strict=True))
    plan, renames = with_names(before.plan, new.__getitem__)
    after = go_on(before, plan, later, renames)
    assert after.run.status in (COMPLETED, FAILED)
    names = names_given(after)
    assert len(names) == len(set(names))


# Changes that are far from the run.


def with_extra(plan: Plan, path: str, disk: Disk) -> Plan:
    """Return a plan with one more node, on the edge out of a node."""
    node = plan.shape.nodes[path]
    frame = f"{node.frame}/" if node.frame else ""

    async def more(value: Any) -> Any:
        return int(value) + 1000

    extra = NodeShape(name=f"{frame}extra", local="extra", kind=FUNCTION, frame=node.frame, target=node.target)
    nodes = {**plan.shape.nodes, path: replace(node, target=extra.name), extra.name: extra}
    state = plan.bindings[path].state
    bindings = {**plan.bindings, extra.name: Binding(body=Body.of(more), state=state)}
    return replace(plan, shape=replace(plan.shape, nodes=nodes, fingerprint="extra"), bindings=bindings)


def without(plan: Plan, path: str) -> Plan:
    """Return a plan whose edges pass a node by."""
    gone = plan.shape.nodes[path]
    assert gone.target is not None

    def led(target: str | None) -> str | None:
        return gone.target if target == path else target

    nodes = {
        name: replace(
            node,
            target=led(node.target),
            error=led(node.error),
            entry=led(node.entry),
            routes=tuple((route, led(target) or "", kind) for route, target, kind in node.routes),
            branches=tuple(led(target) or "" for target in node.branches),
        )
        for name, node in plan.shape.nodes.items()
        if name != path
    }
    entry = led(plan.shape.entry) or ""
    return replace(plan, shape=replace(plan.shape, nodes=nodes, entry=entry, fingerprint="without"))


def passed(simulation: Simulation) -> Counter[str]:
    """Return how many tokens and scopes of each node are gone."""
    run = simulation.run
    counts = Counter(visited(simulation))
    counts.subtract(token.node for token in run.tokens.values())
    counts.subtract(scope.node for scope in run.scopes.values())
    return counts


def visited(simulation: Simulation) -> list[str]:
    steps = read_steps(simulation.disk.store, RUN_ID)
    put = [op for step in steps for op in step.patch.ops if op[0] in (ops.PUT_TOKEN, ops.OPEN_SCOPE)]
    return [node for _, _, node, *_ in put]


def is_parked(simulation: Simulation, path: str) -> bool:
    """Return whether the run only waits at a node, or inside of a scope that the node opens or closes."""
    run, nodes = simulation.run, simulation.plan.shape.nodes
    names = [name for name, scope in run.scopes.items() if path in (scope.node, nodes[scope.node].join)]
    at = [token for token in run.tokens.values() if token.node == path]
    at += [token for token in run.tokens.values() for name in names if is_inside(token.name, name)]
    return all(nodes[token.node].kind in (WAIT_NODE, TIMER_NODE) and token.state != RUN for token in at)


@examples(200)
@given(settled_specs(), tapes(), tapes(), st.integers(0, 12), st.data())
def test_a_change_of_unvisited_nodes_is_safe_and_the_run_continues_as_in_the_new_graph(
    spec: Spec, tape: list[int], later: list[int], steps: int, data: st.DataObject
) -> None:
    before = begun(spec, tape, steps)
    assume(before.run.status not in (COMPLETED, FAILED))
    nodes = before.plan.shape.nodes
    plain = sorted(name for name, node in nodes.items() if node.target is not None and node.kind != "fan_out")
    assume(plain)
    path = data.draw(st.sampled_from(plain))
    node = nodes[path]
    removable = node.kind in (FUNCTION, "timer") and node.target != END and nodes[node.target or ""].kind != "join"
    if removable and data.draw(st.booleans()):
        plan = without(before.plan, path)
    else:
        plan = with_extra(before.plan, path, before.disk)
    safe = all(found.safe for found in assess_changes(before.run, before.plan.shape, plan.shape))
    scopes = {scope.node for scope in before.run.scopes.values()}
    stood_on = scopes | {token.node for token in before.run.tokens.values()} | {nodes[name].join for name in scopes}
    event("safe" if safe else "refused")
    assert safe or path in stood_on or plan.shape.fingerprint == "without"
    assume(safe)
    if path in stood_on:
        event("parked")
        assert plan.shape.fingerprint == "extra"
        assert is_parked(before, path)
    is_left = passed(before)[path] > 0
    after = go_on(before, plan, later)
    assert after.disk.again == []
    if not is_left:
        event("compared with the new graph")
        fresh = whole(plan)
        assert (after.run.status, after.run.output) == (fresh.run.status, fresh.run.output)
    elif plan.shape.fingerprint == "extra" and not any(name.endswith("extra") for name in visited(after)):
        event("compared with the old graph")
        fresh = whole(before.plan)
        assert (after.run.status, after.run.output) == (fresh.run.status, fresh.run.output)
