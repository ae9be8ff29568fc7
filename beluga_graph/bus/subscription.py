"""`Subscription`: a handle on one subscription of an event bus."""

from __future__ import annotations

from beluga_graph.bus.worker import SubscriptionWorker
from beluga_graph.errors import BusError
from beluga_graph.kernel.names import NAME_LENGTH_MAX, is_name

__all__ = ["Subscription", "check_name"]


class Subscription:
    """A handler of the events whose topics match a pattern. `EventBus.subscribe` returns it.

    Attributes:
        pattern: The pattern.
        name: Its name; `None` for a subscription that keeps no position.
        label: Its name, or the name of its handler; the log and `EventBus.observed` use it.
        errors: How often the handler raised, or an event could not be handed to it.
        last_error: The last of these errors.
        position: The position up to which it has handled the events that match.
        cancelled: Whether it handles nothing more.
        queued: How many events that this process has published it still has to handle, with the one under way.
    """

    __slots__ = ("_worker",)

    def __init__(self, worker: SubscriptionWorker) -> None:
        self._worker = worker

    @property
    def pattern(self) -> str:
        """The pattern."""
        return self._worker.pattern

    @property
    def name(self) -> str | None:
        """Its name; `None` for a subscription that keeps no position."""
        return self._worker.name

    @property
    def label(self) -> str:
        """Its name, or the name of its handler."""
        return self._worker.label

    @property
    def errors(self) -> int:
        """How often the handler raised, or an event could not be handed to it."""
        return self._worker.errors

    @property
    def last_error(self) -> BaseException | None:
        """The last error that was counted."""
        return self._worker.last_error

    @property
    def position(self) -> int:
        """The position up to which it has handled the events that match."""
        return self._worker.position

    @property
    def cancelled(self) -> bool:
        """Whether it handles nothing more."""
        return self._worker.cancelled

    @property
    def queued(self) -> int:
        """How many events that this process has published it still has to handle, with the one under way."""
        return len(self._worker.queue)

    def cancel(self) -> None:
        """Handle nothing more; a call of the handler that is under way finishes. A name keeps its position."""
        self._worker.cancel()


def check_name(name: str) -> None:
    """Raise `BusError` for text that cannot be the name of a subscription."""
    if not is_name(name):
        rule = f"give 1 to {NAME_LENGTH_MAX} printable characters, not all of them blank"
        raise BusError(f"{name!r:.80} cannot name a subscription: {rule}")
