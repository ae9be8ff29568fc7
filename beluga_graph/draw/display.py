"""Notebook displays of a flow, a run or a snapshot. A display never raises an error: it shows it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from html import escape
from typing import Any, Protocol

from beluga_graph.codec.safe_repr import to_printable
from beluga_graph.draw.formats.ascii import render_ascii
from beluga_graph.draw.formats.svg import render_svg
from beluga_graph.draw.overlay import Overlay
from beluga_graph.draw.page.values import format_value
from beluga_graph.draw.picture import BEGIN_KIND, END_KIND, Box, Picture, build_picture
from beluga_graph.draw.sketch import sketch
from beluga_graph.draw.text import clip
from beluga_graph.draw.theme import STATUS_SIGNS
from beluga_graph.kernel.shape import END
from beluga_graph.plan.declared import Declared
from beluga_graph.plan.plan import Plan
from beluga_graph.trace.edges import BEGIN

__all__ = [
    "format_clipped_value",
    "format_fault",
    "format_status",
    "format_time",
    "render_bundle",
    "render_flow",
    "render_table",
]

_VALUE_LENGTH_MAX = 400
_SIGN_OF = {"completed": STATUS_SIGNS["done"], "cancelled": STATUS_SIGNS["dropped"]}


class DisplayedFlow(Protocol):
    """A flow that may fail to compile."""

    @property
    def name(self) -> str:
        """The flow's name."""

    def declare(self) -> Declared:
        """Return the flow as a declared graph."""

    def plan(self) -> Plan:
        """Compile the flow."""


def render_flow(flow: DisplayedFlow) -> dict[str, str]:
    """Render a flow by media type. If it does not compile, render the declared part, with the error above it."""
    try:
        return render_bundle(build_picture(flow.plan().shape))
    except Exception as fault:  # noqa: BLE001 - the drawing shows the error
        return render_bundle(_sketch(flow), fault=format_fault(fault))


def _sketch(flow: DisplayedFlow) -> Picture:
    try:
        return sketch(flow.declare())
    except Exception:  # noqa: BLE001 - compiling failed with the same error, which the drawing shows
        begin = Box(id="nstart", name=BEGIN, label="START", kind=BEGIN_KIND)
        end = Box(id="nend", name=END, label="END", kind=END_KIND)
        return Picture(name=flow.name, boxes=(begin, end), lines=())


def format_fault(error: Exception) -> str:
    """Return an error as a display shows it: its class and its message."""
    return f"{type(error).__name__}: {error}"


def render_bundle(picture: Picture, overlay: Overlay | None = None, fault: str = "") -> dict[str, str]:
    """Render a picture by media type: as SVG, and as text for terminals."""
    return {
        "image/svg+xml": render_svg(picture, overlay, fault=fault),
        "text/plain": render_ascii(picture, overlay, fault=fault),
    }


def render_table(rows: Iterable[tuple[str, str]]) -> str:
    """Render names and texts as an HTML table that inherits the colours and the font of the page around it."""
    cells = (
        f'<tr><th style="text-align:left;vertical-align:top">{_escape(name)}</th>'
        f'<td style="text-align:left;white-space:pre-wrap;overflow-wrap:anywhere">{_escape(text)}</td></tr>'
        for name, text in rows
    )
    return f"<table>{''.join(cells)}</table>"


def format_status(status: str) -> str:
    """Return the status of a run after the sign that drawings use for it."""
    return f"{_SIGN_OF.get(status) or STATUS_SIGNS[status]} {status}"


def format_clipped_value(value: Any) -> str:
    """Return a value as text of at most 400 characters."""
    return clip(format_value(value), _VALUE_LENGTH_MAX)


def format_time(at_ms: int) -> str:
    """Return a clock time in UTC, such as `2024-05-01 12:30:00Z`."""
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}Z"


def _escape(text: str) -> str:
    return escape(to_printable(text, keep="\n\t"), quote=True)
