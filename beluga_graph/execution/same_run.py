"""The rule for a known run id in a request to start a run: the flow and the input are those of the run."""

from __future__ import annotations

from beluga_graph.errors import RunConflict

__all__ = ["check_same_flow", "check_same_input"]


def check_same_flow(run_id: str, known: str, requested: str) -> None:
    """Raise `RunConflict` if a run belongs to another flow than the requested one."""
    if known != requested:
        message = f"the id belongs to a run of flow {known!r}, not {requested!r}: choose another id"
        raise RunConflict(run_id, message)


def check_same_input(run_id: str, known: bytes, requested: bytes) -> None:
    """Raise `RunConflict` if the digest of a run's input is another one than that of the requested input."""
    if known != requested:
        message = "the id belongs to a run with another input: choose another id, or resume it by its id"
        raise RunConflict(run_id, message)
