"""The activity that computes the session after a run: the conversation goes on with the messages of the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from beluga_graph.codec.references import find_references
from beluga_graph.errors import BelugaError
from beluga_graph.execution.sessions import end_session
from beluga_graph.execution.stored_values import StoredValues
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.plan.plan import Plan
from beluga_graph.temporal.activities.attempt import find_plan
from beluga_graph.temporal.activities.progress import Progress
from beluga_graph.temporal.claims.backends import ClaimsFailed
from beluga_graph.temporal.claims.call_values import CallValues
from beluga_graph.temporal.claims.claims import CachedClaims, ClaimNotFound
from beluga_graph.temporal.workflow.wire import END_SESSION, pack, unpack

__all__ = ["SessionActivity"]


class SessionActivity:
    """Computes sessions of the flows that one worker serves."""

    def __init__(self, plans: Mapping[str, Plan], claims: CachedClaims | None) -> None:
        self._plans = plans  # by fingerprint
        self._claims = claims

    @activity.defn(name=END_SESSION)
    async def end(self, packed: bytes) -> bytes:
        """Return the session after the end of a run, packed; see `wire`. Large values are in the claims then."""
        given, progress = unpack(packed), Progress()
        try:
            async with progress.send_heartbeats():
                return await self._end(given, find_plan(self._plans, given))
        except (ClaimNotFound, ClaimsFailed) as error:
            raise progress.refuse(error) from error

    async def _end(self, given: Mapping[str, Any], plan: Plan) -> bytes:
        if self._claims is not None:
            await self._claims.get_all(find_references((given["run"], given["items"], given["session"])))
        values = CallValues(self._claims, given["items"], given["session"])
        run = Snapshot.from_plain(given["run"])
        try:
            update = end_session(run, StoredValues(plan.codec, values), plan.codec.encode)
            assert update is not None, "only a run that has a session gives it back"
            keep, pieces, large = values.extend_session(update.first, update.items)
        except (ClaimNotFound, ClaimsFailed):
            raise
        except BelugaError as error:  # a new attempt would raise the same
            raise ApplicationError(str(error), type=type(error).__name__, non_retryable=True) from error
        if self._claims is not None and large:
            await self._claims.put_all(large)
        return pack({"run": run.run_id, "session": update.session, "keep": keep, "pieces": pieces})
