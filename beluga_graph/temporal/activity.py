"""The activity: attempts of one call after another, each made by the executor of every driver."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from beluga_graph.execution.attempt import Attempt, ExecutionResources
from beluga_graph.execution.executor import run_attempt
from beluga_graph.execution.stored_values import StoredValues
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.triggers import NodeFailed, NodeFinished
from beluga_graph.plan.plan import Plan
from beluga_graph.temporal.ahead import AheadWalk
from beluga_graph.temporal.values import CallValues, LargeValues
from beluga_graph.temporal.wire import ACTIVITY, FORMAT, PAYLOAD_BYTES, Reply, pack, unpack

__all__ = ["AttemptActivity"]

_ENOUGH_BYTES = PAYLOAD_BYTES // 2  # an activity reports at the latest when its replies have grown to this
_BEATS = 3  # heartbeats within the time after which a silent worker is taken for lost


class AttemptActivity:
    """Makes the attempts of the flows that one worker serves."""

    def __init__(self, plans: Mapping[str, Plan], claims: LargeValues | None, resources: ExecutionResources) -> None:
        self._plans = plans  # by fingerprint
        self._claims = claims
        self._resources = resources

    @activity.defn(name=ACTIVITY)
    async def attempt(self, packed: bytes) -> bytes:
        """Make the attempts of a call, or as many as fit into its time. Returns the packed replies."""
        given = unpack(packed)
        plan = self._plan(given)
        replies = _Replies()
        async with _heartbeats(replies):
            if len(given["calls"]) == 1 and given["ahead_ms"]:
                await self._go_ahead(plan, given["calls"][0], replies, given["ahead_ms"])
            else:
                await self._make_batch(plan, given["calls"], replies, given["ahead_ms"])
        return pack({"format": FORMAT, "replies": replies.plain})

    def _plan(self, given: Mapping[str, Any]) -> Plan:
        plan = self._plans.get(given["plan"])
        if given["format"] != FORMAT or plan is None:
            known = ", ".join(sorted({plan.name for plan in self._plans.values()}))
            text = f"this worker has no version {given['plan'][:12]} of flow {given['flow']!r}; it has {known}"
            raise ApplicationError(text, type="GraphChanged")
        return plan

    async def _make_batch(self, plan: Plan, calls: Sequence[Any], replies: _Replies, ahead_ms: int) -> None:
        """Make the attempts one after another until the time is up, or one fails."""
        for call in calls[len(replies.plain) :]:
            if replies.plain and replies.are_enough(ahead_ms):
                return
            run, values = Snapshot.from_plain(call["run"]), self._values(call)
            await self._make(plan, run, call["token"], values, replies)

    async def _go_ahead(self, plan: Plan, call: Mapping[str, Any], replies: _Replies, ahead_ms: int) -> None:
        """Make the attempt of a lone token, then those after it, until the time is up or the walk must stop."""
        run, values = Snapshot.from_plain(call["run"]), self._values(call)
        walk = AheadWalk(plan.shape, run, self._resources.clock)
        name: str | None = call["token"]
        for plain in replies.plain:  # an earlier worker made these before it was lost
            name = self._replay(walk, values, plain)
        while name is not None:
            reply = await self._make(plan, run, name, values, replies)
            if type(reply.trigger) is not NodeFinished or replies.are_enough(ahead_ms):
                return
            token = walk.next_after(reply.trigger)
            name = token.name if token is not None else None

    def _replay(self, walk: AheadWalk, values: CallValues, plain: Mapping[str, Any]) -> str | None:
        reply = Reply.from_plain(plain, self._resources.clock.now_ms())
        for piece in reply.pieces:
            values.add_piece(piece)
        token = walk.next_after(reply.trigger) if type(reply.trigger) is NodeFinished else None
        return token.name if token is not None else None

    def _values(self, call: Mapping[str, Any]) -> CallValues:
        return CallValues(self._claims, call["items"], call["session"])

    async def _make(self, plan: Plan, run: Snapshot, name: str, values: CallValues, replies: _Replies) -> Reply:
        began = time.monotonic()
        token = run.tokens[name]
        made = await run_attempt(Attempt(plan, run, token, StoredValues(plan.codec, values), self._resources, None))
        values.add_blobs(made.blobs)
        large = dict(made.blobs)
        pieces = []
        for new in made.items:
            piece, more = values.add_items(new)
            pieces.append(piece)
            large.update(more)
        if self._claims is not None and large:
            await _store(self._claims, large.items())
        reply = Reply(made.trigger, tuple(pieces), made.messages, round((time.monotonic() - began) * 1000))
        return replies.add(reply)


class _Replies:
    """The replies so far. They go along with each heartbeat, so that the work of a lost worker is not repeated."""

    def __init__(self) -> None:
        saved = activity.info().heartbeat_details
        self.plain: list[dict[str, Any]] = list(unpack(saved[0])) if saved else []
        self._began = time.monotonic()
        self._size = 0

    def add(self, reply: Reply) -> Reply:
        """Add a reply; return it, or the failure in its place if it is too large to cross."""
        plain = reply.to_plain()
        size = len(pack(plain))
        if size > PAYLOAD_BYTES:
            trigger = reply.trigger
            text = f"the result is {size:,} bytes; a worker can return {PAYLOAD_BYTES:,}: "
            text += "give the engine and its workers claims=, a place for large values"
            failure = NodeFailed(trigger.token, trigger.attempt, trigger.at, "TooLarge", text, retryable=False)
            reply = Reply(failure, ms=reply.ms)
            plain = reply.to_plain()
        self.plain.append(plain)
        self._size += size
        self.beat()
        return reply

    def beat(self) -> None:
        """Report that the worker lives, with the replies so far."""
        activity.heartbeat(pack(self.plain))

    def are_enough(self, ahead_ms: int) -> bool:
        """Return whether to report now."""
        return (time.monotonic() - self._began) * 1000 >= ahead_ms or self._size >= _ENOUGH_BYTES


@asynccontextmanager
async def _heartbeats(replies: _Replies) -> AsyncIterator[None]:
    """Beat while attempts are made: a node may take long."""
    timeout = activity.info().heartbeat_timeout

    async def beat() -> None:
        while timeout:
            await asyncio.sleep(timeout.total_seconds() / _BEATS)
            replies.beat()

    task = asyncio.get_running_loop().create_task(beat())
    try:
        yield
    finally:
        task.cancel()


async def _store(claims: LargeValues, large: Iterable[tuple[bytes, bytes]]) -> None:
    """Store large values before anything refers to them."""
    for reference, data in large:
        await asyncio.to_thread(claims.put, reference[1:], data)
