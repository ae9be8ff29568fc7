"""The inputs of workflows and activities, checked for the format of this release."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from temporalio.exceptions import ApplicationError

from beluga_graph.temporal.workflow.wire import UNKNOWN_FORMAT, check_format, unpack

__all__ = ["require_format", "unpack_input"]


def unpack_input(packed: bytes, *, is_final: bool) -> Any:
    """Return an input as plain data. Raises as `require_format` does."""
    given = unpack(packed)
    require_format(given, is_final=is_final)
    return given


def require_format(given: Mapping[str, Any], *, is_final: bool) -> None:
    """Raise an `ApplicationError` for an input in the format of another release.

    `is_final` is for workflows. The server tries an activity again: another worker may have that release.
    """
    try:
        check_format(given, "the input", "update the worker")
    except ValueError as error:
        raise ApplicationError(str(error), type=UNKNOWN_FORMAT, non_retryable=is_final) from None
