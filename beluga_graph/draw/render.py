"""The formats that a flow, or a run of it, can be drawn in, by name."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from beluga_graph.draw.formats.ascii import ascii_art
from beluga_graph.draw.formats.dot import dot
from beluga_graph.draw.formats.mermaid import mermaid
from beluga_graph.draw.formats.svg import svg
from beluga_graph.draw.overlay import overlay_of
from beluga_graph.draw.picture import picture
from beluga_graph.kernel.shape import Shape
from beluga_graph.trace.trace import Trace

__all__ = ["FORMATS", "Format", "Theme", "drawn"]

Format: TypeAlias = Literal["svg", "mermaid", "dot", "ascii"]
Theme: TypeAlias = Literal["auto", "light", "dark"]
FORMATS: tuple[str, ...] = get_args(Format)


def drawn(
    shape: Shape, form: Format, *, depth: int | None = None, trail: Trace | None = None, theme: Theme = "auto"
) -> str:
    """Return a drawing: of a flow, or with a trail of its run. Frames deeper than `depth` are folded.

    Raises `ValueError` for a format, a depth or a theme that there is not.
    """
    shown = picture(shape, depth)
    overlay = None if trail is None else overlay_of(trail, shown)
    if form == "svg":
        return svg(shown, overlay, theme=theme)
    if form == "mermaid":
        return mermaid(shown, overlay)
    if form == "dot":
        return dot(shown, overlay)
    if form == "ascii":
        return ascii_art(shown, overlay)
    msg = f"there is no format {form!r}: give one of {', '.join(FORMATS)}"
    raise ValueError(msg)
