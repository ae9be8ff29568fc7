"""`Run`: a handle on one run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from beluga_graph.codec import DamagedRecord
from beluga_graph.engine.followers import Followers, stored
from beluga_graph.errors import RunCancelled, RunError, RunFailed
from beluga_graph.events import Event, make_event
from beluga_graph.inspection.views import Outcome, RunStatus
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, FAILED
from beluga_graph.plan import Plan
from beluga_graph.runtime.active_run import ActiveRun
from beluga_graph.runtime.watcher import Gap, Watcher
from beluga_graph.storage.pace import Pace
from beluga_graph.storage.run_log import History, read_head

if TYPE_CHECKING:
    from beluga_graph.draw.render import Theme
    from beluga_graph.engine.engine import Engine

_ALL = 1 << 62  # the index behind all events of a step

__all__ = ["Run", "replay_then_follow"]


class Run:
    """A handle on a run. It stays valid after the run's end, and tells what is on disk."""

    __slots__ = ("_engine", "_seat", "id")

    def __init__(self, engine: Engine, seat: Followers) -> None:
        self._engine = engine
        self._seat = seat
        self.id = seat.run_id

    async def result(self, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - the face's word
        """Wait for the end and return the output.

        Raises `RunFailed`, `RunCancelled`, `LeaseLost`, or the store's error that stopped the run;
        `TimeoutError` after `timeout` seconds, which does not touch the run.
        """
        live = await self._ended(timeout)
        run = live.snapshot
        if run.status == COMPLETED:
            return live.decode(run.output)
        if run.status == CANCELLED:
            raise RunCancelled(self.id, "it was cancelled")
        if run.status == FAILED:
            failure = live.decode(run.error)
            raise RunFailed(self.id, failure.node, failure.attempts, failure) from live.cause
        raise RunError(self.id, "this engine stopped driving it before its end: resume it to go on")

    async def outcome(self, timeout: float | None = None) -> Outcome:  # noqa: ASYNC109 - the face's word
        """Wait for the end and tell how it was; a failure is told, not raised."""
        live = await self._ended(timeout)
        run = live.snapshot
        return Outcome(
            status=RunStatus(run.status),
            output=live.decode(run.output) if run.output is not None else None,
            failure=live.decode(run.error) if run.error is not None and run.status == FAILED else None,
            usage=dict(run.usage),
            steps=run.steps,
            reason=run.reason or None,
        )

    async def status(self) -> RunStatus:
        """Return the status that is on disk now."""
        return await self._engine.status(self.id)

    async def events(self, after: int = 0) -> AsyncGenerator[Event, None]:
        """Yield the stored events of steps after `after`, then live ones, until the run ends.

        A reader that lags far behind loses live events, never stored ones; a `lagged` event says where.
        """
        watch = Watcher()
        plan, history = self._engine.watched(self._seat, watch)
        try:
            async for event in replay_then_follow(plan, history, watch, after):
                yield event
        finally:
            self._seat.detach(watch)

    async def svg(self, *, depth: int | None = None, theme: Theme = "auto") -> str:
        """Draw the run as an SVG document, as `Engine.draw` does, as of its last committed step."""
        return await self._engine.draw(self.id, depth=depth, theme=theme)

    async def signal(self, name: str, payload: Any = None) -> None:
        """Send a signal; on disk when this returns."""
        await self._engine.signal(self.id, name, payload)

    async def cancel(self) -> RunStatus:
        """End the run for good; return the status that won, which a finished run keeps."""
        return await self._engine.cancel(self.id)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002 - IPython's
        """Show the run in a notebook: as a drawing of its last committed step, and as text where there are none."""
        from beluga_graph.inspection.notebook import run_bundle  # noqa: PLC0415 - loaded when one looks

        return run_bundle(self._engine.store, self.id, self._known)

    async def _ended(self, seconds: float | None) -> ActiveRun:
        async with asyncio.timeout(seconds):
            live = await self._engine.ended(self._seat)
        if live.error is not None:
            raise live.error
        return live

    @property
    def _known(self) -> str:
        """The status that the run has here, whatever the store says."""
        live = self._seat.live
        return live.snapshot.status if live is not None else RunStatus.waiting

    def __repr__(self) -> str:
        return f"<run {self.id!r}: {self._known}>"


async def replay_then_follow(plan: Plan, history: History, watch: Watcher, after: int) -> AsyncGenerator[Event, None]:
    """Yield what is stored, then what the watch brings, each stored event once and in order."""
    seen = (after, _ALL)  # step and index of the last stored event that was yielded
    shown: Event | Gap | None = Gap(watch.since)
    while shown is not None:
        if isinstance(shown, Gap):
            if shown.lost:
                yield make_event(type="lagged", run_id=history.run_id, output=shown.lost)
            async for event in _read(plan, history, watch, seen, shown.until):
                yield event
            seen = max(seen, (shown.until, _ALL))
        elif shown.seq is None:
            yield shown
        elif (place := (shown.seq, shown.index or 0)) > seen:
            seen = place
            yield shown
        shown = await watch.get()


async def _read(
    plan: Plan, history: History, watch: Watcher, seen: tuple[int, int], until: int
) -> AsyncGenerator[Event, None]:
    """Yield the stored events behind one that was seen. Raises `RunNotFound` if the run was deleted meanwhile."""
    seq, index = seen
    if seq >= until and index == _ALL:
        return
    if watch.live is not None:  # it may go on with another graph than when the watch began
        plan, history = watch.live.plan, watch.live.history
    pace = Pace()
    try:
        for event in stored(plan, history, seq if index == _ALL else seq - 1, until):
            if (event.seq or 0, event.index or 0) > seen:
                yield event
            await pace.turn()
    except DamagedRecord:
        read_head(history.store, history.run_id)
        raise
    read_head(history.store, history.run_id)
