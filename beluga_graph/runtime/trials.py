"""Trials: which node is to blame when process after process ends while nodes run.

A process may be ended by any node that runs in it, of any run, and by none. So a death counts against every node
that ran, but only up to half of the limit. From then on a node runs on trial: apart from the others that are on
trial, those with the fewest deaths first. That its trial began is counted, on disk, before it begins: a process
that ends nevertheless counts against this node alone. Those that merely ran beside a poisonous node finish in
their own trials.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from beluga_graph.kernel.rules import get_limit
from beluga_graph.kernel.shape import Shape
from beluga_graph.kernel.snapshot import RUN, Snapshot, Token
from beluga_graph.kernel.triggers import RunNode, Work

__all__ = ["Trials", "by_interruptions", "counted", "found_guilty", "needs_trial"]

# How long a trial keeps others from theirs. It is bounded, for a node may wait for another run that is on trial, too.
_APART_S = 10.0


class Trials:
    """The trials of one engine: one at a time."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def apart(self) -> AsyncIterator[None]:
        """Wait for the trials before, then keep others waiting until this one ends, or takes long."""
        await self._lock.acquire()
        released = False

        def release() -> None:
            nonlocal released
            if not released:
                released = True
                self._lock.release()

        takes_long = asyncio.get_running_loop().call_later(_APART_S, release)
        try:
            yield
        finally:
            takes_long.cancel()
            release()


def needs_trial(shape: Shape, run: Snapshot, token: Token) -> bool:
    """Tell whether a token's node was interrupted so often that it has to run apart from others like it."""
    return token.interruptions >= _in_company(shape, run)


def found_guilty(shape: Shape, run: Snapshot) -> list[Token]:
    """Return the running tokens that were interrupted more often than is allowed."""
    allowed = get_limit(shape, run, "max_interruptions")
    return [token for token in run.tokens.values() if token.state == RUN and token.interruptions > allowed]


def counted(shape: Shape, run: Snapshot) -> tuple[tuple[str, int], ...]:
    """Return the interruptions of the running tokens after the death of their owner.

    One that needs a trial keeps its count: whether it was on trial at the death, the count tells already.
    """
    most = _in_company(shape, run)
    running = [token for token in run.tokens.values() if token.state == RUN]
    return tuple((token.name, token.interruptions + (token.interruptions < most)) for token in running)


def by_interruptions(run: Snapshot, items: list[Work]) -> list[Work]:
    """Order work that is about to begin by how often its node was interrupted, so that trials go round."""

    def interruptions(item: Work) -> int:
        token = run.tokens.get(item.token) if isinstance(item, RunNode) else None
        return 0 if token is None else token.interruptions

    return sorted(items, key=interruptions)


def _in_company(shape: Shape, run: Snapshot) -> int:
    """Return how many deaths count against a node although others ran beside it; at least one."""
    return (get_limit(shape, run, "max_interruptions") + 1) // 2
