"""What is given on the command line: JSON, and how long something is."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NoReturn

import typer

__all__ = ["assignments", "from_json", "seconds_in"]

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def from_json(text: str, hint: str, *, otherwise: str = "") -> Any:
    """Return the value of a JSON text. Raises `BadParameter`; `otherwise` is one more way out that it tells."""
    try:
        return json.loads(text, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        reason = str(error) or "it nests too deep"
        message = f"{text!r:.100} is not JSON ({reason}): a text needs double quotes, as in '\"yes\"'{otherwise}"
        raise typer.BadParameter(message, param_hint=hint) from None


def assignments(given: Sequence[str], hint: str) -> dict[str, Any]:
    """Return fields and their values, given as `field=JSON`. Raises `BadParameter`."""
    found: dict[str, Any] = {}
    for text in given:
        field, sign, value = text.partition("=")
        if not (field and sign):
            message = f"{text!r:.100} is not such as field=JSON"
            raise typer.BadParameter(message, param_hint=hint)
        found[field] = from_json(value, hint)
    return found


def seconds_in(text: str, hint: str) -> float:
    """Return how many seconds a duration such as 90s, 15m, 12h, 7d or 2w is. Raises `BadParameter`."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)([smhdw])", text, re.ASCII)
    if found is None:
        message = f"{text!r:.100} is no duration: give a number and its unit, such as 90s, 15m, 12h, 7d or 2w"
        raise typer.BadParameter(message, param_hint=hint)
    return float(found[1]) * _SECONDS[found[2]]


def _refused(name: str) -> NoReturn:
    message = f"{name} is no number of JSON"
    raise ValueError(message)
