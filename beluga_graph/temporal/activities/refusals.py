"""Refusals: a worker that cannot read the large values of a run leaves the attempt to a worker that can.

The server offers the activity to the workers of its queue again, about a second later, and chance decides which one
gets it. So only many refusals in a row mean that no worker has the values.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from beluga_graph.temporal.claims.backends import ClaimsFailed
from beluga_graph.temporal.claims.claims import ClaimNotFound

__all__ = ["refuse"]

_log = logging.getLogger("beluga_graph.temporal.activities.refusals")

_REFUSALS_MAX = 10
_AGAIN = timedelta(milliseconds=300)


def refuse(error: ClaimNotFound | ClaimsFailed, count: int) -> ApplicationError:
    """Return the error that refuses an activity, because of a large value. `count` is that of refusals in a row.

    The last refusal is final: the attempts of the activity fail with it.
    """
    kind = type(error).__name__
    if count >= _REFUSALS_MAX:
        text = f"workers tried {count} times, and none could read a large value of the run: {error}"
        return ApplicationError(text, type=kind, non_retryable=True)
    if count == 1:
        _log.warning("this worker leaves an attempt to others: %s", error)
    benign = ApplicationErrorCategory.BENIGN  # the SDK logs others with a traceback
    return ApplicationError(str(error), type=kind, next_retry_delay=_AGAIN, category=benign)
