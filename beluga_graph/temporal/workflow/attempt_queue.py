"""The queue of a run's attempts: which of them begin now, and which share an activity.

Short attempts of a node go together where none can lose a race to another. How long they take is known from the
attempts before: the first ones of a node go alone, and the others wait for them, but not for long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from beluga_graph.kernel.listeners import list_signals_around
from beluga_graph.kernel.shape import JOIN, Shape
from beluga_graph.kernel.snapshot import RUN, Snapshot, Token
from beluga_graph.kernel.times import has_time_limit
from beluga_graph.kernel.walker import Walker
from beluga_graph.temporal.workflow.pieces import ItemPieces
from beluga_graph.temporal.workflow.run_options import RunOptions
from beluga_graph.temporal.workflow.wire import Reply

__all__ = ["AttemptQueue", "DrivenRun"]

_SHORT_MS = 50  # attempts that took less go into batches
_PROBE = 4  # attempts of a node whose duration is not known yet; as many of the last ones decide whether it is short
_PROBE_S = 0.1  # how long the others wait for them


class DrivenRun(Protocol):
    """The driver of the run, as its dispatcher and queue need it."""

    shape: Shape
    run: Snapshot
    items: ItemPieces
    session: Any
    is_halted: bool

    @property
    def walker(self) -> Walker[Reply, Any]:
        """Decides on the replies."""

    def now(self) -> int:
        """Return the workflow's time in milliseconds since the epoch."""

    def guard(self, call: Callable[..., object], *args: Any) -> None:
        """Call a function whose error must not be lost, as that of a callback would be."""


class AttemptQueue:
    """The attempts of one run that are to begin."""

    def __init__(self, driver: DrivenRun, options: RunOptions, on_probed: Callable[[], None]) -> None:
        self._driver, self._options, self._on_probed = driver, options, on_probed
        self._attempts: dict[str, int] = {}  # by token
        self._durations: dict[str, tuple[int, ...]] = {}  # of the last attempts, in milliseconds, by node
        self._probe: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._attempts)

    def add(self, attempts: Mapping[str, int]) -> None:
        """Queue attempts, by token."""
        self._attempts.update(attempts)

    def remove(self, token: str, attempt: int | None = None) -> None:
        """Take an attempt back, whichever it is by default. Does nothing for one that is not queued."""
        if attempt is None or self._attempts.get(token) == attempt:
            self._attempts.pop(token, None)

    def pop(self) -> dict[str, int]:
        """Take the attempt that would begin next, if there is one."""
        name = next(iter(self._attempts), None)
        return {} if name is None else {name: self._attempts.pop(name)}

    def clear(self) -> None:
        """Take every attempt back."""
        self._attempts.clear()

    def add_duration(self, node: str, ms: int) -> None:
        """Note how long an attempt of a node took."""
        self._durations[node] = (*self._durations.get(node, ()), ms)[-_PROBE:]

    def stop_probe(self) -> None:
        """Stop waiting for durations that are not known yet."""
        if self._probe is not None:
            self._probe.cancel()
            self._probe = None

    def time_left_ms(self) -> int:
        """Return how long activities may go on before the nearest timer of the run."""
        due = min(self._driver.run.timers.values(), default=None)
        allowed = self._options.ahead_ms
        return allowed if due is None else max(0, min(allowed, due - self._driver.now()))

    def take(self, has_room: Callable[[int], bool]) -> Iterator[list[Token]]:
        """Yield the attempts to begin now, activity by activity. The others stay in the queue.

        `has_room` returns whether one more activity may begin, besides a number of them that are not yielded yet.
        """
        batches: dict[str, list[Token]] = {}
        probing: dict[str, int] = {}
        is_held = False
        may_share = self._options.batch > 1 and self.time_left_ms() > 0
        for name, attempt in tuple(self._attempts.items()):
            token = self._driver.run.tokens.get(name)
            if token is None or token.state != RUN or token.attempt != attempt:
                del self._attempts[name]  # a later step, decided meanwhile, has ended it
                continue
            if not has_room(len(batches)):
                break
            is_short = self._is_short(token.node)
            if is_short is False or not (may_share and self._may_share(token)):
                del self._attempts[name]
                yield [token]
            elif is_short is None and self._probe is None and probing.get(token.node, 0) >= _PROBE:
                is_held = True
            elif is_short is None:
                probing[token.node] = probing.get(token.node, 0) + 1
                del self._attempts[name]
                yield [token]
            else:
                del self._attempts[name]
                batch = batches.setdefault(token.node, [])
                batch.append(token)
                if len(batch) == self._options.batch:
                    yield batches.pop(token.node)
        yield from batches.values()
        if is_held:
            self._probe = asyncio.get_running_loop().call_later(_PROBE_S, self._on_probed)

    def _is_short(self, node: str) -> bool | None:
        """Return whether attempts of a node are short, `None` while that is not known.

        One long attempt among the last ones does not count: its worker may have been busy. Two do: a batch that has
        long attempts makes one after another what could go on at once.
        """
        durations = self._durations.get(node, ())
        short = sum(ms < _SHORT_MS for ms in durations)
        if len(durations) - short > 1:
            return False
        return True if short >= _PROBE - 1 else None

    def _may_share(self, token: Token) -> bool:
        """Return whether an attempt may end together with others: nothing around it is decided by who is first.

        A node with a queue of its own goes alone, so that a worker in another language gets one call at a time.
        """
        if token.node in self._options.node_queues:
            return False
        run, nodes, scoped = self._driver.run, self._driver.shape.nodes, False
        if run.waits and list_signals_around(self._driver.shape, run, token.name):
            return False
        place = run.places[token.place]
        while place.scope is not None:
            scope = run.scopes[place.scope]
            join = nodes[nodes[scope.node].join or ""] if not scope.frame else None
            if join is not None:
                scoped = True
                if join.wait is not None or has_time_limit(join) or nodes[scope.node].decides_time:
                    return False
            place = run.places[scope.place]
        return scoped and nodes[token.node].kind != JOIN
