"""The workflow that keeps one session of a flow: a conversation, and the run that has it now.

It runs in the sandbox of the SDK, like `run_workflow`. It does not know what a message is: the run's last activity
computes the session that follows, and the run's workflow sends it here.
"""

from __future__ import annotations

from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from beluga_graph.kernel.run_session import RunSession
    from beluga_graph.temporal.workflow.inputs import unpack_input
    from beluga_graph.temporal.workflow.pieces import Piece
    from beluga_graph.temporal.workflow.wire import (
        FORMAT,
        GIVE_SESSION,
        PAYLOAD_BYTES,
        SESSION_HELD,
        SESSION_TOO_LARGE,
        SESSION_WORKFLOW,
        STATE,
        TAKE_SESSION,
        pack,
        unpack,
    )

__all__ = ["SessionWorkflow"]


@workflow.defn(name=SESSION_WORKFLOW)
class SessionWorkflow:
    """One session. It is open for ever: to delete a session, terminate its workflow."""

    @workflow.init
    def __init__(self, packed: bytes) -> None:
        given = unpack_input(packed, is_final=True)
        self._continue_events: int = given["continue_events"]
        self._session = RunSession(*given["session"])
        self._pieces = [Piece(*piece) for piece in given["pieces"]]
        self._taken_ms: int = given["taken_ms"]
        self._gives = 0  # within this execution

    @workflow.update(name=TAKE_SESSION)
    def on_take(self, packed: bytes) -> bytes:
        """Let a run have the session; return it with its pieces. The run that has it gets the same answer again."""
        self._session = self._session._replace(run=unpack(packed)["run"])
        self._taken_ms = workflow.time_ns() // 1_000_000
        return pack({"session": self._session, "pieces": self._pieces, "taken_ms": self._taken_ms})

    @on_take.validator
    def check_take(self, packed: bytes) -> None:
        """Refuse a second run. The update is not recorded then.

        A client that has found that the other run has ended, or never began, names that run: `instead_of`, and the
        time when that run took the session.
        """
        given = unpack(packed)
        holder, held = self._session.run, (self._session.run, self._taken_ms)
        if holder not in ("", given["run"]) and held != given["instead_of"]:
            for_ms = workflow.time_ns() // 1_000_000 - self._taken_ms
            text = f"session {self._session.id!r} belongs to run {holder!r}"
            raise ApplicationError(text, holder, self._taken_ms, for_ms, type=SESSION_HELD, non_retryable=True)
        size = self._size()
        if size > PAYLOAD_BYTES:
            text = f"session {self._session.id!r} has {size:,} bytes"
            raise ApplicationError(text, size, type=SESSION_TOO_LARGE, non_retryable=True)

    @workflow.signal(name=GIVE_SESSION)
    def on_give(self, packed: bytes) -> None:
        """Take the session back from a run, with the messages that are new. Ignores a run that does not have it."""
        given = unpack(packed)
        if given["run"] != self._session.run:
            return
        self._session = RunSession(*given["session"])
        self._pieces[given["keep"] :] = [Piece(*piece) for piece in given["pieces"]]
        self._gives += 1

    @workflow.query(name=STATE)
    def state(self) -> bytes:
        """Return the session without its pieces."""
        return pack({"session": self._session, "taken_ms": self._taken_ms})

    @workflow.run
    async def run(self, packed: bytes) -> None:  # noqa: ARG002 - `__init__` has read it
        """Keep the session, in one execution after another."""
        await workflow.wait_condition(self._should_continue)
        await workflow.wait_condition(workflow.all_handlers_finished)
        workflow.continue_as_new(pack(self._state()))

    def _should_continue(self) -> bool:
        info = workflow.info()
        is_long = info.get_current_history_length() > self._continue_events or info.is_continue_as_new_suggested()
        return is_long and self._gives > 0 and self._size() <= PAYLOAD_BYTES

    def _size(self) -> int:
        return len(pack(self._state()))

    def _state(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "continue_events": self._continue_events,
            "session": self._session,
            "pieces": self._pieces,
            "taken_ms": self._taken_ms,
        }
