"""The input of a run's workflow: its snapshot, options and values, encoded for the wire."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

from beluga_graph.codec.references import to_reference
from beluga_graph.kernel.snapshot import RUN, Snapshot
from beluga_graph.kernel.transition import advance
from beluga_graph.kernel.triggers import CancelRequested, Trigger
from beluga_graph.kernel.view import view_of
from beluga_graph.plan.plan import Plan
from beluga_graph.policy import Limits
from beluga_graph.temporal.workflow.live_options import LiveOptions
from beluga_graph.temporal.workflow.pieces import ItemPieces
from beluga_graph.temporal.workflow.run_options import RunOptions
from beluga_graph.temporal.workflow.wire import FORMAT, pack, pack_call, plain_trigger

__all__ = [
    "Encoder",
    "NewExecution",
    "TemporalDurability",
    "measure_first_calls",
    "new_snapshot",
    "options_for",
    "pack_input",
    "queue_of",
]

TemporalDurability: TypeAlias = Literal["commit", "batch"]
"""The durabilities of a local engine that a server has: it stores every step."""

_AHEAD_MS = 50  # the longest that a step waits for its commit, as on the local engine
_BATCH = 100


class NewExecution(NamedTuple):
    """An execution of a run's workflow that is to be started."""

    plan: Plan
    run: Snapshot
    triggers: Sequence[Trigger]
    """What the workflow decides first."""
    items: Any = ()
    """The items of append fields, as `ItemPieces.to_plain` returns them."""
    inbox: Mapping[str, Sequence[bytes]] = MappingProxyType({})
    """Unread signals by name."""
    session: Any = ()
    """The pieces of the conversation that the run continues."""
    begin_by: int = 0
    """When it must be on the server, in milliseconds since the epoch, so that it keeps its session; 0 for any time."""

    def queue(self, task_queue: str) -> str:
        """Return the task queue of the execution, for an engine of a task queue.

        A run that only ends needs no code of its flow, which may be gone: every worker of the engine walks it.
        """
        return task_queue if self.only_ends else queue_of(self.plan, task_queue)

    @property
    def only_ends(self) -> bool:
        """Whether the run makes no more attempts."""
        return any(isinstance(trigger, CancelRequested) for trigger in self.triggers)


class Encoder:
    """Encodes the values of one request. Large ones are replaced by references where there are claims."""

    def __init__(self, encode: Callable[[Any], bytes], *, has_claims: bool) -> None:
        self._encode, self._has_claims = encode, has_claims
        self.large: list[bytes] = []
        """The large values, which must be stored before the request is sent."""

    def encode(self, value: Any) -> bytes:
        """Return an encoded value, or the reference to it. Raises `NotData`, `LimitReached`."""
        encoded = self._encode(value)
        kept = to_reference(encoded) if self._has_claims else encoded
        if kept is not encoded:
            self.large.append(encoded)
        return kept


def queue_of(plan: Plan, task_queue: str) -> str:
    """Return the task queue of the runs of one version of a flow: only workers that have it take from there.

    Runs and attempts share it: the server then hands the attempts that a run begins to the worker that walks it, with
    the answer to the workflow task, and neither of them waits in a queue.
    """
    return f"{task_queue}/{plan.name}:{plan.fingerprint[:12]}"


def options_for(
    queue: str,
    engine_queue: str,
    durability: TemporalDurability,
    node_queues: Mapping[str, str],
    live: LiveOptions,
    *,
    announces: bool,
) -> RunOptions:
    """Return the options of a new execution."""
    is_batch = durability == "batch"
    return RunOptions(
        queue=queue,
        engine_queue=engine_queue,
        node_queues=node_queues,
        live=live,
        announces=announces,
        ahead_ms=_AHEAD_MS if is_batch else 0,
        batch=_BATCH if is_batch else 1,
    )


def new_snapshot(
    plan: Plan, encoder: Encoder, run_id: str, value: Any, context: Any, limits: Limits | None
) -> Snapshot:
    """Return the snapshot of a run that has not begun. Raises `NotData`, `LimitReached`."""
    return Snapshot(
        run_id=run_id,
        plan=plan.fingerprint,
        started_ms=time.time_ns() // 1_000_000,
        value=encoder.encode(value),
        context=encoder.encode(context) if context is not None else None,
        limits=limits.overrides() if limits is not None else None,
    )


def measure_first_calls(new: NewExecution) -> Iterator[tuple[str, int]]:
    """Yield the node and the size in bytes of each call that a new run makes first."""
    run, items = Snapshot.from_plain(new.run.to_plain()), ItemPieces(new.items)
    for trigger in new.triggers:
        run.apply(advance(new.plan.shape, run, trigger))
    for token in run.tokens.values():
        if token.state == RUN:
            view = view_of(run, token.name)
            yield token.node, len(pack_call(view, token.name, items.to_plain(view.places), new.session))


def pack_input(
    plan: Plan,
    run: Snapshot,
    triggers: Sequence[Trigger],
    options: RunOptions,
    *,
    items: Any = (),
    inbox: Mapping[str, Sequence[bytes]] | None = None,
    session: Any = (),
    previous: str = "",
    begin_by: int = 0,
) -> bytes:
    """Return the input of a run's workflow; see `wire`."""
    return pack(
        {
            "format": FORMAT,
            "shape": plan.shape.to_plain(),
            "run": run.to_plain(),
            "triggers": [plain_trigger(trigger) for trigger in triggers],
            "items": items,
            "inbox": inbox or {},
            "session": session,
            "options": options.to_plain(),
            "previous": previous,
            "begin_by": begin_by,
        }
    )
