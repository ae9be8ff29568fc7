"""The stored drawings equal the drawings of the examples, byte for byte."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_drawings_of_the_examples_are_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (EXAMPLES / "drawings", EXAMPLES):
        monkeypatch.syspath_prepend(str(folder))
    import draw  # noqa: PLC0415 - the examples are not a package: their folder must be on the path

    drawn = asyncio.run(draw.drawings())
    stored = {path.name: path.read_text(encoding="utf-8") for path in (EXAMPLES / "drawings").glob("*.svg")}
    assert drawn.keys() == stored.keys()
    for name, text in drawn.items():
        assert text == stored[name], f"{name} is out of date: run examples/drawings/draw.py"
    programs = {path.stem for path in EXAMPLES.glob("*.py")}
    assert programs | {"demo"} == draw.FLOWS.keys()
    for name in (*programs, "draw"):
        sys.modules.pop(name, None)
