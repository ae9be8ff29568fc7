"""A shape as Mermaid text: exactly its nodes and edges, the same bytes each time.

Labels are untrusted. Mermaid reads entity codes in quoted labels, so every character that is not plainly a
letter, a digit or a harmless sign is written as one; ids are numbers and carry no label.
"""

from __future__ import annotations

from beluga_graph.kernel.shape import (
    CHOICE,
    END,
    FAN_OUT,
    FRAME,
    HANDOFF,
    JOIN,
    TIMER,
    WAIT,
    NodeShape,
    Shape,
)

__all__ = ["escaped", "mermaid"]

_SHAPES = {
    FAN_OUT: ('{{"', '"}}'),
    JOIN: ('[["', '"]]'),
    WAIT: ('>"', '"]'),
    TIMER: ('(["', '"])'),
    CHOICE: ('{"', '"}'),
    HANDOFF: ('[/"', '"/]'),
}
_PLAIN = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 _-.,:?!()")


def mermaid(shape: Shape) -> str:
    """Return the flow as a Mermaid flowchart. Sub-flows are subgraphs; edges of each kind have their own line."""
    ids = {name: f"n{number}" for number, name in enumerate(shape.nodes)}
    lines = ["flowchart TD", '    start(("start"))', '    end_(("end"))']
    lines += _inside(shape, "", ids, "    ")
    lines.append(f"    start --> {_entry(shape, shape.entry, ids)}")
    for node in shape.nodes.values():
        lines += [f"    {line}" for line in _edges(shape, node, ids)]
    return "\n".join(lines) + "\n"


def _inside(shape: Shape, frame: str, ids: dict[str, str], indent: str) -> list[str]:
    lines = []
    for node in shape.nodes.values():
        if node.frame != frame:
            continue
        if node.kind == FRAME:
            lines.append(f'{indent}subgraph {ids[node.name]}["{escaped(node.local)}"]')
            lines += _inside(shape, node.name, ids, indent + "    ")
            lines.append(f"{indent}end")
        else:
            left, right = _SHAPES.get(node.kind, ('["', '"]'))
            lines.append(f"{indent}{ids[node.name]}{left}{escaped(node.local)}{right}")
    return lines


def _edges(shape: Shape, node: NodeShape, ids: dict[str, str]) -> list[str]:
    lines = []
    source = ids[node.name]
    for target in node.branches:
        label = '|"each item"|' if node.over else ""
        lines.append(f"{source} -->{label} {_entry(shape, target, ids)}")
    if node.target is not None and node.kind != FRAME:  # what leaves a frame is drawn from where it leaves
        lines.append(f"{source} --> {_target(shape, node, node.target, ids)}")
    for route, target, kind in node.routes:
        arrow = "==>" if kind == "handoff" else "-->"
        lines.append(f'{source} {arrow}|"{escaped(str(route))}"| {_target(shape, node, target, ids)}')
    if node.error is not None:
        lines.append(f'{source} -.->|"error"| {_target(shape, node, node.error, ids)}')
    return lines


def _target(shape: Shape, node: NodeShape, target: str, ids: dict[str, str]) -> str:
    frame = node.frame
    while target == END:
        if not frame:
            return "end_"
        outer = shape.nodes[frame]
        target, frame = outer.target or END, outer.frame
    return _entry(shape, target, ids)


def _entry(shape: Shape, name: str, ids: dict[str, str]) -> str:
    """Return the id that an edge into a node leads to: of a frame, where it begins."""
    while (entry := shape.nodes[name].entry) is not None:
        name = entry
    return ids[name]


def escaped(label: str) -> str:
    """Return a label that Mermaid reads as this text and as nothing else; a long one is cut."""
    shown = label if len(label) <= 80 else label[:79] + "…"
    return "".join(sign if sign in _PLAIN else f"#{ord(sign)};" for sign in shown)
