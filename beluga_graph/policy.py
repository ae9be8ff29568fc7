"""Policies: when a failed attempt is made again, and what is counted against a limit."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import inf

__all__ = ["SECONDS_MAX", "Limits", "Retry", "at_least_one"]

SECONDS_MAX = 3_155_760_000
"""A hundred years: the longest pause. Times are stored as eight bytes of milliseconds."""


def at_least_one(name: str, value: int | None) -> int | None:
    """Return a bound that is at least 1, or none. Raises `ValueError`."""
    if value is not None and value < 1:
        msg = f"{name}={value}: give at least 1"
        raise ValueError(msg)
    return value


@dataclass(frozen=True, slots=True)
class Retry:
    """Make a failed attempt again, after a pause that grows.

    The pause before attempt n + 1 is `initial * factor ** (n - 1)` seconds, at most `maximum`, times a factor
    between `1 - jitter` and `1 + jitter` that is a checksum of node and attempt, so that it is the same
    wherever the run goes on. Attempts are counted in the run itself: a crash does not reset them.
    """

    attempts: int = 3
    """How often the node is tried in all."""
    initial: float = 0.1
    """Seconds before the second attempt."""
    factor: float = 2.0
    """What each further pause is multiplied by."""
    maximum: float = 10.0
    """Seconds that no pause exceeds."""
    jitter: float = 0.0
    """Share of the pause that varies, 0 to 1."""
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    """Only these exceptions are tried again."""
    give_up_on: tuple[type[BaseException], ...] = ()
    """These are not, even if `retry_on` names a base of theirs."""

    def __post_init__(self) -> None:
        """Raise `ValueError` for a policy that cannot be meant."""
        if type(self.attempts) is not int or self.attempts < 1:
            msg = f"Retry(attempts={self.attempts!r}): a whole number, and at least 1 attempt is made"
            raise ValueError(msg)
        if not 0 <= self.jitter <= 1:
            msg = f"Retry(jitter={self.jitter}): a share between 0 and 1"
            raise ValueError(msg)
        if not (0 <= self.initial <= SECONDS_MAX and 0 <= self.maximum <= SECONDS_MAX and 1 <= self.factor < inf):
            msg = f"{self}: initial and maximum are seconds, from 0 to a hundred years; factor is >= 1, and finite"
            raise ValueError(msg)

    def allows(self, error: BaseException) -> bool:
        """Tell whether this exception is one to try again after."""
        return isinstance(error, self.retry_on) and not isinstance(error, self.give_up_on)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what a run may do. Passing one raises `LimitReached`, which names it."""

    max_visits: int = 10_000
    """Of one node in one scope."""
    max_steps: int = 1_000_000
    """Finished nodes of the run."""
    max_turns: int = 10
    """Model turns of one agent."""
    max_width: int = 10_000
    """Branches of one fan-out."""
    max_value_bytes: int = 64 * 1024 * 1024
    """Of one encoded value; a run can only narrow what its graph allows."""
    max_handoffs: int = 25
    """Handoffs within one agent call."""
    max_interruptions: int = 5
    """Crashes of the owner while one node ran. From half of them on, the node runs apart from others like it."""

    def __post_init__(self) -> None:
        """Raise `ValueError` for a limit below 1, or one that is no whole number: limits are stored with each run."""
        for field in fields(self):
            if type(value := getattr(self, field.name)) is not int or value < 1:
                msg = f"Limits({field.name}={value!r}): a limit is a whole number of at least 1"
                raise ValueError(msg)

    def overrides(self) -> dict[str, int]:
        """Return what differs from the defaults: what a run asks for on top of its graph's limits."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) != field.default}

    def as_dict(self) -> dict[str, int]:
        """Return the limits by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
