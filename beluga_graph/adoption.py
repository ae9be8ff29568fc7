"""Whether a run can go on with a changed graph: only what the run stands on counts."""

from __future__ import annotations

from dataclasses import fields

from beluga_graph.kernel.shape import FieldShape, NodeShape, Shape
from beluga_graph.kernel.snapshot import Snapshot

__all__ = ["difference"]

_FREE = {"retry", "timeout_ms", "delay_ms", "description", "output_type", "input_type"}


def difference(run: Snapshot, old: Shape, new: Shape) -> tuple[str, ...]:
    """Return what changed of the nodes of a run's tokens, its open scopes and its state; nothing is good news."""
    standing = {token.node for token in run.tokens.values()}
    for scope in run.scopes.values():
        opener = old.nodes[scope.node]
        standing.add(scope.node)
        if opener.join is not None:
            standing.add(opener.join)
        standing.update(opener.branches)
    found = [line for name in sorted(standing) for line in _node(name, old.nodes.get(name), new.nodes.get(name))]
    found += _state("the run", old.state, new.state)
    for name in sorted(standing):
        if name in old.nodes and name in new.nodes:
            found += _state(f"node {name!r}", old.nodes[name].state, new.nodes[name].state)
    return tuple(found)


def _node(name: str, old: NodeShape | None, new: NodeShape | None) -> list[str]:
    if old is None:
        return [] if new is not None else [f"node {name!r} is in neither graph"]
    if new is None:
        return [f"node {name!r}, where the run stands, is gone"]
    lines = []
    for field in fields(NodeShape):
        if field.name in _FREE or field.name == "state":
            continue
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before != after:
            lines.append(f"node {name!r}: {field.name} was {before!r} and is {after!r}")
    return lines


def _state(where: str, old: tuple[FieldShape, ...], new: tuple[FieldShape, ...]) -> list[str]:
    before, after = {field.name: field for field in old}, {field.name: field for field in new}
    lines = []
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            lines.append(f"{where}: state field {name!r} is gone")
        elif name in before and before[name] != after[name]:
            was, now = before[name], after[name]
            lines.append(
                f"{where}: state field {name!r} was {was.type} ({was.reducer}) and is {now.type} ({now.reducer})"
            )
    return lines
