"""`TemporalRun`: a handle on one run on Temporal, with the API of `Run`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, Protocol

from beluga_graph.errors import RunCancelled
from beluga_graph.events import Event
from beluga_graph.inspection.results import outcome_of, result_of
from beluga_graph.inspection.views import Outcome, RunStatus
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.types import Value
from beluga_graph.plan.plan import Plan

if TYPE_CHECKING:
    from beluga_graph.draw.render import Theme

__all__ = ["TemporalBackend", "TemporalRun"]


class TemporalBackend(Protocol):
    """The verbs that a handle needs of its engine."""

    async def wait_ended(self, run_id: str) -> Snapshot:
        """Wait for the end of a run; return what results and outcomes need of it. Raises `RunCancelled`."""

    async def cancelled_snapshot(self, run_id: str) -> Snapshot:
        """Return a run that was cancelled, as it was then."""

    def decode(self, plan: Plan, value: Value | None) -> Any:
        """Return a value of a run."""

    def events(self, plan: Plan, run_id: str, after: int) -> AsyncGenerator[Event, None]:
        """Yield the events of steps after `after`, then those to come, until the run ends."""

    async def status(self, run_id: str) -> RunStatus:
        """Return the run's status."""

    async def signal(self, run_id: str, name: str, payload: Any = None) -> None:
        """Send a signal to the run."""

    async def cancel(self, run_id: str) -> RunStatus:
        """End the run for good."""

    async def draw(self, run_id: str, *, depth: int | None = None, theme: Theme = "auto") -> str:
        """Draw the run as an SVG document."""


class TemporalRun:
    """A handle on a run, from `TemporalEngine.start`, `resume`, `fork` or `adopt`.

    Attributes:
        id: The run's id, which is also the id of its workflow.
    """

    __slots__ = ("_backend", "_plan", "id")

    def __init__(self, backend: TemporalBackend, run_id: str, plan: Plan) -> None:
        self._backend, self._plan = backend, plan
        self.id = run_id

    async def result(self, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - a public name
        """Wait for the end and return the output.

        Raises `RunFailed`, `RunCancelled`; `TemporalUnavailable` if the server is gone, or no worker serves the run;
        `TimeoutError` after `timeout` seconds, which does not touch the run.
        """
        async with asyncio.timeout(timeout):
            run = await self._backend.wait_ended(self.id)
        return result_of(run, self._decode, None)

    async def outcome(self, timeout: float | None = None) -> Outcome:  # noqa: ASYNC109 - a public name
        """Wait for the end and return how the run ended; a failure is returned, not raised. Else as `result`."""
        async with asyncio.timeout(timeout):
            try:
                run = await self._backend.wait_ended(self.id)
            except RunCancelled:
                run = await self._backend.cancelled_snapshot(self.id)
        return outcome_of(run, self._decode)

    async def status(self) -> RunStatus:
        """Return the status that the server has now."""
        return await self._backend.status(self.id)

    def events(self, after: int = 0) -> AsyncGenerator[Event, None]:
        """Yield the stored events of steps after `after`, then those to come and live ones, until the run ends.

        It goes on while no worker lives, which a warning in the log reports, or while a worker is replaced. Raises
        `RunError` or `LimitReached` if the workflow fails on its worker. The whole text of each node comes in `text`
        events before its `node_finished`.
        """
        return self._backend.events(self._plan, self.id, after)

    async def svg(self, *, depth: int | None = None, theme: Theme = "auto") -> str:
        """Draw the run as an SVG document, as `TemporalEngine.draw` does."""
        return await self._backend.draw(self.id, depth=depth, theme=theme)

    async def signal(self, name: str, payload: Any = None) -> None:
        """Send a signal. Raises as `TemporalEngine.signal` does."""
        await self._backend.signal(self.id, name, payload)

    async def cancel(self) -> RunStatus:
        """End the run for good; return the status that won."""
        return await self._backend.cancel(self.id)

    def __repr__(self) -> str:
        return f"<run {self.id!r} of flow {self._plan.name!r} on Temporal>"

    def _decode(self, value: Value | None) -> Any:
        return self._backend.decode(self._plan, value)
