"""Joins the parts of the page, and locks it up: no address but its own, no script or style but these."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from beluga_graph.draw.formats.svg import body, keys
from beluga_graph.draw.layout.layout import Layout, layout
from beluga_graph.draw.page.replay import Delta, Replay, boxes_of
from beluga_graph.draw.picture import Picture, picture
from beluga_graph.draw.text import clean, clipped
from beluga_graph.draw.theme import DARK, FORCED, LIGHT, STATUS_SIGNS, forms, rules
from beluga_graph.kernel.shape import FRAME, Shape

__all__ = ["page"]

SCRIPTS = ("model", "dom", "list", "graph", "timeline", "panel", "search", "transport", "app")
MANY = 60  # boxes; of a larger flow frames are folded at first
_TITLE_SIGNS = 80


def page(shape: Shape, replay: Replay | None = None, steps: Sequence[Delta] = ()) -> str:
    """Return the page of a flow, or with a replay that took all `steps` that of a run.

    Equal input gives equal output. What is on it is ASCII: every other sign is written as an escape.
    """
    depths = [picture(shape, depth) for depth in range(_levels(shape) + 1)]
    badges = replay.widest() if replay is not None else {}
    drawings = [_drawing(depth, shown, replay, badges) for depth, shown in enumerate(depths)]
    small = [depth for depth, shown in enumerate(depths) if len(shown.boxes) <= MANY]
    head = replay.head() if replay is not None else {"flow": clean(shape.name), **boxes_of(shape, depths[-1])}
    statuses = {mark["status"] for step in (head.get("begin", {}), *steps) for mark in step.get("marks", {}).values()}
    statuses |= {""} if replay is not None else set()  # at its first step a run has not reached most
    shown_at = small[-1] if small else 0
    style, script = _style(), _script()
    return _part("page.html").substitute(
        policy=_policy(style, script),
        title=_text(clipped(clean(shape.name if replay is None else f"{head['run']} - {shape.name}"), _TITLE_SIGNS)),
        style=style,
        drawings="\n".join(drawings),
        legend=_legend(depths[-1], statuses),
        model=_data({"head": head, "steps": list(steps), "depth": shown_at, "signs": STATUS_SIGNS}),
        script=script,
    )


def _levels(shape: Shape) -> int:
    """Return how deep the frames of a flow nest."""
    found = {"": 0}
    for node in shape.nodes.values():  # frames come before what stands in them
        if node.kind == FRAME:
            found[node.name] = found[node.frame] + 1
    return max(found.values())


def _drawing(depth: int, shown: Picture, replay: Replay | None, badges: Mapping[str, str]) -> str:
    """Return one drawing of the flow, with room for all that the run brings to it."""
    placed: Layout = layout(shown, badges, replay.overlay(shown).counts() if replay is not None else {})
    width, height = placed.width + 16, placed.height + 16  # strokes and shadows reach over the edge
    drawn = body(placed, None)
    return (
        f'<svg class="graph" data-depth="{depth}" viewBox="-8 -8 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="group" aria-label="The graph" hidden>{_ascii(drawn)}</svg>'
    )


def _legend(shown: Picture, statuses: Collection[str]) -> str:
    keyed = "".join(
        f'<li><svg viewBox="0 -11 24 22" width="24" height="22" aria-hidden="true">{drawn}</svg>{escape(word)}</li>'
        for drawn, word in keys(shown, statuses)
    )
    return _ascii(keyed)


def _style() -> str:
    """Return the style: colours as variables, how drawings look, how the page does. Paper is light."""
    light, forced = _variables(LIGHT), _variables(FORCED)
    dark = f"{{color-scheme:dark;{_variables(DARK)}}}"
    return "\n".join(
        [
            f":root{{color-scheme:light;{light}}}",
            f"@media screen and (prefers-color-scheme:dark){{:root:not([data-theme=light]){dark}}}",
            f"@media screen{{:root[data-theme=dark]{dark}}}",
            f"@media (forced-colors:active){{:root:root:root{{forced-color-adjust:none;{forced}}}}}",
            forms(),
            rules(lambda name: f"var(--{name})"),
            _read("page.css"),
        ]
    )


def _variables(palette: Mapping[str, str]) -> str:
    return ";".join(f"--{name}:{colour}" for name, colour in palette.items())


def _script() -> str:
    parts = "\n".join(_read(f"{name}.js") for name in SCRIPTS)
    return f'"use strict";\n(() => {{\n{parts}\n}})();'


def _policy(style: str, script: str) -> str:
    """Return the Content-Security-Policy: nothing but the style and script that stand on the page, and its icon."""
    return (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _data(model: Any) -> str:
    """Return JSON that no reader of HTML can take for anything else: it holds no sign of markup."""
    text = json.dumps(model, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _text(text: str) -> str:
    return _ascii(escape(text, quote=True))


def _ascii(markup: str) -> str:
    return markup.encode("ascii", "xmlcharrefreplace").decode()


def _part(name: str) -> Template:
    return Template(_read(name))


def _read(name: str) -> str:
    return files("beluga_graph.draw.page").joinpath(name).read_text("utf-8")
