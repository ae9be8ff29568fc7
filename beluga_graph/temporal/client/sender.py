"""The sender: sends signals and answers to runs on the server, and checks them first as far as the client can."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any

from beluga_graph.codec.registry import Registry
from beluga_graph.codec.values import Codec
from beluga_graph.errors import RunConflict
from beluga_graph.execution.approval import Answer, check_modified_value, why_not_pending
from beluga_graph.execution.signal_checks import check_payload, check_signal_name
from beluga_graph.inspection.flow_registry import FlowRegistry
from beluga_graph.kernel.rules import answer_signal, is_answer
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.types import Value
from beluga_graph.plan.plan import Plan
from beluga_graph.temporal.claims.claims import CachedClaims
from beluga_graph.temporal.client.temporary_workers import TemporaryWorkers
from beluga_graph.temporal.connection.new_execution import Encoder
from beluga_graph.temporal.connection.workflow_client import PATIENCE, ServerRun, WorkflowClient
from beluga_graph.temporal.workflow.wire import STATE

__all__ = ["Sender"]

_TEMPORARY_PATIENCE = timedelta(seconds=2.5)  # after 2 s without an answer of the run's own workers
_WHY_CLOSED = "its workflow has closed, and accepts no signal; resume a failed run first"


class Sender:
    """Sends to runs. `decode` returns a value of a run, and `fetch` reads large values ahead."""

    def __init__(
        self,
        workflows: WorkflowClient,
        flows: FlowRegistry,
        claims: CachedClaims | None,
        temporary_workers: TemporaryWorkers,
        *,
        decode: Callable[[Plan, Value | None], Any],
        fetch: Callable[[Value | None], Awaitable[None]],
    ) -> None:
        self._workflows, self._flows, self._claims = workflows, flows, claims
        self._temporary_workers = temporary_workers
        self._decode, self._fetch = decode, fetch

    async def signal(self, run_id: str, name: str, payload: Any) -> None:
        """Send a signal; see `TemporalEngine.signal`."""
        check_signal_name(run_id, name)
        known = await self._workflows.describe(run_id)
        if not known.is_open:
            raise RunConflict(run_id, f"it is {known.status}: {_WHY_CLOSED}")
        plan = self._flows.find(known.flow)
        if plan is not None:
            check_payload(plan, run_id, name, payload)
        await self._workflows.send(run_id, name, await self._encode(plan, payload))

    async def answer(self, run_id: str, question_id: str, answer: Answer) -> None:
        """Answer a pending question; see `TemporalEngine.answer`."""
        known = await self._workflows.describe(run_id)
        if not known.is_open:
            raise RunConflict(run_id, why_not_pending(known.status, question_id, [], is_answered=False))
        async with self._temporary_workers.ensure_answers(known) as is_temporary:
            within = _TEMPORARY_PATIENCE if is_temporary else PATIENCE
            state = await self._workflows.query(run_id, STATE, within=within)
            await self._answer_open(known, Snapshot.from_plain(state["run"]), question_id, answer)

    async def _answer_open(self, known: ServerRun, run: Snapshot, question_id: str, answer: Answer) -> None:
        run_id, plan = known.run_id, self._flows.find(known.flow)
        token = run.tokens.get(question_id)
        if token is None or answer_signal(question_id) not in run.waits:
            pending = [name for signal, tokens in run.waits.items() if is_answer(signal) for name in tokens]
            raise RunConflict(run_id, why_not_pending(known.status, question_id, pending, is_answered=False))
        if plan is not None and answer.decision == "modify":
            await self._fetch(token.value)
            check_modified_value(plan, run_id, token.node, partial(self._decode, plan, token.value), answer.value)
        await self._workflows.answer(run_id, question_id, await self._encode(plan, answer.to_payload()))

    async def _encode(self, plan: Plan | None, value: Any) -> bytes:
        """Return the encoded form of a value. A large one goes to the claims."""
        encode = plan.encode if plan is not None else Codec(Registry()).encode
        encoder = Encoder(encode, has_claims=self._claims is not None)
        encoded = encoder.encode(value)
        if self._claims is not None:
            await self._claims.put_all(encoder.large)
        return encoded
