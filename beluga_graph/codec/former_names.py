"""Former names of this package's classes: those in bytes that earlier code wrote, and in fingerprints of graphs.

A graph that names a class of this package has the same fingerprint as before the class was renamed: fingerprints and
stored shapes go on using the former name. Otherwise every open run would report a changed graph.
"""

from __future__ import annotations

import re

__all__ = ["FORMER_FIELDS", "FORMER_NAMES", "former_name", "with_former_names"]

FORMER_NAMES = {
    f"beluga_graph.{old}": f"beluga_graph.{new}"
    for old, new in {
        "adoption:JudgedChange": "plan.compatibility:JudgedChange",
        "agents.conversation:View": "agents.conversation:FilteredHistory",
        "answers:Answer": "execution.approval:Answer",
        "comparison:Absent": "inspection.comparison:Absent",
        "comparison:ComparedNode": "inspection.comparison:ComparedNode",
        "comparison:ComparedRun": "inspection.comparison:ComparedRun",
        "comparison:ComparedValue": "inspection.comparison:ComparedValue",
        "comparison:Parting": "inspection.comparison:Divergence",
        "comparison:RunComparison": "inspection.comparison:RunComparison",
        "plan.difference:PlanChange": "plan.diff:PlanChange",
        "questions:Question": "inspection.approvals:Question",
        "run:Outcome": "inspection.views:Outcome",
        "run:RunInfo": "inspection.views:RunInfo",
        "run:RunSnapshot": "inspection.views:RunSnapshot",
        "run:RunStatus": "inspection.views:RunStatus",
        "run:StepInfo": "inspection.views:StepInfo",
        "run:TokenInfo": "inspection.views:TokenInfo",
    }.items()
}
FORMER_FIELDS = {"beluga_graph.inspection.comparison:RunComparison": {"parts": "divergences"}}
"""Fields whose names in earlier bytes differ from those today, by class."""

_BY_NAME = {today: former for former, today in FORMER_NAMES.items()}
_DOTTED = {today.replace(":", "."): former.replace(":", ".") for today, former in _BY_NAME.items()}
_OF_THIS_PACKAGE = re.compile(r"\bbeluga_graph(?:\.\w+)+")


def former_name(name: str) -> str:
    """Return the first name that a class had in bytes, `module:qualname`; `name` itself for any other class."""
    return _BY_NAME.get(name, name)


def with_former_names(text: str) -> str:
    """Return a type as text in which the dotted names of this package's classes are their first ones."""
    return _OF_THIS_PACKAGE.sub(lambda found: _DOTTED.get(found[0], found[0]), text)
