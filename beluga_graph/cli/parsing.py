"""JSON, assignments and durations, as they are given on the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NoReturn

import typer

__all__ = ["parse_assignments", "parse_json", "parse_renames", "parse_seconds"]

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def parse_json(text: str, hint: str, *, alternative: str = "") -> Any:
    """Return the value of a JSON text. Raises `BadParameter`; `alternative` is appended to its message."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        reason = str(error) or "it nests too deep"
        message = f"{text!r:.100} is not JSON ({reason}): a text needs double quotes, as in '\"yes\"'{alternative}"
        raise typer.BadParameter(message, param_hint=hint) from None


def parse_assignments(texts: Sequence[str], hint: str) -> dict[str, Any]:
    """Return the fields and values of texts such as `field=JSON`. Raises `BadParameter`."""
    found: dict[str, Any] = {}
    for text in texts:
        field, sign, value = text.partition("=")
        if not (field and sign):
            message = f"{text!r:.100} is not an assignment: write FIELD=JSON, such as count=3"
            raise typer.BadParameter(message, param_hint=hint)
        found[field] = parse_json(value, hint)
    return found


def parse_renames(texts: Sequence[str], hint: str) -> dict[str, str]:
    """Return the old and new paths of nodes in texts such as `old=new`. Raises `BadParameter`."""
    found: dict[str, str] = {}
    for text in texts:
        old, _, new = text.partition("=")
        if not (old and new):
            message = f"{text!r:.100} is not a rename: write OLD=NEW, such as confirm=confirmed or desk/ask=desk/answer"
            raise typer.BadParameter(message, param_hint=hint)
        if found.setdefault(old, new) != new:
            raise typer.BadParameter(f"{old!r} has two new names: {found[old]!r} and {new!r}", param_hint=hint)
    return found


def parse_seconds(text: str, hint: str) -> float:
    """Return the seconds of a duration such as 90s, 15m, 12h, 7d or 2w. Raises `BadParameter`."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)([smhdw])", text, re.ASCII)
    if found is None:
        message = f"{text!r:.100} is not a duration: give a number and its unit, such as 90s, 15m, 12h, 7d or 2w"
        raise typer.BadParameter(message, param_hint=hint)
    return float(found[1]) * _SECONDS[found[2]]


def _refuse_constant(name: str) -> NoReturn:
    message = f"JSON has no number {name}"
    raise ValueError(message)
