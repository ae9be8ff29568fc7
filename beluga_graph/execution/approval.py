"""Answers: the decisions of a person about a step or a tool call, and the payload of the signal that carries one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from beluga_graph.errors import BadSignal
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED
from beluga_graph.plan.declared import MISSING, Missing
from beluga_graph.plan.plan import Plan

__all__ = ["Answer", "Decision", "check_modified_value", "why_not_pending"]

Decision: TypeAlias = Literal["approve", "reject", "modify"]


@dataclass(frozen=True, slots=True)
class Answer:
    """A person's decision. Raises `ValueError` if its fields do not fit together.

    Attributes:
        decision: One of `approve`, `reject` and `modify`.
        value: With `modify`, the value that replaces the original one.
        reason: Why the person decided so; may be empty.
    """

    decision: str
    value: Any | Missing = MISSING
    reason: str = ""

    def __post_init__(self) -> None:
        if self.decision not in get_args(Decision):
            msg = f"decision {self.decision!r:.100}: give one of {', '.join(get_args(Decision))}"
            raise ValueError(msg)
        if (self.decision == "modify") != (self.value is not MISSING):
            needs = "needs the value that replaces the original one" if self.decision == "modify" else "takes no value"
            msg = f"decision {self.decision!r} {needs}: only modify has one"
            raise ValueError(msg)
        if not isinstance(self.reason, str):
            msg = f"reason {self.reason!r:.100} is not text"
            raise ValueError(msg)  # noqa: TRY004 - one error for every invalid answer

    def to_payload(self) -> dict[str, Any]:
        """Return the answer as plain data."""
        plain: dict[str, Any] = {"decision": self.decision, "reason": self.reason}
        return plain if self.value is MISSING else {**plain, "value": self.value}

    @classmethod
    def from_payload(cls, payload: Any) -> Answer:
        """Return the answer that a payload holds. Raises `BadSignal`, because any process can send any payload."""
        named = payload if isinstance(payload, dict) else {}
        if "decision" not in named or not named.keys() <= {"decision", "value", "reason"}:
            rule = "give a decision, and optionally a value and a reason"
            raise BadSignal("", f"the payload {payload!r:.100} is not an answer: {rule}")
        try:
            return cls(**named)
        except ValueError as error:
            raise BadSignal("", f"the payload {payload!r:.100} is not an answer: {error}") from error


def check_modified_value(plan: Plan, run_id: str, node: str, original: Callable[[], Any], value: Any) -> None:
    """Raise `BadSignal` for a value that the node behind a question does not accept in place of the original one.

    A plan without the user's code cannot check it: then the process that drives the run does.
    """
    binding = plan.bindings.get(node)
    if binding is None or binding.revise is None:
        return
    try:
        binding.revise(original(), value)
    except Exception as error:
        raise BadSignal(run_id, f"{plan.shape.nodes[node].target!r} cannot take that value: {error}") from error


def why_not_pending(status: str, question: str, pending: Iterable[str], *, is_answered: bool) -> str:
    """Return the reason why an answer to a question is refused, and the questions of that run that are `pending`."""
    if status in (COMPLETED, CANCELLED):
        return f"it is {status}: a run that has ended asks nothing"
    if is_answered:
        return f"question {question!r:.200} has been answered already"
    ids = ", ".join(map(repr, pending)) or "none"
    return f"it does not ask {question!r:.200}; the questions that are pending: {ids}"
