"""Descriptions of parameters in docstrings, in the style of Google (`Args:`) or Sphinx (`:param name:`)."""

from __future__ import annotations

import re

__all__ = ["parameter_texts"]

_SECTION = re.compile(r"(?m)^(Args|Arguments|Parameters):[ \t]*\n((?:[ \t]+.*(?:\n|$)|[ \t]*\n)*)")
_SPHINX = re.compile(r"(?m)^:param (?:[^:\n]*? )?(\w+):[ \t]*(.*(?:\n[ \t]+\S.*)*)")
_ENTRY = re.compile(r"\*{0,2}(\w+)(?: ?\([^)\n]*\))?:[ \t]*(.*)")


def parameter_texts(docstring: str) -> dict[str, str]:
    """Return the description of each parameter in a docstring without indentation. Other styles give an empty dict."""
    found = {name: _one_line(text) for name, text in _SPHINX.findall(docstring)}
    section = _SECTION.search(docstring)
    if section is None:
        return found
    lines = [line for line in section[2].splitlines() if line.strip()]
    margin = min((len(line) - len(line.lstrip()) for line in lines), default=0)
    name = ""
    for line in lines:
        entry = _ENTRY.match(line[margin:])
        if entry is not None:
            name = entry[1]
            found[name] = entry[2]
        elif name:
            found[name] += f" {line.strip()}"
    return {name: _one_line(text) for name, text in found.items() if text.strip()}


def _one_line(text: str) -> str:
    return " ".join(text.split())
