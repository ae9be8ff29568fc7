"""`Run`: a handle on one run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, Protocol

from beluga_graph.codec.errors import DamagedRecord
from beluga_graph.engine.followers import Followers
from beluga_graph.events import Event, make_event
from beluga_graph.inspection.reading import read_events
from beluga_graph.inspection.results import outcome_of, result_of
from beluga_graph.inspection.views import Outcome, RunStatus
from beluga_graph.plan.plan import Plan
from beluga_graph.runtime.active_run import ActiveRun
from beluga_graph.runtime.watcher import Gap, Watcher
from beluga_graph.storage.loading import RunReader, read_run_record
from beluga_graph.storage.pace import Pace
from stores.base import Store

if TYPE_CHECKING:
    from beluga_graph.draw.render import Theme

_ALL = 1 << 62  # the index behind all events of a step

__all__ = ["Run", "RunBackend", "replay_then_follow"]


class RunBackend(Protocol):
    """The verbs that a handle needs of the engine it comes from."""

    @property
    def store(self) -> Store:
        """The store that holds the run."""

    async def status(self, run_id: str) -> RunStatus:
        """Return the run's status on disk."""

    async def signal(self, run_id: str, name: str, payload: Any = None) -> None:
        """Send a signal to the run."""

    async def cancel(self, run_id: str) -> RunStatus:
        """End the run for good; return the status that won."""

    async def draw(self, run_id: str, *, depth: int | None = None, theme: Theme = "auto") -> str:
        """Draw the run as an SVG document."""

    async def wait_ended(self, followers: Followers) -> ActiveRun:
        """Wait for the run's end, here or in another process; return the run as it is then."""

    def watch(self, followers: Followers, watcher: Watcher) -> tuple[Plan, RunReader]:
        """Show a watcher the run's events from now on; return the plan and the reader of earlier steps."""


class Run:
    """A handle on a run, from `Engine.start`, `resume`, `fork` or `recover`.

    It stays valid after the run's end, and reports the state on disk.

    Example:
        run = await engine.start(flow, "Ada")
        async for event in run.events():
            print(event.type, event.node)
        print(await run.result())

    Attributes:
        id: The run's id.
    """

    __slots__ = ("_backend", "_followers", "id")

    def __init__(self, backend: RunBackend, followers: Followers) -> None:
        self._backend = backend
        self._followers = followers
        self.id = followers.run_id

    async def result(self, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - a public name
        """Wait for the end and return the output.

        Raises `RunFailed`, `RunCancelled`, `LeaseLost`, or the store's error that stopped the run;
        `TimeoutError` after `timeout` seconds, which does not touch the run.
        """
        active = await self._ended(timeout)
        return result_of(active.snapshot, active.decode, active.cause)

    async def outcome(self, timeout: float | None = None) -> Outcome:  # noqa: ASYNC109 - a public name
        """Wait for the end and return how the run ended; a failure is returned, not raised.

        Raises `LeaseLost`, or the store's error that stopped the run; `TimeoutError` after `timeout` seconds, which
        does not touch the run.
        """
        active = await self._ended(timeout)
        return outcome_of(active.snapshot, active.decode)

    async def status(self) -> RunStatus:
        """Return the status that is on disk now."""
        return await self._backend.status(self.id)

    async def events(self, after: int = 0) -> AsyncGenerator[Event, None]:
        """Yield the stored events of steps after `after`, then live ones, until the run ends.

        A reader that lags far behind loses live events, never stored ones; a `lagged` event marks the loss.
        """
        watcher = Watcher()
        plan, reader = self._backend.watch(self._followers, watcher)
        try:
            async for event in replay_then_follow(plan, reader, watcher, after):
                yield event
        finally:
            self._followers.detach(watcher)

    async def svg(self, *, depth: int | None = None, theme: Theme = "auto") -> str:
        """Draw the run as an SVG document, as `Engine.draw` does, as of its last committed step."""
        return await self._backend.draw(self.id, depth=depth, theme=theme)

    async def signal(self, name: str, payload: Any = None) -> None:
        """Send a signal; it is on disk when this returns. Raises as `Engine.signal` does."""
        await self._backend.signal(self.id, name, payload)

    async def cancel(self) -> RunStatus:
        """End the run for good; return the status that won. A run that has ended keeps its status."""
        return await self._backend.cancel(self.id)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002 - IPython's
        """Show the run in a notebook: as a drawing of its last committed step, and as text where images cannot be."""
        from beluga_graph.inspection.notebook import run_bundle  # noqa: PLC0415 - drawing is loaded when it is needed

        return run_bundle(self._backend.store, self.id, self._known)

    async def _ended(self, seconds: float | None) -> ActiveRun:
        async with asyncio.timeout(seconds):
            active = await self._backend.wait_ended(self._followers)
        if active.error is not None:
            raise active.error
        return active

    @property
    def _known(self) -> str:
        """The status that this process knows, without reading the store."""
        active = self._followers.active
        return active.snapshot.status if active is not None else RunStatus.waiting

    def __repr__(self) -> str:
        return f"<run {self.id!r}: {self._known}>"


async def replay_then_follow(
    plan: Plan, reader: RunReader, watcher: Watcher, after: int
) -> AsyncGenerator[Event, None]:
    """Yield the stored events, then those of the watcher's queue: each stored event once and in order."""
    seen = (after, _ALL)  # step and index of the last stored event that was yielded
    shown: Event | Gap | None = Gap(watcher.since)
    while shown is not None:
        if isinstance(shown, Gap):
            if shown.lost:
                yield make_event(type="lagged", run_id=reader.run_id, output=shown.lost)
            async for event in _read(plan, reader, watcher, seen, shown.until):
                yield event
            seen = max(seen, (shown.until, _ALL))
        elif shown.seq is None:
            yield shown
        elif (place := (shown.seq, shown.index or 0)) > seen:
            seen = place
            yield shown
        shown = await watcher.get()


async def _read(
    plan: Plan, reader: RunReader, watcher: Watcher, seen: tuple[int, int], until: int
) -> AsyncGenerator[Event, None]:
    """Yield the stored events after the last one seen. Raises `RunNotFound` if the run was deleted meanwhile."""
    seq, index = seen
    if seq >= until and index == _ALL:
        return
    if watcher.source is not None:  # the graph may have changed since the watcher was created
        plan, reader = watcher.source
    pace = Pace()
    try:
        for event in read_events(plan, reader, seq if index == _ALL else seq - 1, until):
            if (event.seq or 0, event.index or 0) > seen:
                yield event
            await pace.turn()
    except DamagedRecord:
        read_run_record(reader.store, reader.run_id)
        raise
    read_run_record(reader.store, reader.run_id)
