"""The look of node kinds, line kinds and statuses: words, signs, icons and colours, shared by all formats."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

__all__ = [
    "DARK",
    "FONT",
    "FORCED",
    "ICONS",
    "KIND_WORDS",
    "LIGHT",
    "LINE_SIGNS",
    "LINE_WORDS",
    "STATUS_KEY",
    "STATUS_SIGNS",
    "STATUS_WORDS",
    "UNREACHED",
    "write_colour_rules",
    "write_shape_rules",
    "write_style",
]

KIND_WORDS = {
    "function": "function",
    "agent": "agent",
    "tool": "tool",
    "fan_out": "fan-out",
    "join": "join",
    "wait": "wait",
    "timer": "timer",
    "handoff": "handoff",
    "choice": "choice",
    "frame": "sub-flow",
}
LINE_WORDS = {
    "plain": "edge",
    "branch": "branch",
    "conditional": "conditional",
    "handoff": "hands over",
    "error": "error",
    "interrupt": "signal interrupts",
}
STATUS_WORDS = {
    "done": "done",
    "running": "running",
    "retrying": "retrying",
    "waiting": "waiting",
    "failed": "failed",
    "stopped": "stopped",
    "dropped": "dropped",
}
UNREACHED = "never reached"

# Signs, for terminals and beside colours.
LINE_SIGNS = {"plain": "", "branch": "+", "conditional": "?", "handoff": "=>", "error": "!", "interrupt": "@"}
STATUS_SIGNS = {
    "": "·",
    "done": "✓",
    "running": "▶",
    "retrying": "↻",
    "waiting": "◷",
    "failed": "✗",
    "stopped": "■",
    "dropped": "-",
}
STATUS_KEY = ", ".join(f"{STATUS_SIGNS[status]} {word}" for status, word in STATUS_WORDS.items())

# SVG paths in a square of 16 by 16.
ICONS = {
    "function": "M11 3.2c-3.4-.8-2.6 3-3.2 5.2S7 13.6 4.4 12.8M5 7.6h5.4",
    "agent": "M3.5 6.5h9v6h-9zM8 6.5V4M8 3.4v.2M6.2 9.3v.4M9.8 9.3v.4",
    "tool": "M10.6 3a3 3 0 0 0-3.7 3.9L3 10.9 5.1 13 9 9.1A3 3 0 0 0 13 5.4l-1.9 1.9-1.9-.5-.5-1.9z",
    "fan_out": "M8 2.5v4M8 6.5 3 13M8 6.5 13 13M8 6.5V13",
    "join": "M3 3l5 6.5L13 3M8 3v10.5",
    "wait": "M8 2.8a3.4 3.4 0 0 1 3.4 3.4c0 3.2 1.6 4.3 1.6 4.3H3s1.6-1.1 1.6-4.3A3.4 3.4 0 0 1 8 2.8M7 13h2",
    "timer": "M8 2.5a5.5 5.5 0 1 0 .01 0M8 5v3.2l2.2 1.6",
    "handoff": "M2 8h9M8 4.8 11.2 8 8 11.2M14 3.5v9",
    "choice": "M8 2.2 13.8 8 8 13.8 2.2 8z",
    "frame": "M2.8 3.2h10.4v9.6H2.8zM2.8 6.2h10.4",
}

LIGHT = {
    "page": "#ffffff",
    "card": "#ffffff",
    "frame": "#f6f8fb",
    "rim": "#c3ccd8",
    "ink": "#17202c",
    "soft": "#5a6675",
    "line": "#7b8794",
    "function": "#4a5b70",
    "agent": "#6b3fd4",
    "tool": "#0b7a6f",
    "fan_out": "#1c62c4",
    "join": "#1c62c4",
    "wait": "#a05a00",
    "timer": "#a05a00",
    "handoff": "#b0236f",
    "choice": "#7a5c00",
    "error": "#c62828",
    "interrupt": "#a05a00",
    "conditional": "#7a5c00",
    "branch": "#1c62c4",
    "done": "#17733e",
    "running": "#1267d8",
    "retrying": "#9c5000",
    "waiting": "#8a6100",
    "failed": "#c62828",
    "stopped": "#5c6774",
    "dropped": "#5c6774",
    "done-back": "#e9f7ef",
    "running-back": "#e6f0fd",
    "retrying-back": "#fdf0e2",
    "waiting-back": "#fbf4dc",
    "failed-back": "#fdecec",
    "dropped-back": "#f1f3f5",
}
DARK = {
    "page": "#0f141b",
    "card": "#1a212b",
    "frame": "#141a22",
    "rim": "#3a4655",
    "ink": "#e6ebf2",
    "soft": "#9eabba",
    "line": "#8593a3",
    "function": "#a9b8ca",
    "agent": "#b79cff",
    "tool": "#4fc9bb",
    "fan_out": "#79aefc",
    "join": "#79aefc",
    "wait": "#f0b35a",
    "timer": "#f0b35a",
    "handoff": "#f58cc2",
    "choice": "#e0c060",
    "error": "#ff7b7b",
    "interrupt": "#f0b35a",
    "conditional": "#e0c060",
    "branch": "#79aefc",
    "done": "#5ed393",
    "running": "#74b1ff",
    "retrying": "#ffae5c",
    "waiting": "#eac55e",
    "failed": "#ff7b7b",
    "stopped": "#94a0ae",
    "dropped": "#94a0ae",
    "done-back": "#16301f",
    "running-back": "#152a45",
    "retrying-back": "#37260f",
    "waiting-back": "#322a10",
    "failed-back": "#3b1b1d",
    "dropped-back": "#20262e",
}

FONT = "system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif"

_SURFACES = ("page", "card", "frame")
FORCED = {name: "Canvas" if name in _SURFACES or name.endswith("-back") else "CanvasText" for name in LIGHT}
"""Palette for readers whose browser forces colours: their own colours for surfaces and for marks on them."""

_KINDS = ("function", "agent", "tool", "fan_out", "join", "wait", "timer", "handoff", "choice")
_LINES = ("error", "interrupt", "conditional", "branch", "handoff")

# Resets the text properties that a page around the drawing may have set.
_ROOT = (
    f"font:normal 400 13px {FONT};letter-spacing:normal;word-spacing:normal;"
    "text-transform:none;text-anchor:start;direction:ltr"
)
# Pairs of selectors and declarations. These rules hold in any palette.
_SHAPE_RULES = [
    (".page,.plate,.dot,.tip,.label,.head,.fault,.note,.badge,.route,.key,.sign", "stroke:none;stroke-dasharray:none"),
    (".label,.head", "font-size:13px;font-weight:600"),
    (".note,.badge,.route,.key,.sign", "font-size:11px"),
    (".sign,.key", "font-variant-emoji:text"),
    (".sign", "font-size:12px;font-weight:700;text-anchor:middle"),
    (".fault", "font-size:12px;font-weight:600"),
    (".body", "stroke-width:1.2"),
    (".icon", "fill:none;stroke-width:1.4;stroke-linecap:round;stroke-linejoin:round"),
    (".ring", "stroke-width:2"),
    (".way", "fill:none;stroke-width:1.4"),
    (".w-error>.way", "stroke-dasharray:5 4"),
    (".w-interrupt>.way", "stroke-dasharray:2 4"),
    (".w-conditional>.way", "stroke-dasharray:9 3"),
    (".w-handoff>.way", "stroke-width:2.6"),
    (".taken>.way", "stroke-width:2.4"),
    (".w-handoff.taken>.way", "stroke-width:3.6"),
    *((f".s-{status}>.body", "stroke-width:2") for status in STATUS_WORDS),
    (".run .frame.node>.body", "fill-opacity:.35"),
]


def write_colour_rules(colour: Callable[[str], str], scope: str = "", prefix: str = "") -> str:
    """Return the CSS rules that colour a drawing; `colour` maps the name of a colour to CSS.

    The rules apply below the selector `scope`, to classes that begin with `prefix`. Parts that a run never reached are
    paler and thinner, but their text keeps a contrast of 4.5 and their lines a contrast of 3.
    """
    c = colour
    found = [
        (".page,.plate", f"fill:{c('page')}"),
        (".body", f"fill:{c('card')};stroke:{c('line')}"),
        (".frame>.body", f"fill:{c('frame')}"),
        (".icon", f"stroke:{c('function')}"),
        (".label,.head,.dot", f"fill:{c('ink')}"),
        (".note,.badge,.route,.key,.sign", f"fill:{c('soft')}"),
        (".fault", f"fill:{c('failed')}"),
        (".ring", f"fill:{c('page')};stroke:{c('ink')}"),
        (".way", f"stroke:{c('line')}"),
        (".tip", f"fill:{c('line')}"),
    ]
    for kind in _KINDS:
        found += [(f".k-{kind}>.body,.k-{kind}>.icon", f"stroke:{c(kind)}")]
    for kind in _LINES:
        found += _list_line_rules(f".w-{kind}", c(kind), route=True)
    found += [
        (".run .node>.body", f"stroke:{c('line')}"),
        (".run .node>.label,.run .wire>.route", f"fill:{c('soft')}"),
        *_list_line_rules(".run .wire", c("line")),
        *_list_line_rules(".run .wire.taken", c("ink")),
    ]
    for kind in _LINES:
        found += _list_line_rules(f".run .w-{kind}.taken", c(kind), route=True)
    for status in STATUS_WORDS:
        back = c(f"{status}-back" if status != "stopped" else "dropped-back")
        node = f".run .s-{status}"
        found += [
            (f"{node}>.body", f"fill:{back};stroke:{c(status)}"),
            (f"{node}>.label", f"fill:{c('ink')}"),
            (f"{node}>.badge,{node}>.sign,.key.s-{status}", f"fill:{c(status)}"),
        ]
    return _write_rules(found, scope, prefix)


def _list_line_rules(line: str, colour: str, *, route: bool = False) -> list[tuple[str, str]]:
    filled = f"{line}>.tip,{line}>.route" if route else f"{line}>.tip"
    return [(f"{line}>.way", f"stroke:{colour}"), (filled, f"fill:{colour}")]


def write_shape_rules(scope: str = "", prefix: str = "") -> str:
    """Return the CSS rules of a drawing that hold in any palette; `scope` and `prefix` as in `write_colour_rules`."""
    return _write_rules(_SHAPE_RULES, scope, prefix)


def _write_rules(found: Iterable[tuple[str, str]], scope: str, prefix: str) -> str:
    lines = []
    for selectors, declared in found:
        named = selectors.replace(".", f".{prefix}").split(",")
        lines.append(f"{','.join(f'{scope}{selector}' for selector in named)}{{{declared}}}")
    return "\n".join(lines)


def write_style(theme: str, scope: str, prefix: str) -> str:
    """Return the style sheet of a drawing: `light`, `dark`, or `auto` for the reader's preference.

    Colours that the reader's browser forces take precedence over every theme. On paper, `auto` is light. Raises
    `ValueError` for another theme.
    """
    palettes: Mapping[str, Mapping[str, str]] = {"auto": LIGHT, "light": LIGHT, "dark": DARK}
    if theme not in palettes:
        msg = f"there is no theme {theme!r}: give 'light', 'dark', or 'auto' for what the reader prefers"
        raise ValueError(msg)

    def write_palette(palette: Mapping[str, str]) -> str:
        return write_colour_rules(palette.__getitem__, scope, prefix)

    parts = [f"{scope}{{{_ROOT}}}", write_shape_rules(scope, prefix), write_palette(palettes[theme])]
    if theme == "auto":
        parts.append(f"@media screen and (prefers-color-scheme:dark){{\n{write_palette(DARK)}\n}}")
    parts.append(f"@media (forced-colors:active){{\n{scope}{{forced-color-adjust:none}}\n{write_palette(FORCED)}\n}}")
    return "\n".join(parts)
