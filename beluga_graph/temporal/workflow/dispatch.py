"""The dispatcher: begins the activities of a run, and decides on their results.

One activity makes one attempt. With `batch`, an activity makes several of them, as `AttemptQueue` gathers them, and
goes on alone where the run has one token. A window bounds the activities at a time. Before a run continues as new, the
dispatcher drains: it begins nothing and lets the activities under way end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError
from temporalio.exceptions import TimeoutError as ActivityTimeout

from beluga_graph.kernel.rules import get_limit
from beluga_graph.kernel.shape import FAN_OUT, FRAME, JOIN, TIMER_NODE, WAIT_NODE, NodeShape
from beluga_graph.kernel.snapshot import RUNNING, WAITING, Token
from beluga_graph.kernel.triggers import NodeFailed
from beluga_graph.kernel.view import view_of
from beluga_graph.temporal.workflow.activity_ids import make_activity_id, replace_surrogates
from beluga_graph.temporal.workflow.attempt_queue import AttemptQueue, DrivenRun
from beluga_graph.temporal.workflow.reply_checks import Request
from beluga_graph.temporal.workflow.retries import RETRY
from beluga_graph.temporal.workflow.run_options import RunOptions
from beluga_graph.temporal.workflow.wire import (
    ACTIVITY,
    BATCH_BYTES,
    FORMAT,
    GIVE_CLAIMS,
    PAYLOAD_BYTES,
    TOO_LARGE,
    pack_call,
    pack_calls,
)

__all__ = ["Dispatcher"]

_TASK_BYTES = 1_000_000  # of calls, after which the next workflow task begins the others: the server takes 4 MB of one
_NEXT_TASK_S = 0.01
_MARGIN_S = 10.0  # what an attempt's time limit leaves to the worker for the way there and back
_TIMEOUT = timedelta(hours=24)  # of an activity whose worker sends heartbeats


class Dispatcher:
    """Hands the attempts of one run to workers."""

    def __init__(self, driver: DrivenRun, options: RunOptions) -> None:
        self._driver, self._options = driver, options
        self.is_draining = False
        self.pending = 0
        self._queue = AttemptQueue(driver, options, self._flush_soon)
        self._handles: dict[str, workflow.ActivityHandle[Any]] = {}  # attempts under way, by token
        self._left: dict[workflow.ActivityHandle[Any], int] = {}  # how many attempts of an activity still count
        self._cancelled: set[workflow.ActivityHandle[Any]] = set()  # by us
        self._is_flush_due = False
        self._next_task: asyncio.TimerHandle | None = None
        self._begun = (0, 0)  # the length of the history, and the bytes of the calls that its task has begun

    @property
    def has_queue(self) -> bool:
        """Whether attempts wait to be begun."""
        return bool(self._queue)

    def add(self, token: Token) -> None:
        """Begin an attempt soon."""
        self._queue.add({token.name: token.attempt})
        self._flush_soon()

    def stop(self, token: str) -> None:
        """Stop an attempt, or let its result be ignored where others share its activity."""
        self._queue.remove(token)
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
        self._queue.stop_probe()
        if self._next_task is not None:
            self._next_task.cancel()
            self._next_task = None

    def go_on(self) -> None:
        """Begin attempts again, after draining."""
        self.is_draining = False
        self._flush_soon()

    def fail_next(self, kind: str, message: str) -> None:
        """Let the attempt that would begin next fail."""
        self._fail(self._queue.pop(), kind, message)

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
        refused = [trigger for tokens in self._queue.take(self._has_room) for trigger in self._begin(tokens)]
        for trigger in refused:  # after the loop: each decision may change the queue, and remove tokens
            driver.walker.decide(trigger)

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
                self._queue.add({token.name: token.attempt})
                self._flush_in_next_task()
                continue
            call = self._call(token, is_whole=is_whole)
            if is_whole and len(call) > PAYLOAD_BYTES:
                is_whole = False  # the values around the node are too large to go ahead, but it may not read them
                call = self._call(token, is_whole=False)
            if len(call) > PAYLOAD_BYTES:
                refused.append(self._too_large(token, len(call)))
                continue
            if calls and size + len(call) > BATCH_BYTES:
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
        text += f"{PAYLOAD_BYTES:,}: {GIVE_CLAIMS}"
        return NodeFailed(token.name, token.attempt, self._driver.now(), TOO_LARGE, text, retryable=False)

    def _is_alone(self, tokens: Sequence[Token]) -> bool:
        """Return whether an activity may go on with the only token of the run, so that it needs the whole run.

        A node with a queue of its own is for other workers: no activity may reach it by going on.
        """
        run = self._driver.run
        is_lone = len(tokens) == len(run.tokens) == 1 and all(scope.frame for scope in run.scopes.values())
        # Where a signal may interrupt, no node begins before the workflow has looked for one.
        return is_lone and not run.waits and not self._options.node_queues and self._queue.time_left_ms() > 0

    def _call(self, token: Token, *, is_whole: bool) -> bytes:
        driver = self._driver
        view = driver.run if is_whole else view_of(driver.run, token.name)
        return pack_call(view, token.name, driver.items.to_plain(view.places), driver.session)

    def _start(self, tokens: Sequence[Token], calls: Sequence[bytes], *, is_whole: bool) -> None:
        driver, options, nodes = self._driver, self._options, self._driver.shape.nodes
        first = tokens[0]
        is_own = first.node not in options.node_queues
        fields = {
            "format": FORMAT,
            "flow": driver.shape.name,
            "plan": driver.shape.fingerprint,
            "ahead_ms": self._queue.time_left_ms() if is_whole or len(tokens) > 1 else 0,
            "is_whole": is_whole,
            "max_interruptions": get_limit(driver.shape, driver.run, "max_interruptions"),
            "timeout_ms": _time_limit(nodes[first.node], driver.now()),
            "live": options.live,
        }
        handle: workflow.ActivityHandle[Any] = workflow.start_activity(
            ACTIVITY,
            pack_calls(fields, calls),  # without a `result_type`: one that does not fit would stop the workflow
            task_queue=options.node_queues.get(first.node, options.queue),
            activity_id=make_activity_id(first.name, first.attempt),
            start_to_close_timeout=_TIMEOUT if is_own else _timeout_of(nodes[first.node], driver.now()),
            heartbeat_timeout=timedelta(seconds=options.heartbeat_s),
            # For lost workers only, which the activity counts. The kernel retries nodes, and each retry is a step.
            retry_policy=RETRY,
            cancellation_type=workflow.ActivityCancellationType.TRY_CANCEL,
            summary=replace_surrogates(first.node if len(tokens) == 1 else f"{first.node} x {len(tokens)}"),
        )
        self._begun = (self._begun[0], self._begun[1] + sum(map(len, calls)))
        self.pending += 1
        self._left[handle] = len(tokens)
        for token in tokens:
            self._handles[token.name] = handle
        attempts = {token.name: token.attempt for token in tokens}
        request = Request(attempts, is_whole, nodes[first.node].kind != FAN_OUT)
        handle.add_done_callback(partial(driver.guard, self._on_done, request))

    def _has_room(self, waiting: int) -> bool:
        """Return whether another activity may begin, besides a number of them that are about to."""
        if self._is_task_full():
            self._flush_in_next_task()
            return False
        return self.pending + waiting < self._options.window

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
                self._queue.add(own)  # nothing, unless another than the run has cancelled it
            else:
                self._fail(own, *self._describe(error))
        self._queue.stop_probe()
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
        self._queue.add({name: attempt for name, attempt in own.items() if name not in made})
        for reply in replies:
            name = reply.trigger.token
            if name not in own and not request.is_whole:
                continue  # it was stopped meanwhile
            token = driver.run.tokens.get(name)
            if token is not None:
                self._queue.add_duration(token.node, reply.ms)
            self._queue.remove(name, reply.trigger.attempt)  # if the activity has gone on ahead with it
            if driver.walker.decide(reply.trigger, reply) is None and request.is_whole:
                return  # the later replies depend on this one, which does not count

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


def _timeout_of(node: NodeShape, now: int) -> timedelta:
    """Return the time that an activity of a worker in another language may take.

    The workers of this library end attempts themselves: their time begins when a thread is free, and an activity goes
    on with other nodes.
    """
    limit = _time_limit(node, now)
    return _TIMEOUT if limit is None else timedelta(milliseconds=limit, seconds=_MARGIN_S)


def _time_limit(node: NodeShape, now: int) -> int | None:
    """Return the time limit of an attempt that begins now, in milliseconds, if it is part of the graph.

    Waits, joins, timers and frames have timers of the run instead. A limit that a function decides is decided in the
    attempt, by a worker that has the function.
    """
    if node.kind in (WAIT_NODE, JOIN, TIMER_NODE, FRAME):
        return None
    if node.due_ms is None:
        return node.timeout_ms
    left = max(0, node.due_ms - now)
    return left if node.timeout_ms is None else min(left, node.timeout_ms)
