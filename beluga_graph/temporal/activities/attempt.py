"""The activity that makes attempts, one after another, with the same executor as the local engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from temporalio import activity
from temporalio.exceptions import ApplicationError

from beluga_graph.codec.references import find_references
from beluga_graph.errors import BelugaError
from beluga_graph.execution.attempt import Attempt, ExecutionResources
from beluga_graph.execution.executor import run_attempt
from beluga_graph.execution.stored_values import StoredValues
from beluga_graph.kernel.snapshot import Snapshot, Token
from beluga_graph.kernel.triggers import NodeFailed, NodeFinished
from beluga_graph.plan.plan import Plan
from beluga_graph.temporal.activities.ahead import AheadWalk
from beluga_graph.temporal.activities.progress import Progress
from beluga_graph.temporal.claims.backends import ClaimsFailed
from beluga_graph.temporal.claims.call_values import CallValues
from beluga_graph.temporal.claims.claims import CachedClaims, ClaimNotFound
from beluga_graph.temporal.live.sender import LiveSenders
from beluga_graph.temporal.live.text import LiveText
from beluga_graph.temporal.workflow.inputs import require_format
from beluga_graph.temporal.workflow.live_options import LiveOptions
from beluga_graph.temporal.workflow.wire import ACTIVITY, FORMAT, GRAPH_CHANGED, Reply, pack, unpack

__all__ = ["AttemptActivity", "find_plan"]


class AttemptActivity:
    """Makes the attempts of the flows that one worker serves."""

    def __init__(self, plans: Mapping[str, Plan], claims: CachedClaims | None, resources: ExecutionResources) -> None:
        self._plans = plans  # by fingerprint
        self._claims = claims
        self._resources = resources
        self._senders = LiveSenders()

    async def close(self) -> None:
        """Close the connections to the processes that follow runs."""
        await self._senders.close()

    @activity.defn(name=ACTIVITY)
    async def attempt(self, packed: bytes) -> bytes:
        """Make the attempts of a call, or as many as fit into its time. Returns the packed replies.

        If this worker cannot read the large values that the attempts need, another one may: see `refusals`. Another
        error of the activity itself counts like a lost worker: the server tries the activity again, up to
        `max_interruptions` times.
        """
        given = unpack(packed)
        progress = Progress()
        try:
            async with progress.send_heartbeats():
                await self._make_all(given, progress)
        except asyncio.CancelledError:
            if _is_unwanted():
                return b""  # an error would go to the log of the worker, with a traceback
            if activity.is_worker_shutdown():
                progress.note_orderly_stop()
            raise
        except _ReadFailed as failed:
            raise progress.refuse(failed.error) from failed.error
        except Exception as error:
            is_final = isinstance(error, BelugaError) or progress.interruptions >= given["max_interruptions"]
            kind, text = type(error).__name__, str(error)
            if isinstance(error, ApplicationError):
                kind, text = error.type or kind, error.message
            raise ApplicationError(text, type=kind, non_retryable=is_final) from error
        return pack({"format": FORMAT, "replies": progress.replies})

    async def _make_all(self, given: Mapping[str, Any], progress: Progress) -> None:
        plan, live = find_plan(self._plans, given), LiveOptions(*given["live"])
        call = _Call(plan, given["max_interruptions"], given["ahead_ms"], progress, live)
        if self._claims is not None:
            try:  # ahead, so that decoding does not block the loop
                await self._claims.get_all(find_references((given["calls"], progress.replies)))
            except (ClaimNotFound, ClaimsFailed) as error:
                raise _ReadFailed(error) from error
        if given["is_whole"]:
            await self._go_ahead(call, given["calls"][0])
        else:
            await self._make_batch(call, given["calls"])

    async def _make_batch(self, call: _Call, views: Sequence[Any]) -> None:
        """Make the attempts one after another until the time is up, or one fails."""
        for view in views[len(call.progress.replies) :]:
            if call.progress.replies and call.progress.should_report(call.ahead_ms):
                return
            reply = await self._make(call, Snapshot.from_plain(view["run"]), view["token"], self._values(view))
            if type(reply.trigger) is NodeFailed:
                return  # the run may fail with it: begin no more

    async def _go_ahead(self, call: _Call, view: Mapping[str, Any]) -> None:
        """Make the attempt of a lone token, then those after it, until the time is up or the walk must stop."""
        run, values = Snapshot.from_plain(view["run"]), self._values(view)
        walk = AheadWalk(call.plan.shape, run, self._resources.clock)
        name: str | None = view["token"]
        for plain in call.progress.replies:  # an earlier worker made these before it was lost
            name = self._replay(walk, values, plain)
        while name is not None:
            reply = await self._make(call, run, name, values)
            if type(reply.trigger) is not NodeFinished or call.progress.should_report(call.ahead_ms):
                return
            token = walk.next_after(reply.trigger)
            name = token.name if token is not None else None

    def _replay(self, walk: AheadWalk, values: CallValues, plain: Mapping[str, Any]) -> str | None:
        reply = Reply.from_plain(plain, self._resources.clock.now_ms())
        for piece in reply.pieces:
            values.add_piece(piece)
        token = walk.next_after(reply.trigger) if type(reply.trigger) is NodeFinished else None
        return token.name if token is not None else None

    def _values(self, view: Mapping[str, Any]) -> CallValues:
        return CallValues(self._claims, view["items"], view["session"])

    async def _make(self, call: _Call, run: Snapshot, name: str, values: CallValues) -> Reply:
        """Make an attempt, unless too many workers were lost with it, and store its large values."""
        began, token, plan = time.monotonic(), run.tokens[name], call.plan
        if call.progress.interruptions > call.max_interruptions:
            text = f"{call.progress.interruptions} workers were lost while the node ran; "
            text += f"max_interruptions is {call.max_interruptions}"
            now_ms = self._resources.clock.now_ms()
            failed = NodeFailed(name, token.attempt, now_ms, "Interrupted", text, retryable=False)
            return call.progress.add(Reply(failed))
        live = self._begin_text(call, run, token)
        stored = StoredValues(plan.codec, values)
        try:
            made = await run_attempt(Attempt(plan, run, token, stored, self._resources, live.add))
        finally:
            live.end()
        if values.read_error is not None and type(made.trigger) is NodeFailed:
            raise _ReadFailed(values.read_error)
        values.add_blobs(made.blobs)
        large = [data for _, data in made.blobs]
        pieces = []
        for new in made.items:
            piece, more = values.add_items(new)
            pieces.append(piece)
            large += more
        if self._claims is not None and large:
            await self._claims.put_all(large)  # before anything refers to them
        ms = round((time.monotonic() - began) * 1000)
        return call.progress.add(Reply(made.trigger, tuple(pieces), made.messages, ms))

    def _begin_text(self, call: _Call, run: Snapshot, token: Token) -> LiveText:
        """Return the collector of an attempt's text, which is sent to the followers of the run."""
        live, progress = call.live, call.progress
        sender = self._senders.get(live.address, live.secret) if live.address else None

        def on_changed(text: LiveText) -> None:
            if sender is not None:
                sender.on_changed(text)
            if live.in_heartbeats and (sender is None or not sender.is_ready or text.is_over):
                progress.show_text(text)

        return LiveText(run.run_id, token, progress.tries, on_changed)


def _is_unwanted() -> bool:
    """Return whether the run has cancelled the activity, or has ended meanwhile."""
    details = activity.cancellation_details()
    return details is not None and (details.cancel_requested or details.not_found)


def find_plan(plans: Mapping[str, Plan], given: Mapping[str, Any]) -> Plan:
    """Return the plan that an input of an activity names.

    Raises an `ApplicationError` that the server tries again if this worker does not have it, or does not know the
    format of the input: another one may.
    """
    require_format(given, is_final=False)
    plan = plans.get(given["plan"])
    if plan is None:
        known = ", ".join(sorted({plan.name for plan in plans.values()}))
        text = f"this worker has no version {given['plan'][:12]} of flow {given['flow']!r}; it has {known}"
        raise ApplicationError(text, type=GRAPH_CHANGED)
    return plan


class _ReadFailed(Exception):
    """This worker cannot read a large value that an attempt needs."""

    def __init__(self, error: ClaimNotFound | ClaimsFailed) -> None:
        super().__init__(error)
        self.error = error


class _Call(NamedTuple):
    """What all attempts of one call of the activity share."""

    plan: Plan
    max_interruptions: int
    ahead_ms: int
    progress: Progress
    live: LiveOptions
