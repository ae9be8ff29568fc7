"""What a notebook shows of a flow, a run, a snapshot. A display never raises: what goes wrong is said within it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from html import escape
from typing import Any, Protocol

from beluga_graph.codec.safe_repr import to_printable
from beluga_graph.draw.formats.ascii import ascii_art
from beluga_graph.draw.formats.svg import svg
from beluga_graph.draw.overlay import Overlay
from beluga_graph.draw.page.values import shown_value
from beluga_graph.draw.picture import BEGIN, BEGIN_KIND, END_KIND, Box, Picture, picture
from beluga_graph.draw.sketch import sketch
from beluga_graph.draw.text import clipped
from beluga_graph.draw.theme import STATUS_SIGNS
from beluga_graph.kernel.shape import END
from beluga_graph.plan import Plan
from beluga_graph.plan.declared import Declared

__all__ = ["bundle", "fault_of", "flow_bundle", "status_text", "table", "time_text", "value_text"]

_VALUE_LENGTH_MAX = 400
_SIGN_OF = {"completed": STATUS_SIGNS["done"], "cancelled": STATUS_SIGNS["dropped"]}


class Shown(Protocol):
    """A flow that may not compile."""

    @property
    def name(self) -> str:
        """The flow's name."""

    def declare(self) -> Declared:
        """Return the flow as a declared graph."""

    def plan(self) -> Plan:
        """Return the flow compiled."""


def flow_bundle(flow: Shown) -> dict[str, str]:
    """Return a flow as it is drawn, by media type; one that does not compile as far as it was declared."""
    try:
        return bundle(picture(flow.plan().shape))
    except Exception as fault:  # noqa: BLE001 - the drawing says what is wrong
        return bundle(_sketch(flow), fault=fault_of(fault))


def _sketch(flow: Shown) -> Picture:
    try:
        return sketch(flow.declare())
    except Exception:  # noqa: BLE001 - nothing is declared: compiling failed of the same, and the drawing says it
        begin = Box(id="nstart", name=BEGIN, label="START", kind=BEGIN_KIND)
        end = Box(id="nend", name=END, label="END", kind=END_KIND)
        return Picture(name=flow.name, boxes=(begin, end), lines=())


def fault_of(error: Exception) -> str:
    """Return what went wrong as a display says it."""
    return f"{type(error).__name__}: {error}"


def bundle(shown: Picture, overlay: Overlay | None = None, fault: str = "") -> dict[str, str]:
    """Return a picture by media type: as a drawing, and as text where there are none."""
    return {"image/svg+xml": svg(shown, overlay, fault=fault), "text/plain": ascii_art(shown, overlay, fault=fault)}


def table(rows: Iterable[tuple[str, str]]) -> str:
    """Return names and texts as a table in HTML, in the colours and with the font of the page that holds it."""
    cells = (
        f'<tr><th style="text-align:left;vertical-align:top">{_text(name)}</th>'
        f'<td style="text-align:left;white-space:pre-wrap;overflow-wrap:anywhere">{_text(text)}</td></tr>'
        for name, text in rows
    )
    return f"<table>{''.join(cells)}</table>"


def status_text(status: str) -> str:
    """Return a run's status behind the sign that drawings have for it."""
    return f"{_SIGN_OF.get(status) or STATUS_SIGNS[status]} {status}"


def value_text(value: Any) -> str:
    """Return a value as text of bounded length."""
    return clipped(shown_value(value), _VALUE_LENGTH_MAX)


def time_text(at_ms: int) -> str:
    """Return a time in UTC."""
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}Z"


def _text(text: str) -> str:
    return escape(to_printable(text, keep="\n\t"), quote=True)
