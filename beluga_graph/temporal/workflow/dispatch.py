"""The dispatcher: which attempts go to workers now, in which activities, and what comes of them.

One activity makes one attempt. With `batch`, an activity makes several where none can lose a race to another, and goes
on alone where the run has one token. A window bounds the activities at a time. Before a run continues as new, the
dispatcher drains: it begins nothing and lets the activities under way end.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Protocol

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError
from temporalio.exceptions import TimeoutError as ActivityTimeout

from beluga_graph.kernel.rules import get_limit
from beluga_graph.kernel.shape import FAN_OUT, JOIN, WAIT_NODE, NodeShape, Shape
from beluga_graph.kernel.snapshot import RUN, RUNNING, WAITING, Snapshot, Token
from beluga_graph.kernel.triggers import NodeFailed
from beluga_graph.kernel.view import view_of
from beluga_graph.kernel.walker import Walker
from beluga_graph.temporal.workflow.pieces import ItemPieces
from beluga_graph.temporal.workflow.reply_checks import Request
from beluga_graph.temporal.workflow.run_options import RunOptions
from beluga_graph.temporal.workflow.wire import ACTIVITY, FORMAT, PAYLOAD_BYTES, Reply, pack, pack_calls

__all__ = ["Dispatcher"]

_SHORT_MS = 50  # attempts that took less go into batches
_PROBE = 4  # attempts of a node whose duration is not known yet: the others wait for them, but not for long
_PROBE_S = 0.1
_ID_CHARS = 200
_BATCH_BYTES = 1_000_000
_TASK_BYTES = 1_000_000  # of calls, after which the next workflow task begins the others: the server takes 4 MB of one
_NEXT_TASK_S = 0.01
_MARGIN_S = 10.0  # what an attempt's time limit leaves to the worker for the way there and back
_RETRY = RetryPolicy(initial_interval=timedelta(milliseconds=100), maximum_interval=timedelta(seconds=10))
_LONGEST = timedelta(hours=24)  # of an activity whose worker lives


class DrivenRun(Protocol):
    """The driver of the run, as its dispatcher needs it."""

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


class Dispatcher:
    """Hands the attempts of one run to workers."""

    def __init__(self, driver: DrivenRun, options: RunOptions) -> None:
        self._driver, self._options = driver, options
        self.is_draining = False
        self.pending = 0
        self._queue: dict[str, int] = {}  # attempts to begin, by token
        self._handles: dict[str, workflow.ActivityHandle[Any]] = {}  # attempts under way, by token
        self._left: dict[workflow.ActivityHandle[Any], int] = {}  # how many attempts of an activity still count
        self._cancelled: set[workflow.ActivityHandle[Any]] = set()  # by us
        self._durations: dict[str, int] = {}  # of the last attempt, in milliseconds, by node
        self._is_flush_due = False
        self._probe: asyncio.TimerHandle | None = None
        self._next_task: asyncio.TimerHandle | None = None
        self._begun = (0, 0)  # the length of the history, and the bytes of the calls that its task has begun

    @property
    def has_queue(self) -> bool:
        """Whether attempts wait to be begun."""
        return bool(self._queue)

    def add(self, token: Token) -> None:
        """Begin an attempt soon."""
        self._queue[token.name] = token.attempt
        self._flush_soon()

    def stop(self, token: str) -> None:
        """Stop an attempt, or let its result be ignored where others share its activity."""
        self._queue.pop(token, None)
        handle = self._handles.pop(token, None)
        if handle is not None:
            self._left[handle] -= 1
            if not self._left[handle]:
                self._cancelled.add(handle)
                handle.cancel()

    def stop_all(self) -> None:
        """Stop every attempt."""
        self._queue.clear()
        for token in tuple(self._handles):
            self.stop(token)
        self._stop_probe()
        if self._next_task is not None:
            self._next_task.cancel()
            self._next_task = None

    def go_on(self) -> None:
        """Begin attempts again, after draining."""
        self.is_draining = False
        self._flush_soon()

    def fail_next(self, kind: str, message: str) -> None:
        """Let the attempt that would begin next fail."""
        name = next(iter(self._queue), None)
        if name is not None:
            self._fail({name: self._queue.pop(name)}, kind, message)

    # Beginning attempts.

    def _flush_soon(self) -> None:
        if not self._is_flush_due:
            self._is_flush_due = True
            asyncio.get_running_loop().call_soon(partial(self._driver.guard, self._begin_queued))

    def _begin_queued(self) -> None:
        self._is_flush_due = False
        driver = self._driver
        if self.is_draining or driver.is_halted or driver.run.status not in (RUNNING, WAITING):
            return
        refused = [trigger for tokens in self._activities() for trigger in self._begin(tokens)]
        for trigger in refused:  # after the loop: each decision may change the queue, and remove tokens
            driver.walker.decide(trigger)

    def _activities(self) -> Iterator[list[Token]]:
        """Yield the attempts to begin now, activity by activity. The others stay in the queue."""
        batches: dict[str, list[Token]] = {}
        probing: dict[str, int] = {}
        is_held = False
        may_share = self._options.batch > 1 and self._time_left_ms() > 0
        for name, attempt in tuple(self._queue.items()):
            token = self._driver.run.tokens.get(name)
            if token is None or token.state != RUN or token.attempt != attempt:
                del self._queue[name]  # a later step, decided meanwhile, has ended it
                continue
            if self._is_task_full():
                self._flush_in_next_task()
                break
            if self.pending + len(batches) >= self._options.window:
                break
            duration = self._durations.get(token.node)
            if not (may_share and self._may_share(token)) or (duration is not None and duration >= _SHORT_MS):
                del self._queue[name]
                yield [token]
            elif duration is None and self._probe is None and probing.get(token.node, 0) >= _PROBE:
                is_held = True
            elif duration is None:
                probing[token.node] = probing.get(token.node, 0) + 1
                del self._queue[name]
                yield [token]
            else:
                del self._queue[name]
                batch = batches.setdefault(token.node, [])
                batch.append(token)
                if len(batch) == self._options.batch:
                    yield batches.pop(token.node)
        yield from batches.values()
        if is_held:
            self._probe = asyncio.get_running_loop().call_later(_PROBE_S, self._flush_soon)

    def _may_share(self, token: Token) -> bool:
        """Return whether an attempt may end together with others: nothing around it is decided by who is first.

        A node with a queue of its own goes alone, so that a worker in another language gets one call at a time.
        """
        if token.node in self._options.node_queues:
            return False
        run, nodes, scoped = self._driver.run, self._driver.shape.nodes, False
        place = run.places[token.place]
        while place.scope is not None:
            scope = run.scopes[place.scope]
            join = nodes[nodes[scope.node].join or ""] if not scope.frame else None
            if join is not None:
                scoped = True
                if join.wait is not None or join.timeout_ms is not None:
                    return False
            place = run.places[scope.place]
        return scoped and nodes[token.node].kind != JOIN

    def _begin(self, tokens: Sequence[Token]) -> list[NodeFailed]:
        """Begin one activity, or several if its calls are too large together.

        Returns the failures of the attempts that are too large by themselves.
        """
        refused: list[NodeFailed] = []
        calls: list[bytes] = []
        taken: list[Token] = []
        size = 0
        is_whole = self._is_alone(tokens)
        for token in tokens:
            if self._is_task_full():
                self._queue[token.name] = token.attempt
                self._flush_in_next_task()
                continue
            call = self._call(token, is_whole=is_whole)
            if is_whole and len(call) > PAYLOAD_BYTES:
                is_whole = False  # the values around the node are too large to go ahead, but it may not read them
                call = self._call(token, is_whole=False)
            if len(call) > PAYLOAD_BYTES:
                refused.append(self._too_large(token, len(call)))
                continue
            if calls and size + len(call) > _BATCH_BYTES:
                self._start(taken, calls, is_whole=is_whole)
                calls, taken, size = [], [], 0
            calls.append(call)
            taken.append(token)
            size += len(call)
        if calls:
            self._start(taken, calls, is_whole=is_whole)
        return refused

    def _too_large(self, token: Token, size: int) -> NodeFailed:
        text = f"the values that node {token.node!r} reads are {size:,} bytes; one call of a worker takes "
        text += f"{PAYLOAD_BYTES:,}: give the engine claims=, a place for large values"
        return NodeFailed(token.name, token.attempt, self._driver.now(), "TooLarge", text, retryable=False)

    def _is_alone(self, tokens: Sequence[Token]) -> bool:
        """Return whether an activity may go on with the only token of the run, so that it needs the whole run.

        A node with a queue of its own is for other workers: no activity may reach it by going on.
        """
        run = self._driver.run
        is_lone = len(tokens) == len(run.tokens) == 1 and all(scope.frame for scope in run.scopes.values())
        return is_lone and not self._options.node_queues and self._time_left_ms() > 0

    def _time_left_ms(self) -> int:
        """Return how long activities may go on before the nearest timer of the run."""
        due = min(self._driver.run.timers.values(), default=None)
        allowed = self._options.ahead_ms
        return allowed if due is None else max(0, min(allowed, due - self._driver.now()))

    def _call(self, token: Token, *, is_whole: bool) -> bytes:
        driver = self._driver
        view = driver.run if is_whole else view_of(driver.run, token.name)
        items = driver.items.to_plain(view.places)
        session = driver.session if view.session is not None else ()
        return pack({"run": view.to_plain(), "token": token.name, "items": items, "session": session})

    def _start(self, tokens: Sequence[Token], calls: Sequence[bytes], *, is_whole: bool) -> None:
        driver, options, nodes = self._driver, self._options, self._driver.shape.nodes
        first = tokens[0]
        is_own = first.node not in options.node_queues
        fields = {
            "format": FORMAT,
            "flow": driver.shape.name,
            "plan": driver.shape.fingerprint,
            "ahead_ms": self._time_left_ms() if is_whole or len(tokens) > 1 else 0,
            "is_whole": is_whole,
            "max_interruptions": get_limit(driver.shape, driver.run, "max_interruptions"),
            "timeout_ms": _time_limit(nodes[first.node]),
            "live": options.live,
        }
        handle: workflow.ActivityHandle[Any] = workflow.start_activity(
            ACTIVITY,
            pack_calls(fields, calls),  # without a `result_type`: one that does not fit would stop the workflow
            task_queue=options.node_queues.get(first.node, options.queue),
            activity_id=_activity_id(first),
            start_to_close_timeout=_LONGEST if is_own else _longest(nodes[first.node]),
            heartbeat_timeout=timedelta(seconds=options.heartbeat_s),
            # For lost workers only, which the activity counts. The kernel retries nodes, and each retry is a step.
            retry_policy=_RETRY,
            cancellation_type=workflow.ActivityCancellationType.TRY_CANCEL,
            summary=_shown(first.node if len(tokens) == 1 else f"{first.node} x {len(tokens)}"),
        )
        self._begun = (self._begun[0], self._begun[1] + sum(map(len, calls)))
        self.pending += 1
        self._left[handle] = len(tokens)
        for token in tokens:
            self._handles[token.name] = handle
        attempts = {token.name: token.attempt for token in tokens}
        request = Request(attempts, is_whole, nodes[first.node].kind != FAN_OUT)
        handle.add_done_callback(partial(driver.guard, self._on_done, request))

    def _is_task_full(self) -> bool:
        """Return whether this workflow task has begun enough."""
        length = workflow.info().get_current_history_length()
        if self._begun[0] != length:
            self._begun = (length, 0)
        return self._begun[1] >= _TASK_BYTES

    def _flush_in_next_task(self) -> None:
        """Begin the others soon. A timer makes the server begin another task."""
        if self._next_task is None:
            flush = partial(self._driver.guard, self._begin_in_next_task)
            self._next_task = asyncio.get_running_loop().call_later(_NEXT_TASK_S, flush)

    def _begin_in_next_task(self) -> None:
        self._next_task = None
        self._begin_queued()

    # Results.

    def _on_done(self, request: Request, handle: Any) -> None:
        error = None if handle.cancelled() else handle.exception()
        if (handle.cancelled() and handle not in self._cancelled) or not isinstance(error, Exception | None):
            return  # the worker drops the workflow from its cache: nothing may begin or end
        self.pending -= 1
        del self._left[handle]
        self._cancelled.discard(handle)
        own = {name: attempt for name, attempt in request.attempts.items() if self._handles.get(name) is handle}
        for name in own:
            del self._handles[name]
        if not handle.cancelled() and not self._driver.is_halted:
            if error is None:
                self._decide_replies(own, request, handle.result())
            elif isinstance(error, ActivityError) and isinstance(error.cause, CancelledError):
                self._queue.update(own)  # nothing, unless another than the run has cancelled it
            else:
                self._fail(own, *self._describe(error))
        self._stop_probe()
        if self._queue:
            self._flush_soon()

    def _decide_replies(self, own: Mapping[str, int], request: Request, result: Any) -> None:
        """Decide on each reply in order. Queue the attempts that were not made again."""
        driver = self._driver
        try:
            replies = request.read_replies(result, driver.now())
        except ValueError as error:
            self._fail(own, "BadReply", f"its worker sent a reply that cannot be read: {error}")
            return
        made = {reply.trigger.token for reply in replies}
        self._queue.update({name: attempt for name, attempt in own.items() if name not in made})
        for reply in replies:
            name = reply.trigger.token
            if name not in own and not request.is_whole:
                continue  # it was stopped meanwhile
            token = driver.run.tokens.get(name)
            if token is not None:
                self._durations[token.node] = reply.ms
            if self._queue.get(name) == reply.trigger.attempt:
                del self._queue[name]  # the activity has gone on ahead with it
            if driver.walker.decide(reply.trigger, reply) is None and request.is_whole:
                return  # the replies after it stand on one that does not count

    def _describe(self, error: BaseException) -> tuple[str, str]:
        """Return the type and the message of the failure that an activity's error stands for."""
        cause = error.cause if isinstance(error, ActivityError) else error
        if isinstance(cause, ActivityTimeout):
            return "Interrupted", f"its worker was lost, and no other one has taken it: {cause}"
        if isinstance(cause, ApplicationError):
            return cause.type or "ApplicationError", cause.message
        return type(cause).__name__, str(cause)

    def _fail(self, attempts: Mapping[str, int], kind: str, message: str) -> None:
        driver = self._driver
        for name, attempt in attempts.items():
            driver.walker.decide(NodeFailed(name, attempt, driver.now(), kind, message, retryable=False))

    def _stop_probe(self) -> None:
        if self._probe is not None:
            self._probe.cancel()
            self._probe = None


def _activity_id(token: Token) -> str:
    """Return an id that a replay computes again. The server refuses long ones, and half characters of UTF-16."""
    name = f"{token.name}@{token.attempt}"
    is_accepted = len(name) <= _ID_CHARS and _shown(name) == name
    return name if is_accepted else hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def _shown(name: str) -> str:
    """Return a name as the server can show it."""
    return name.encode("utf-8", "replace").decode()


def _longest(node: NodeShape) -> timedelta:
    """Return the time that an activity of a worker in another language may take.

    The workers of this library end attempts themselves: their time begins when a thread is free, and an activity goes
    on with other nodes.
    """
    limit = _time_limit(node)
    return _LONGEST if limit is None else timedelta(milliseconds=limit, seconds=_MARGIN_S)


def _time_limit(node: NodeShape) -> int | None:
    """Return the time limit of one attempt, in milliseconds. Waits and joins have timers of the run instead."""
    return None if node.kind in (WAIT_NODE, JOIN) else node.timeout_ms
