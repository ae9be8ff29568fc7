"""`Context`: what a node's function sees of its run, and how it writes state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from beluga_graph.execution.attempt import Attempt

__all__ = ["Context", "inside"]


class Context:
    """Given to a function whose first parameter is annotated `Context` or named `ctx`."""

    __slots__ = ("_attempt",)

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._attempt.run.run_id

    @property
    def node(self) -> str:
        """Path of the node."""
        return self._attempt.token.node

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1; a crash does not count, a resumed failure goes on counting."""
        return self._attempt.token.attempt

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of this visit, also after a crash; give it to what must happen once."""
        return f"{self._attempt.run.run_id}:{self._attempt.token.name}"

    @property
    def input(self) -> Any:
        """The run's input, decoded afresh."""
        return self._attempt.decode(self._attempt.run.input)

    @property
    def context(self) -> Any:
        """The plain data given with the run as `context=`; an empty dict if none was.

        What the `input_filter` of a handoff put into its `context` is seen here by the target and those after it.
        """
        return self._attempt.context

    @property
    def deps(self) -> Any:
        """The live resources given to the engine as `deps=`; never stored."""
        return self._attempt.deps

    @property
    def state(self) -> Any:
        """The graph's state as this node sees it, its own updates included: one attribute a field.

        A field is decoded when it is first read. An `append` field is a list that cannot be changed; a copy of it
        can. Its items are decoded once while the run stays in this process. An attempt has its own copy of a dict or
        list that it takes out of it; of models that are not frozen, of all of them when it reads the field. Writing
        goes through `update`.

        The whole may be returned, published or put into a value: it is stored as an instance of the state's model.
        """
        return self._attempt.view

    def update(self, **fields: Any) -> None:
        """Update fields of the state, each through its reducer; a field without a reducer is set.

        Updates of one field are applied in the order in which they were made. A list or tuple adds its items to an
        `append` field, also one that was read from the state. Updates are committed with the node, and dropped with
        a failed attempt. Raises `StateError` for a field that is not there or a value that the field's type
        refuses.
        """
        self._attempt.state.update(fields)

    def emit_text(self, text: str) -> None:
        """Show a piece of text to those who watch the run now. The whole is stored with the node's end."""
        self._attempt.emit_text(text)

    def publish(self, topic: str, data: Any = None) -> None:
        """Publish an event with this node's step, to the engine's `bus`, exactly once however often it crashes.

        It is on disk in the commit of the step, and dropped with a failed attempt. Its correlation id is the run's
        id, its causation id the node's idempotency key. Of an engine without a bus it stays in the outbox for one
        that has it. Raises `BadTopic`, and `NotData` for what cannot be stored.
        """
        self._attempt.publish(topic, data)

    def __repr__(self) -> str:
        return f"<context of {self.idempotency_key}>"


def inside(ctx: Context) -> Attempt:
    """Return the attempt behind a context: for the bodies that flows of this package are made of."""
    return ctx._attempt  # noqa: SLF001 - this is the one door
