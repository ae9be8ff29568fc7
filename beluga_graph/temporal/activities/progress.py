"""The progress of an activity. Each heartbeat carries it, so that the work of a lost worker is not repeated."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from contextvars import copy_context
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from beluga_graph.kernel.triggers import NodeFailed
from beluga_graph.temporal.activities.refusals import refuse
from beluga_graph.temporal.claims.backends import ClaimsFailed
from beluga_graph.temporal.claims.claims import ClaimNotFound
from beluga_graph.temporal.live.text import LiveText
from beluga_graph.temporal.workflow.wire import GIVE_CLAIMS, PAYLOAD_BYTES, TOO_LARGE, Reply, pack, unpack

__all__ = ["Progress"]

_ENOUGH_BYTES = 100_000  # an activity with as much ends, so that one more reply of any size still fits
_SHOWN_CHARS = 8 * 1024  # of live text in a heartbeat
_SHOWN_AFTER_S = 0.05  # text of a node that ends earlier needs no heartbeat: it comes with the step
_SHOWN_BESIDE_BYTES = 64 * 1024  # beside larger replies, a heartbeat carries no text
_HEARTBEATS_PER_TIMEOUT = 3  # one or two may be late or lost before the worker is taken for lost


class Progress:
    """The replies of one activity, over all the workers that have begun it.

    Attributes:
        replies: The replies so far, as plain data.
    """

    def __init__(self) -> None:
        info = activity.info()
        details = info.heartbeat_details
        saved: Mapping[str, Any] = unpack(details[0]) if details else {"replies": (), "since": 1}
        self.replies: list[dict[str, Any]] = list(saved["replies"])
        self._since: int = saved["since"]  # the number of the activity's try from which interruptions count
        self._refusals: int = saved.get("refusals", 0)  # in a row, by any workers
        self._try = info.attempt
        self._interval_s = (
            info.heartbeat_timeout.total_seconds() / _HEARTBEATS_PER_TIMEOUT if info.heartbeat_timeout else None
        )
        self._began = time.monotonic()
        self._size = 0
        self._text: LiveText | None = None  # of the attempt under way
        self._shows_soon: asyncio.TimerHandle | None = None
        self._context = copy_context()  # a thread of a node has another one, in which the SDK finds no activity

    @property
    def tries(self) -> int:
        """How often workers have begun the activity."""
        return self._try

    @property
    def interruptions(self) -> int:
        """How many workers were lost, or failed, since the last reply."""
        return self._try - self._since

    def add(self, reply: Reply) -> Reply:
        """Add a reply; return it, or the failure in its place if it is too large to cross."""
        plain = reply.to_plain()
        size = len(pack(plain))
        if size > PAYLOAD_BYTES:
            trigger = reply.trigger
            text = f"the result is {size:,} bytes; a worker can return {PAYLOAD_BYTES:,}: "
            text += GIVE_CLAIMS
            failure = NodeFailed(trigger.token, trigger.attempt, trigger.at, TOO_LARGE, text, retryable=False)
            reply = Reply(failure, ms=reply.ms)
            plain = reply.to_plain()
        self.replies.append(plain)
        self._size += size
        self._since = self._try
        self._refusals = 0
        self.send_heartbeat()
        return reply

    def send_heartbeat(self) -> None:
        """Send a heartbeat with the replies so far and the last text of the attempt under way."""
        details: dict[str, Any] = {"replies": self.replies, "since": self._since, "refusals": self._refusals}
        if self._text is not None and self._size <= _SHOWN_BESIDE_BYTES:
            details["live"] = self._text.tail(_SHOWN_CHARS)
        activity.heartbeat(pack(details))

    def show_text(self, text: LiveText) -> None:
        """Send a heartbeat with the text of an attempt soon. Call it for each change."""
        self._text = None if text.is_over else text
        if text.is_over:
            self._stop_showing()
        elif self._shows_soon is None and self._size <= _SHOWN_BESIDE_BYTES:
            loop = asyncio.get_running_loop()
            self._shows_soon = loop.call_later(_SHOWN_AFTER_S, self._show_now, context=self._context)

    def note_orderly_stop(self) -> None:
        """Report that the worker stops in good order: the next try counts no interruption."""
        self._since += 1
        self.send_heartbeat()

    def refuse(self, error: ClaimNotFound | ClaimsFailed) -> ApplicationError:
        """Return the error with which this worker leaves the activity to another one. It counts no interruption."""
        self._since += 1
        self._refusals += 1
        self.send_heartbeat()
        return refuse(error, self._refusals)

    def should_report(self, ahead_ms: int) -> bool:
        """Return whether to report now."""
        return (time.monotonic() - self._began) * 1000 >= ahead_ms or self._size >= _ENOUGH_BYTES

    @asynccontextmanager
    async def send_heartbeats(self) -> AsyncIterator[None]:
        """Send heartbeats during the block: a node may take longer than the heartbeat timeout."""
        task = asyncio.get_running_loop().create_task(self._repeat_heartbeat())
        try:
            yield
        finally:
            task.cancel()
            self._stop_showing()

    async def _repeat_heartbeat(self) -> None:
        while self._interval_s is not None:
            await asyncio.sleep(self._interval_s)
            self.send_heartbeat()

    def _show_now(self) -> None:
        self._shows_soon = None
        self.send_heartbeat()

    def _stop_showing(self) -> None:
        if self._shows_soon is not None:
            self._shows_soon.cancel()
            self._shows_soon = None
