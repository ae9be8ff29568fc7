"""`Context`: a node function's access to its run, and its way to write state."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from beluga_graph.execution.attempt import Attempt

__all__ = ["Context", "attempt_of"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Context:
    """Passed to a function whose first parameter is annotated `Context` or named `ctx`.

    A node reads the state, updates it, and publishes an event:

        @graph.node
        async def count(ctx: Context, word: str) -> int:
            ctx.update(total=ctx.state.total + 1)
            ctx.publish("words.counted", {"word": word})
            return ctx.state.total

    Attributes:
        run_id: Id of the run.
        node: Path of the node.
        attempt: Number of this attempt, from 1.
        idempotency_key: A key that is the same for every attempt of this visit of the node.
        input: The run's input.
        context: The plain data given with the run as `context=`.
        deps: The live resources given to the engine as `deps=`.
        state: The graph's state, to read.
    """

    __slots__ = ("_attempt",)

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    @property
    def run_id(self) -> str:
        """Id of the run."""
        return self._attempt.run.run_id

    @property
    def node(self) -> str:
        """Path of the node."""
        return self._attempt.token.node

    @property
    def attempt(self) -> int:
        """Number of this attempt, from 1. A crash does not count, and a resumed failure continues the count."""
        return self._attempt.token.attempt

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of this visit, also after a crash. Pass it to calls that must happen once."""
        return f"{self._attempt.run.run_id}:{self._attempt.token.name}"

    @property
    def input(self) -> Any:
        """A new copy of the run's input."""
        return self._attempt.decode(self._attempt.run.input)

    @property
    def context(self) -> Any:
        """The plain data given with the run as `context=`; an empty dict if none was given.

        If the `input_filter` of a handoff sets its `context`, the target and the agents after it see that here.
        """
        return self._attempt.context

    @property
    def deps(self) -> Any:
        """The live resources given to the engine as `deps=`; never stored."""
        return self._attempt.deps

    @property
    def state(self) -> Any:
        """The graph's state as this node sees it, its own updates included: one attribute for each field.

        A field is decoded when it is first read. An `append` field is a list that cannot be changed; a copy of it
        can. Its items are decoded once while the run stays in this process. An attempt gets its own copy of a dict
        or list when it takes that out of the field, and its own copies of all models that are not frozen when it
        reads the field. Use `update` to write.

        The object is a view with one attribute per field, not an instance of your class. To pass on the whole state,
        return, publish or put `ctx.state` itself into a value: it is stored as an instance of your class.
        """
        return self._attempt.view

    def now(self) -> datetime:
        """Return the time of the engine's clock, in UTC, with milliseconds.

            ctx.update(paid_at=ctx.now())

        It is the clock that the engine's timers use, so a test that gives a `VirtualClock` sets this time, too. On a
        Temporal server it is the clock of the worker. The time is not on record: another attempt of the node reads the
        clock again. To keep a time, return it or update the state with it.
        """
        return _EPOCH + timedelta(milliseconds=self._attempt.resources.clock.now_ms())

    def update(self, **fields: Any) -> None:
        """Update fields of the state, each through its reducer; a field without a reducer is set.

            ctx.update(answer=42, log=["found it"])

        Updates of one field are applied in the order of the calls. A list or tuple adds its items to an `append`
        field, also one that was read from the state. Updates are committed with the node, and dropped with a
        failed attempt. Raises `StateError` for a field that does not exist or a value that the field's type
        refuses.
        """
        self._attempt.state.update(fields)

    def emit_text(self, text: str) -> None:
        """Show a piece of text to the current watchers of the run. The whole text is stored when the node ends."""
        self._attempt.emit_text(text)

    def publish(self, topic: str, data: Any = None) -> None:
        """Publish an event with this node's step, to the engine's `bus`, exactly once, whatever crashes.

            ctx.publish("orders.paid", {"order": 7})

        It is written in the commit of the step, and dropped with a failed attempt. Its correlation id is the run's
        id, its causation id the node's idempotency key. If the engine has no bus, the event stays in the outbox
        until an engine with a bus opens the store. Raises `BadTopic`, and `NotData` for data that cannot be stored.
        """
        self._attempt.publish(topic, data)

    def __repr__(self) -> str:
        return f"<context of {self.idempotency_key}>"


def attempt_of(ctx: Context) -> Attempt:
    """Return the attempt behind a context, for the node functions of this package's own flows."""
    return ctx._attempt  # noqa: SLF001 - the one place that may
