"""Random pictures with hostile labels: levels of nodes, frames in frames, lines of every kind in any direction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from beluga_graph.draw.picture import Box, Line, Picture
from beluga_graph.draw.theme import KIND_WORDS
from beluga_graph.kernel.shape import END, FRAME
from beluga_graph.trace.edges import BEGIN, name_point

__all__ = ["HOSTILE", "labels", "pictures"]

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></svg><svg onload=alert(1)>",
    "https://example.com/a.js",
    "]]>",
    "end",
    "subgraph",
    "digraph { a -> b }",
    "node",
    "click n0 href",
    "%% comment",
    "%%{init: {}}%%",
    "a --> b",
    '"]] --> x',
    "#quot;",
    "&amp;quot; &#34; &lt;",
    "\\N \\G \\l \\n \\",
    "`tick` $math$ **bold**",
    "fa:fa-user $$x^2$$ \ufb02\u00b0\u00b035\u00b6\u00df",
    "one\ntwo\r\nthree\tfour",
    "\x00\x07\x1b[31m",
    "\ud800",
    "\ufffe\uffff",
    "שלום עולם",
    "\u202eevil\u202c \u2066x",
    "👩‍👩‍👧‍👦 🇵🇹 e\u0301\u0301\u0301",
    "漢字のラベル",
    "─│┐◂ ↓ ├ ●",
    "x" * 5000,
    "loooong " * 700,
    " ",
    "",
]
KINDS = [*KIND_WORDS]


def labels() -> st.SearchStrategy[str]:
    """Return a strategy for labels: hostile ones, and any text."""
    return st.one_of(st.sampled_from(HOSTILE), st.text(max_size=12), st.sampled_from("abcdefgh"))


@st.composite
def pictures(draw: Callable[[st.SearchStrategy[Any]], Any], text: st.SearchStrategy[str] | None = None) -> Picture:
    """Return a random picture that a flow could have: every node is reached, and lines stay within their frame."""
    texts = labels() if text is None else text
    boxes: list[Box] = []
    lines: list[Line] = []
    number = iter(range(10_000))

    def level(frame: str, path: str, deep: int) -> None:
        owner = frame or "n"
        begin = Box(id=f"{owner}start", name=name_point(path, BEGIN), label="START", kind="start", frame=frame)
        end = Box(id=f"{owner}end", name=name_point(path, END), label="END", kind="end", frame=frame)
        boxes.append(begin)
        here = [begin]
        for _ in range(draw(st.integers(1, 6))):
            kind = draw(st.sampled_from(KINDS if deep < 2 else [kind for kind in KINDS if kind != FRAME]))
            made = next(number)
            name = f"{path}/node{made}" if path else f"node{made}"
            folded = kind == FRAME and draw(st.booleans())
            note = draw(texts) if draw(st.booleans()) else ""
            box = Box(id=f"n{made}", name=name, label=draw(texts), kind=kind, frame=frame, note=note, folded=folded)
            boxes.append(box)
            here.append(box)
            if kind == FRAME and not folded:
                level(box.id, name, deep + 1)
        boxes.append(end)
        for index, box in enumerate(here[1:], 1):
            line(here[draw(st.integers(0, index - 1))] if index > 1 else begin, box)
        line(here[-1], end)
        for _ in range(draw(st.integers(0, 8))):
            line(draw(st.sampled_from(here[1:])), draw(st.sampled_from([*here[1:], end])))

    def line(source: Box, target: Box) -> None:
        kind = draw(st.sampled_from(["plain", "branch", "conditional", "handoff", "error"]))
        label = draw(texts) if kind in ("conditional", "handoff", "branch") else ""
        ends = (source.name, target.name)
        lines.append(Line(id=f"e{len(lines)}", source=source.id, target=target.id, kind=kind, label=label, ends=ends))

    level("", "", 0)
    return Picture(name=draw(texts), boxes=tuple(boxes), lines=tuple(lines))
