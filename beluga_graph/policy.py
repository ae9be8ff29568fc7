"""Policies: retries of failed attempts, and limits of a run."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import inf

__all__ = ["SECONDS_MAX", "Limits", "Retry", "require_at_least_one"]

SECONDS_MAX = 3_155_760_000
"""The longest pause: a hundred years. Times are stored as eight bytes of milliseconds."""


def require_at_least_one(name: str, value: int | None) -> int | None:
    """Return `value` if it is at least 1 or `None`. Raises `ValueError` otherwise; `name` is part of its text."""
    if value is not None and value < 1:
        msg = f"{name}={value}: give at least 1"
        raise ValueError(msg)
    return value


@dataclass(frozen=True, slots=True)
class Retry:
    """A retry policy: repeat a failed attempt, after a pause that grows.

    The pause before attempt n + 1 is `initial * factor ** (n - 1)` seconds, at most `maximum`, times a factor between
    `1 - jitter` and `1 + jitter`. That factor is a checksum of node and attempt, so every process that drives the run
    computes the same pause. Attempts are counted in the run itself: a crash does not reset them.

    ```python
    @graph.node(retry=Retry(attempts=5, initial=0.5, give_up_on=(PermissionError,)))
    async def fetch(url: str) -> bytes: ...
    ```

    Attributes:
        attempts: The largest number of attempts, the first included.
        initial: Seconds before the second attempt.
        factor: The growth of each further pause.
        maximum: The longest pause, in seconds.
        jitter: The share of the pause that varies, 0 to 1.
        retry_on: The exceptions that are retried.
        give_up_on: Exceptions that are not retried, even if `retry_on` names one of their bases.
    """

    attempts: int = 3
    initial: float = 0.1
    factor: float = 2.0
    maximum: float = 10.0
    jitter: float = 0.0
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    give_up_on: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        """Raise `ValueError` for a value out of its range."""
        if type(self.attempts) is not int or self.attempts < 1:
            msg = f"Retry(attempts={self.attempts!r}): give a whole number of at least 1"
            raise ValueError(msg)
        if not 0 <= self.jitter <= 1:
            msg = f"Retry(jitter={self.jitter}): give a share between 0 and 1"
            raise ValueError(msg)
        if not (0 <= self.initial <= SECONDS_MAX and 0 <= self.maximum <= SECONDS_MAX and 1 <= self.factor < inf):
            msg = f"{self}: initial and maximum are seconds, from 0 to a hundred years; factor is >= 1, and finite"
            raise ValueError(msg)

    def allows(self, error: BaseException) -> bool:
        """Return whether an attempt that raised this exception is retried."""
        return isinstance(error, self.retry_on) and not isinstance(error, self.give_up_on)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on a run. A run that passes one fails with `LimitReached`, which names the limit.

    Attributes:
        max_visits: Visits of one node in one scope: the run, one entry of a sub-flow, or one branch of a fan-out.
        max_steps: Finished nodes of the run. Steps that finish no node, such as those of timers and signals, do not
            count.
        max_turns: Model turns of one agent.
        max_width: Branches of one fan-out.
        max_value_bytes: Bytes of one encoded value. A run can only narrow its graph's limit.
        max_handoffs: Handoffs within one agent call.
        max_interruptions: Crashes of the driving process while one node ran. After more of them, the run fails with
            `Interrupted`; `resume` continues it. From half of them on, the node runs apart from others like it.
    """

    max_visits: int = 10_000
    max_steps: int = 1_000_000
    max_turns: int = 10
    max_width: int = 10_000
    max_value_bytes: int = 64 * 1024 * 1024
    max_handoffs: int = 25
    max_interruptions: int = 5

    def __post_init__(self) -> None:
        """Raise `ValueError` for a limit that is not an `int` of at least 1: limits are stored with each run."""
        for field in fields(self):
            if type(value := getattr(self, field.name)) is not int or value < 1:
                msg = f"Limits({field.name}={value!r}): a limit is a whole number of at least 1"
                raise ValueError(msg)

    def overrides(self) -> dict[str, int]:
        """Return the limits that differ from the defaults: those that a run overrides of its graph's."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) != field.default}

    def as_dict(self) -> dict[str, int]:
        """Return the limits by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
