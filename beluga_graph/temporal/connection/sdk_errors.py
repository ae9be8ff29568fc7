"""Errors of Temporal's SDK and server, translated to errors of the project's tree.

| error of the SDK                                   | raised                                                   |
|----------------------------------------------------|----------------------------------------------------------|
| the run's workflow failed                          | `RunFailed`                                              |
| it was cancelled, or terminated on the server      | `RunCancelled`                                           |
| its execution timeout on the server passed         | `RunCancelled`                                           |
| an update was refused                              | `RunConflict`                                            |
| a query failed                                     | `RunError`                                               |
| no workflow has this id                            | `RunNotFound`                                            |
| it has ended, or its id is taken                   | `RunConflict`                                            |
| an id that the server does not accept              | `BadRunId`                                               |
| a payload or a message was too large               | `LimitReached`                                           |
| no server, no such namespace, no permission        | `TemporalUnavailable`                                    |
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from temporalio.client import (
    WorkflowFailureError,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.exceptions import ApplicationError, CancelledError, TerminatedError, WorkflowAlreadyStartedError
from temporalio.exceptions import TimeoutError as WorkflowTimeout
from temporalio.service import RPCError, RPCStatusCode

from beluga_graph.errors import (
    BadRunId,
    LimitReached,
    RunCancelled,
    RunConflict,
    RunError,
    RunFailed,
    RunNotFound,
    TemporalUnavailable,
)
from beluga_graph.events import Failure
from beluga_graph.temporal.workflow.wire import GIVE_CLAIMS, PAYLOAD_BYTES, RUN_FAILED, unpack

__all__ = ["NO_RUN", "check_payload_size", "explain", "is_dropped", "size_error", "translate_errors"]

NO_RUN = (
    "the server has no run with this id: check the id and the namespace; "
    "ended runs are deleted after the namespace's retention"
)
_SERVER_MAX = "the server accepts 2 MiB in a payload and 4 MiB in a message"
_CLAIMS = f"{GIVE_CLAIMS}, or pass a reference (a path, a key, a URL)"
_TOO_LARGE = ("exceeds limit", "larger than max", "too large", "payloads with size")  # texts of server and SDK
_REFUSED = {RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNAUTHENTICATED}
_SILENT = {RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED}  # the transport cancels calls that time out
_DOWN = {RPCStatusCode.UNAVAILABLE, RPCStatusCode.RESOURCE_EXHAUSTED, RPCStatusCode.INTERNAL, RPCStatusCode.ABORTED}
_DROPPED = ("unexpected workflow task failure", "aborted by closing workflow")
_CUT = ("transport error", "h2 protocol error", "error reading a body")  # in the SDK's texts about a lost connection


@contextmanager
def translate_errors(run_id: str, address: str = "") -> Iterator[None]:
    """Raise errors of the SDK that occur in the block as errors of the tree, with the SDK's as the `__cause__`.

    Example:
        with translate_errors(run_id, connection.address):
            await handle.signal("signal", args=[name, payload])
    """
    try:
        yield
    except Exception as error:
        known = explain(error, run_id, address)
        if known is error:
            raise
        raise known from error


def explain(error: Exception, run_id: str, address: str = "") -> BaseException:
    """Return the error of the tree for an error of the SDK, and any other error as it is."""
    if isinstance(error, RPCError):
        return _explain_call(error, run_id, address)
    if isinstance(error, WorkflowUpdateRPCTimeoutOrCancelledError):
        cause = error.__cause__
        if isinstance(cause, asyncio.CancelledError):  # the caller's task was cancelled: it must end as such
            return cause
        return TemporalUnavailable(address, f"run {run_id!r} has not answered in time: check that a worker serves it")
    if isinstance(error, WorkflowAlreadyStartedError):
        text = "a run with this id exists on the server: follow it, or start the new one with another id"
        return RunConflict(run_id, text)
    if isinstance(error, WorkflowFailureError):
        return _explain_end(error.cause, run_id)
    if isinstance(error, WorkflowUpdateFailedError):
        return RunConflict(run_id, f"the request was refused: {_text_of(error.cause)}")
    if isinstance(error, WorkflowQueryFailedError):
        if _is_about_size(str(error)):
            return size_error("the answer of the workflow", None, run_id)
        return RunError(run_id, f"the workflow cannot answer: {error}; look for its error in the log of the worker")
    if isinstance(error, RuntimeError) and "client connect" in str(error):  # of a client that connects lazily
        return TemporalUnavailable(address, f"no Temporal server answers ({error}): start it, or correct the address")
    return error


def check_payload_size(size: int, what: str, run_id: str = "") -> None:
    """Raise `LimitReached` if the server would refuse a payload for its size.

    Check before each call: of an update, the server refuses the payload only after it has reached the workflow, whose
    tasks then fail for ever.
    """
    if size > PAYLOAD_BYTES:
        raise size_error(what, size, run_id)


def size_error(what: str, size: int | None, run_id: str) -> LimitReached:
    """Return the error for a payload that is too large; without a size if only the server knows it."""
    if size is None:
        return LimitReached(run_id, f"{what} is too large: {_SERVER_MAX}; {_CLAIMS}")
    return LimitReached(run_id, f"{what} has {size:,} bytes, and a payload at most {PAYLOAD_BYTES:,}: {_CLAIMS}")


def is_dropped(error: RPCError) -> bool:
    """Return whether the server has dropped an update before the workflow's answer was final. Send it again.

    The workflow has ended or continued as new, or an event came while it was about to, so that its task is repeated.
    """
    return any(part in error.message for part in _DROPPED)


def _explain_call(error: RPCError, run_id: str, address: str) -> BaseException:
    text, status = error.message, error.status
    if _is_about_size(text):
        return size_error("the request", None, run_id)
    if status is RPCStatusCode.NOT_FOUND and text.startswith("Namespace"):
        way_out = "create it with `temporal operator namespace create NAME`, or correct namespace= or --namespace"
        return TemporalUnavailable(address, f"{text.rstrip('.')}: {way_out}")
    if "already completed" in text or "execution closed" in text:
        return RunConflict(run_id, "it has ended: read its result, or start another run")
    if status is RPCStatusCode.NOT_FOUND:
        return RunNotFound(run_id, NO_RUN)
    if status is RPCStatusCode.INVALID_ARGUMENT and "WorkflowId" in text:
        return BadRunId(run_id[:80], f"the server refuses this id: {text}; choose another one")
    if "Workflow Task in failed state" in text:
        return RunError(run_id, f"its workflow fails on the worker ({text}): mend its code, and start the worker again")
    if status in _REFUSED:
        return TemporalUnavailable(
            address, f"the server refuses this client ({text}): check its API key or certificate"
        )
    if status in _SILENT:
        return TemporalUnavailable(
            address, f"no answer in time ({text}): check that the server is up and a worker runs"
        )
    if status in _DOWN or any(part in text for part in _CUT):
        return TemporalUnavailable(address, f"the server does not serve this request ({text}): check it, and try again")
    return RunError(run_id, f"the server refuses the request: {text} ({status.name})")


def _explain_end(cause: BaseException, run_id: str) -> RunError:
    if isinstance(cause, CancelledError):
        return RunCancelled(run_id, "it was cancelled")
    if isinstance(cause, TerminatedError):
        return RunCancelled(run_id, "it was terminated on the server: fork it, or start another run")
    if isinstance(cause, WorkflowTimeout):
        return RunCancelled(run_id, "the execution timeout of its workflow passed: fork it, or start another run")
    if isinstance(cause, ApplicationError) and cause.type == RUN_FAILED and cause.details:
        end = unpack(cause.details[0])
        failure = end["error"] if isinstance(end, dict) else None
        if isinstance(failure, tuple):  # and not a reference to a large one
            node, kind, message, attempts, _ = failure
            return RunFailed(run_id, node, attempts, Failure(node, kind, message, attempts))
    return RunFailed(run_id, "", 0, _text_of(cause))


def _is_about_size(text: str) -> bool:
    return any(part in text for part in _TOO_LARGE)


def _text_of(error: BaseException) -> str:
    return getattr(error, "message", "") or str(error)
