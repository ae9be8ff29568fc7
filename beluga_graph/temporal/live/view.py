"""The live view: which live events one follower has seen, so that each node's events come in their order.

Records may come twice, late, or not at all. Before the step of an attempt, the view gives the events that are missing:
`node_started`, and the rest of the text. So a follower sees the whole text of a node in `text` events, unless it came
while the node was running.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from beluga_graph.events import Event, make_event
from beluga_graph.inspection.views import StepInfo
from beluga_graph.kernel.shape import NodeShape
from beluga_graph.temporal.live.record import LiveRecord

__all__ = ["LiveView"]

_ENDED_MAX = 10_000  # tokens for which late records are recognized


class _Shown:
    """The part of an attempt's text that the follower has seen."""

    __slots__ = ("attempt", "node", "pieces", "skipped", "tries")

    def __init__(self, node: str, attempt: int, tries: int) -> None:
        self.node, self.attempt, self.tries = node, attempt, tries
        self.skipped = 0  # pieces before the first one, which a late follower has missed
        self.pieces: list[str] = []

    def is_part_of(self, text: str) -> bool:
        """Return whether these pieces may be of an attempt with this text."""
        shown = "".join(self.pieces)
        return shown in text if self.skipped else text.startswith(shown)


class LiveView:
    """The live events of one run, for one follower, which is late if it came after the run began."""

    def __init__(self, run_id: str, nodes: Mapping[str, NodeShape], *, is_late: bool) -> None:
        self._run_id, self._nodes, self._is_follower_late = run_id, nodes, is_late
        self._shown: dict[str, _Shown] = {}  # attempts under way, by token
        self._ended: dict[str, int] = {}  # the last attempt whose step was shown, by token

    def is_start(self, record: LiveRecord) -> bool:
        """Return whether a record is the first one of an attempt."""
        shown = self._shown.get(record.token)
        return not self._is_late(record) and (shown is None or (shown.attempt, shown.tries) < _order(record))

    def take(self, record: LiveRecord) -> Iterator[Event]:
        """Yield the events that are new in a record."""
        if self._is_late(record):
            return
        shown = self._shown.get(record.token)
        if shown is None or (shown.attempt, shown.tries) < _order(record):
            if shown is not None:
                yield from self._retract(record.token, shown)
            shown = self._shown[record.token] = _Shown(record.node, record.attempt, record.tries)
            shown.skipped = record.first if self._is_follower_late else 0
            yield self._event("node_started", record.token, shown)
        elif (shown.attempt, shown.tries) > _order(record):
            return
        count = shown.skipped + len(shown.pieces)
        if record.first > count:
            return  # pieces are missing: the rest comes when the node has finished
        for piece in record.pieces[count - record.first :]:
            shown.pieces.append(piece)
            yield self._event("text", record.token, shown, piece)

    def end(self, step: StepInfo, *, is_past: bool) -> Iterator[Event]:
        """Yield the live events that come before those of a step. There are none for the end of a past attempt."""
        if step.trigger not in ("NodeFinished", "NodeFailed"):
            return
        shown = self._shown.get(step.token)
        if shown is not None and shown.attempt <= step.attempt:
            del self._shown[step.token]
        self._note_ended(step)
        node = next((event.node for event in step.events if event.token == step.token), "")
        if (is_past and shown is None) or not node or (shown is not None and shown.attempt > step.attempt):
            return
        text = next((event.text for event in step.events if event.type == "node_finished"), "")
        has_failed = step.trigger == "NodeFailed"
        if shown is not None and (shown.attempt < step.attempt or not (has_failed or shown.is_part_of(text))):
            yield from self._retract(step.token, shown)  # the step is of another try, of which no text was seen
            shown = None
        if shown is None:
            shown = _Shown(node, step.attempt, 0)
            yield self._event("node_started", step.token, shown)
        if has_failed:
            yield from self._retract(step.token, shown)
        elif not shown.skipped and (rest := text[len("".join(shown.pieces)) :]):
            yield self._event("text", step.token, shown, rest)

    def _retract(self, token: str, shown: _Shown) -> Iterator[Event]:
        if shown.pieces:
            yield self._event("retracted", token, shown)

    def _note_ended(self, step: StepInfo) -> None:
        self._ended.pop(step.token, None)
        self._ended[step.token] = step.attempt
        if len(self._ended) > _ENDED_MAX:
            del self._ended[next(iter(self._ended))]

    def _is_late(self, record: LiveRecord) -> bool:
        return record.attempt <= self._ended.get(record.token, 0)

    def _event(self, kind: str, token: str, shown: _Shown, text: str = "") -> Event:
        shape = self._nodes.get(shown.node)
        return make_event(
            type=kind,
            run_id=self._run_id,
            node=shown.node,
            agent=shape.agent if shape is not None else "",
            token=token,
            attempt=shown.attempt,
            text=text,
        )


def _order(record: LiveRecord) -> tuple[int, int]:
    return record.attempt, record.tries
