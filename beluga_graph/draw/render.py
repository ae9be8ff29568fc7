"""Rendering a flow, or a run of it, in a format chosen by name."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from beluga_graph.draw.formats.ascii import render_ascii
from beluga_graph.draw.formats.dot import render_dot
from beluga_graph.draw.formats.mermaid import render_mermaid
from beluga_graph.draw.formats.svg import render_svg
from beluga_graph.draw.overlay import build_overlay
from beluga_graph.draw.picture import build_picture
from beluga_graph.kernel.shape import Shape
from beluga_graph.trace.trace import Trace

__all__ = ["FORMATS", "Format", "Theme", "render"]

Format: TypeAlias = Literal["svg", "mermaid", "dot", "ascii"]
Theme: TypeAlias = Literal["auto", "light", "dark"]
FORMATS: tuple[str, ...] = get_args(Format)


def render(
    shape: Shape, form: Format, *, depth: int | None = None, trace: Trace | None = None, theme: Theme = "auto"
) -> str:
    """Render a flow, or with a trace a run of it. Frames deeper than `depth` are folded.

    `theme` applies to `svg` only. Raises `ValueError` for an unknown format or theme, or a negative depth.
    """
    picture = build_picture(shape, depth)
    overlay = None if trace is None else build_overlay(trace, picture)
    if form == "svg":
        return render_svg(picture, overlay, theme=theme)
    if form == "mermaid":
        return render_mermaid(picture, overlay)
    if form == "dot":
        return render_dot(picture, overlay)
    if form == "ascii":
        return render_ascii(picture, overlay)
    msg = f"there is no format {form!r}: give one of {', '.join(FORMATS)}"
    raise ValueError(msg)
