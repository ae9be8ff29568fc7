"""The live text of one attempt in a worker, kept until the attempt ends: side channel and heartbeats send from it."""

from __future__ import annotations

from collections.abc import Callable

from beluga_graph.kernel.snapshot import Token
from beluga_graph.temporal.live.record import LiveRecord

__all__ = ["LiveText"]


class LiveText:
    """The pieces that one attempt has emitted so far.

    Attributes:
        pieces: The pieces, in order.
        is_over: Whether the attempt has ended.
    """

    def __init__(self, run_id: str, token: Token, tries: int, on_changed: Callable[[LiveText], None]) -> None:
        self._run_id, self._tries, self._on_changed = run_id, tries, on_changed
        self._node, self._token, self._attempt = token.node, token.name, token.attempt
        self.pieces: list[str] = []
        self.is_over = False
        on_changed(self)

    def add(self, token: Token, text: str) -> None:  # noqa: ARG002 - as `Attempt` calls it
        """Add a piece. One that a thread emits after the end is dropped."""
        if not self.is_over:
            self.pieces.append(text)
            self._on_changed(self)

    def end(self) -> None:
        """Report that the attempt has ended."""
        self.is_over = True
        self._on_changed(self)

    def record(self, first: int = 0, stop: int | None = None) -> LiveRecord:
        """Return the pieces from `first` on, or those before `stop`."""
        stop = len(self.pieces) if stop is None else stop
        is_over = self.is_over and stop == len(self.pieces)
        pieces = tuple(self.pieces[first:stop])
        return LiveRecord(self._run_id, self._node, self._token, self._attempt, self._tries, first, pieces, is_over)

    def tail(self, chars: int) -> LiveRecord:
        """Return the last pieces, of at most so many characters together."""
        first = len(self.pieces)
        while first and (chars := chars - len(self.pieces[first - 1])) >= 0:
            first -= 1
        return self.record(first)
