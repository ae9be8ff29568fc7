"""The page: joins its parts, and restricts it by a policy to its own script and style, without any network access."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from beluga_graph.draw.formats.svg import build_legend, render_body
from beluga_graph.draw.layout.layout import lay_out
from beluga_graph.draw.page.replay import Delta, Replay, describe_picture
from beluga_graph.draw.picture import Picture, build_picture
from beluga_graph.draw.text import clean, clip
from beluga_graph.draw.theme import DARK, FORCED, LIGHT, STATUS_SIGNS, write_colour_rules, write_shape_rules
from beluga_graph.kernel.shape import FRAME, Shape

__all__ = ["render_page"]

SCRIPTS = ("model", "dom", "list", "graph", "timeline", "panel", "search", "transport", "app")
BOXES_MAX = 60  # a larger flow is shown with folded frames at first
_TITLE_LENGTH_MAX = 80


def render_page(shape: Shape, replay: Replay | None = None, steps: Sequence[Delta] = ()) -> str:
    """Render the page of a flow, or of a run with a replay to which all `steps` were applied.

    Equal input gives equal output. The page is ASCII: any other character is written as an escape.
    """
    pictures = [build_picture(shape, depth) for depth in range(_measure_depth(shape) + 1)]
    badges = replay.find_widest_badges() if replay is not None else {}
    drawings = [_render_drawing(depth, picture, replay, badges) for depth, picture in enumerate(pictures)]
    small = [depth for depth, picture in enumerate(pictures) if len(picture.boxes) <= BOXES_MAX]
    if replay is not None:
        head = replay.build_head()
        title = f"{head['run']} - {shape.name}"
    else:
        head = {"flow": clean(shape.name), **describe_picture(shape, pictures[-1])}
        title = shape.name
    statuses = {mark["status"] for step in (head.get("begin", {}), *steps) for mark in step.get("marks", {}).values()}
    statuses |= {""} if replay is not None else set()  # at the first step most nodes have not been reached
    style, script = _build_style(), _build_script()
    return Template(_read("page.html")).substitute(
        policy=_build_policy(style, script),
        title=_escape(clip(clean(title), _TITLE_LENGTH_MAX)),
        style=style,
        drawings="\n".join(drawings),
        legend=_render_legend(pictures[-1], statuses),
        model=_dump({"head": head, "steps": list(steps), "depth": small[-1] if small else 0, "signs": STATUS_SIGNS}),
        script=script,
    )


def _measure_depth(shape: Shape) -> int:
    """Return how many levels of frames a flow has."""
    found = {"": 0}
    for node in shape.nodes.values():  # a frame comes before the nodes in it
        if node.kind == FRAME:
            found[node.name] = found[node.frame] + 1
    return max(found.values())


def _render_drawing(depth: int, picture: Picture, replay: Replay | None, badges: Mapping[str, str]) -> str:
    """Render one drawing of the flow, with room for the widest badges and counts of the run."""
    placed = lay_out(picture, badges, replay.build_overlay(picture).format_counts() if replay is not None else {})
    width, height = placed.width + 16, placed.height + 16  # strokes and shadows extend beyond the edge
    drawn = render_body(placed, None)
    return (
        f'<svg class="graph" data-depth="{depth}" viewBox="-8 -8 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="group" aria-label="The graph" hidden>{_ascii(drawn)}</svg>'
    )


def _render_legend(picture: Picture, statuses: Collection[str]) -> str:
    entries = "".join(
        f'<li><svg viewBox="0 -11 24 22" width="24" height="22" aria-hidden="true">{drawn}</svg>{escape(word)}</li>'
        for drawn, word in build_legend(picture, statuses)
    )
    return _ascii(entries)


def _build_style() -> str:
    """Return the style: colours as variables, the rules of drawings, and the rules of the page. Paper is light."""
    light, forced = _write_variables(LIGHT), _write_variables(FORCED)
    dark = f"{{color-scheme:dark;{_write_variables(DARK)}}}"
    return "\n".join(
        [
            f":root{{color-scheme:light;{light}}}",
            f"@media screen and (prefers-color-scheme:dark){{:root:not([data-theme=light]){dark}}}",
            f"@media screen{{:root[data-theme=dark]{dark}}}",
            f"@media (forced-colors:active){{:root:root:root{{forced-color-adjust:none;{forced}}}}}",
            write_shape_rules(),
            write_colour_rules(lambda name: f"var(--{name})"),
            _read("page.css"),
        ]
    )


def _write_variables(palette: Mapping[str, str]) -> str:
    return ";".join(f"--{name}:{colour}" for name, colour in palette.items())


def _build_script() -> str:
    parts = "\n".join(_read(f"{name}.js") for name in SCRIPTS)
    return f'"use strict";\n(() => {{\n{parts}\n}})();'


def _build_policy(style: str, script: str) -> str:
    """Return the Content-Security-Policy: it allows the style and the script of the page, and its icon, only."""
    return (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _dump(model: Any) -> str:
    """Return JSON that is safe within HTML: it contains no markup characters."""
    text = json.dumps(model, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _escape(text: str) -> str:
    return _ascii(escape(text, quote=True))


def _ascii(markup: str) -> str:
    return markup.encode("ascii", "xmlcharrefreplace").decode()


def _read(name: str) -> str:
    return files("beluga_graph.draw.page").joinpath(name).read_text("utf-8")
