"""The differences of two plans by their meaning, not by their text. Needs two shapes and no user code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from beluga_graph.codec.registry import Registry
from beluga_graph.codec.values import Codec
from beluga_graph.kernel.shape import END, WAIT_NODE, FieldShape, NodeShape, RetryShape, Shape

__all__ = ["PlanChange", "diff_shapes", "next_nodes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanChange:
    """One difference between two versions of a graph. `str()` of it is one line of text.

    Attributes:
        node: The path of the node; `""` is the graph itself.
        what: `added`, `removed`, `renamed`, `state`, `limit`, `type`, `fan_outs` (those around the node), `payload`
            (of a wait), or else the field of the node's shape: `kind`, `target`, `routes`, `error`, `retry`, `signal`
            and so on.
        before: The earlier value, as in the shape; `None` means that there was none.
        after: The later value, likewise.
        part: The state field, the limit or the type.
    """

    node: str
    what: str
    before: Any
    after: Any
    part: str = ""

    def __str__(self) -> str:
        where = f"node {self.node!r}" if self.node else "the graph"
        if self.what in _WHOLE:
            return f"{where} {_WHOLE[self.what].format(self.after)}"
        if self.part:
            name = "state field" if self.what == "state" else self.what
            return f"{where}: {name} {self.part!r} {_describe_change(self.what, self.before, self.after)}"
        before, after = _format(self.what, self.before), _format(self.what, self.after)
        return f"{where}: {self.what} was {before} and is {after}"


_WHOLE = {"added": "is new", "removed": "is gone", "renamed": "is now {!r}"}
_NAMES = ("name", "local", "frame")  # a node is matched by its path
_APART = (*_NAMES, "state", "checked", "received")
_OF_GRAPH = ("version", "entry", "interrupts", "timeout_ms", "due_ms", "input_type", "output_type")


def diff_shapes(old: Shape, new: Shape) -> list[PlanChange]:
    """Return every change between two shapes: of the graph itself, then node by node, added nodes last."""
    found = [*_of_graph(old, new)]
    around_old, around_new = _fan_outs_around(old), _fan_outs_around(new)
    for path, node in old.nodes.items():
        now = new.nodes.get(path)
        if now is None:
            found.append(PlanChange(node=path, what="removed", before=node.kind, after=None))
            continue
        found += _of_node(path, node, now)
        before, after = around_old.get(path, ()), around_new.get(path, ())
        if before != after:
            found.append(PlanChange(node=path, what="fan_outs", before=before, after=after))
    for path, node in new.nodes.items():
        if path not in old.nodes:
            found.append(PlanChange(node=path, what="added", before=None, after=node.kind))
    return found


def next_nodes(node: NodeShape) -> Iterator[str]:
    """Yield the next nodes within the frame, by edges of every kind; for a fan-out also its branches and its join."""
    yield from (target for _, target, _ in node.routes)
    yield from (target for _, target, _ in node.interrupts if target != END)
    yield from node.branches
    yield from (target for target in (node.target, node.error, node.join) if target is not None and target != END)


def _of_graph(old: Shape, new: Shape) -> Iterator[PlanChange]:
    for name in _OF_GRAPH:
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield PlanChange(node="", what=name, before=before, after=after)
    for name in sorted({*old.limits, *new.limits}):
        before, after = old.limits.get(name), new.limits.get(name)
        if before != after:
            yield PlanChange(node="", what="limit", part=name, before=before, after=after)
    for name in sorted({*old.types} ^ {*new.types}):
        before, after = (name, None) if name in old.types else (None, name)
        yield PlanChange(node="", what="type", part=name, before=before, after=after)
    yield from _of_state("", old.state, new.state)


def _of_node(path: str, old: NodeShape, new: NodeShape) -> Iterator[PlanChange]:
    for field in fields(NodeShape):
        name = field.name
        if name in _APART or (name == "output_type" and old.kind == new.kind == WAIT_NODE):
            continue
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield PlanChange(node=path, what=name, before=before, after=after)
    if old.kind == new.kind == WAIT_NODE and (before := _payload(old)) != (after := _payload(new)):
        yield PlanChange(node=path, what="payload", before=before, after=after)
    yield from _of_state(path, old.state, new.state)


def _payload(wait: NodeShape) -> str | None:
    """Return the type that a payload must have; `None` if it is not checked."""
    return wait.output_type if wait.checked else None


def _of_state(path: str, old: tuple[FieldShape, ...], new: tuple[FieldShape, ...]) -> Iterator[PlanChange]:
    before, after = {field.name: field for field in old}, {field.name: field for field in new}
    for name in sorted({*before, *after}):
        was, now = before.get(name), after.get(name)
        # A shape of an earlier release does not say whether a field is required.
        if was is None or now is None or replace(was, required=now.required) != now:
            yield PlanChange(node=path, what="state", part=name, before=was, after=now)


def _fan_outs_around(shape: Shape) -> dict[str, tuple[str, ...]]:
    """Return for each node the fan-outs of its frame that it is inside of, sorted."""
    found: dict[str, list[str]] = {}
    for name in sorted(shape.nodes):
        opener = shape.nodes[name]
        seen, todo = {opener.join or ""}, [*opener.branches]
        while todo:
            path = todo.pop()
            node = shape.nodes.get(path)
            if path in seen or node is None:
                continue
            seen.add(path)
            found.setdefault(path, []).append(name)
            todo.extend(next_nodes(node))
    return {path: tuple(around) for path, around in found.items()}


# As text.


def _describe_change(what: str, before: Any, after: Any) -> str:
    if after is None:
        return "is gone"
    if before is None:
        return "is new"
    return f"was {_format(what, before)} and is {_format(what, after)}"


def _format(what: str, value: Any) -> str:
    if what == "wait" and value is None:
        return "all"
    if value is None or value in ((), ""):
        return "none"
    if isinstance(value, FieldShape):
        return f"{value.type} ({value.reducer})"
    if isinstance(value, RetryShape):
        return f"{value.attempts} attempts from {value.initial_ms} ms on"
    if what in ("interrupts", "inner_interrupts"):
        return ", ".join(f"{signal!r} to {target!r}" for signal, target, _ in value)
    if what == "routes":
        return ", ".join(f"{route!r} to {target!r}" for route, target, _ in value)
    if what == "default" and isinstance(value, bytes):
        return repr(Codec(Registry()).decode(value))
    if isinstance(value, tuple):
        return ", ".join(repr(part) for part in value)
    return repr(value)
