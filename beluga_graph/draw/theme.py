"""How kinds and states look: words, icons and colours, in one place for every format that has any."""

from __future__ import annotations

from collections.abc import Callable, Mapping

__all__ = [
    "DARK",
    "ICONS",
    "KIND_WORDS",
    "LIGHT",
    "LINE_SIGNS",
    "LINE_WORDS",
    "STATUS_SIGNS",
    "STATUS_WORDS",
    "rules",
    "style",
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

# In the signs of a terminal.
LINE_SIGNS = {"plain": "", "branch": "+", "conditional": "?", "handoff": "=>", "error": "!"}
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

# Strokes in a square of 16.
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
    "conditional": "#7a5c00",
    "branch": "#1c62c4",
    "done": "#1a7f45",
    "running": "#1267d8",
    "retrying": "#b35c00",
    "waiting": "#8a6100",
    "failed": "#c62828",
    "stopped": "#6b7683",
    "dropped": "#6b7683",
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

_KINDS = ("function", "agent", "tool", "fan_out", "join", "wait", "timer", "handoff", "choice")
_SHOWN = ("done", "running", "retrying", "waiting", "failed", "stopped", "dropped")


def rules(colour: Callable[[str], str]) -> str:
    """Return the rules that colour a drawing; `colour` says how a colour is named."""
    c = colour
    found = [
        f".page,.plate{{fill:{c('page')}}}",
        f".card .body{{fill:{c('card')};stroke:{c('rim')};stroke-width:1.2}}",
        f".frame>.body{{fill:{c('frame')};stroke:{c('rim')};stroke-width:1.2}}",
        f".icon{{fill:none;stroke:{c('function')};stroke-width:1.4;stroke-linecap:round;stroke-linejoin:round}}",
        f".label,.head{{fill:{c('ink')};font-weight:600}}",
        f".note,.badge,.route,.key{{fill:{c('soft')}}}",
        f".dot{{fill:{c('ink')}}}",
        f".ring{{fill:{c('page')};stroke:{c('ink')};stroke-width:2}}",
        f".wire path{{fill:none;stroke:{c('line')};stroke-width:1.4}}",
        f".wire .tip{{fill:{c('line')};stroke:none}}",
        ".w-error path{stroke-dasharray:5 4}.w-conditional path{stroke-dasharray:9 3}",
        ".w-handoff path{stroke-width:2.6}.wire .tip{stroke-dasharray:none}",
    ]
    found += [f".k-{kind} .body{{stroke:{c(kind)}}}.k-{kind} .icon{{stroke:{c(kind)}}}" for kind in _KINDS]
    for kind in ("error", "conditional", "branch", "handoff"):
        found.append(f".w-{kind} path{{stroke:{c(kind)}}}.w-{kind} .tip{{fill:{c(kind)}}}")
        found.append(f".w-{kind} .route{{fill:{c(kind)}}}")
    found.append(".run .node{opacity:.5}.run .wire{opacity:.4}.run .wire.taken{opacity:1}.taken path{stroke-width:2.4}")
    for status in _SHOWN:
        back = c(f"{status}-back" if status != "stopped" else "dropped-back")
        found.append(f".run .s-{status}{{opacity:1}}.s-{status}>.body{{fill:{back};stroke:{c(status)};stroke-width:2}}")
        found.append(f".s-{status}>.badge,.key.s-{status}{{fill:{c(status)}}}")
    found.append(".run .frame.node>.body{fill-opacity:.35}")
    return "\n".join(found)


def style(theme: str) -> str:
    """Return a drawing's own style: `light`, `dark`, or `auto` for what the reader prefers. Raises `ValueError`."""
    palettes: Mapping[str, Mapping[str, str]] = {"light": LIGHT, "dark": DARK}
    if theme == "auto":
        return f"{rules(LIGHT.__getitem__)}\n@media (prefers-color-scheme:dark){{\n{rules(DARK.__getitem__)}\n}}"
    if theme not in palettes:
        msg = f"there is no theme {theme!r}: give 'light', 'dark', or 'auto' for what the reader prefers"
        raise ValueError(msg)
    return rules(palettes[theme].__getitem__)
