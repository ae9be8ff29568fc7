"""Former names of this package's classes in stored bytes, and their current names."""

from __future__ import annotations

__all__ = ["FORMER_NAMES"]

FORMER_NAMES = {
    f"beluga_graph.{old}": f"beluga_graph.{new}"
    for old, new in {
        "adoption:JudgedChange": "inspection.compatibility:JudgedChange",
        "agents.conversation:View": "agents.conversation:FilteredHistory",
        "answers:Answer": "execution.approval:Answer",
        "comparison:ComparedNode": "inspection.comparison:ComparedNode",
        "comparison:ComparedRun": "inspection.comparison:ComparedRun",
        "comparison:ComparedValue": "inspection.comparison:ComparedValue",
        "comparison:Parting": "inspection.comparison:Divergence",
        "comparison:RunComparison": "inspection.comparison:RunComparison",
        "questions:Question": "inspection.approvals:Question",
        "run:Outcome": "inspection.views:Outcome",
        "run:RunInfo": "inspection.views:RunInfo",
        "run:RunSnapshot": "inspection.views:RunSnapshot",
        "run:RunStatus": "inspection.views:RunStatus",
        "run:StepInfo": "inspection.views:StepInfo",
        "run:TokenInfo": "inspection.views:TokenInfo",
    }.items()
}
