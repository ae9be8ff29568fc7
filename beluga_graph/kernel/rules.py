"""Small rules that every decision shares: names of timers, limits in force, pauses between attempts."""

from __future__ import annotations

from zlib import crc32

from beluga_graph.kernel.shape import NodeShape, Shape
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.types import FailureFields

__all__ = [
    "RETRY_AFTER_MS_MAX",
    "RUN_TIMER",
    "answer_signal",
    "cannot_reach",
    "delay_ms",
    "is_answer",
    "limit",
    "scope_timer",
    "signal_of",
    "token_timer",
]

RETRY_AFTER_MS_MAX = 120_000
RUN_TIMER = "s:"  # the deadline of the run

_ANSWER = "approval:"


def token_timer(token: str) -> str:
    """Name the timer of a token: a retry, a pause, or the timeout of a wait."""
    return f"t:{token}"


def scope_timer(scope: str) -> str:
    """Name the timer of a scope: the deadline of a frame, or the timeout of a join."""
    return f"s:{scope}"


def answer_signal(token: str) -> str:
    """Name the signal that answers a token's question: each has its own, so no answer reaches another question."""
    return f"{_ANSWER}{token}"


def is_answer(signal: str | None) -> bool:
    """Tell whether a signal answers a question."""
    return signal is not None and signal.startswith(_ANSWER)


def signal_of(node: NodeShape, token: str) -> str | None:
    """Return the name of the signal that a token at a wait waits for."""
    return answer_signal(token) if node.asks else node.signal


def limit(shape: Shape, run: Snapshot, name: str) -> int:
    """Return a limit in force: the run's own, else the graph's."""
    own = run.limits.get(name)
    return shape.limits[name] if own is None else own


def cannot_reach(join: NodeShape, why: str, cause: FailureFields | None) -> FailureFields:
    """Return the failure of a join that will not get the successes it waits for."""
    because = f"; the last failure: {cause[1]}: {cause[2]}" if cause else ""
    message = f"join {join.name!r} needs {join.wait} successes and {why}{because}"
    return (join.name, "JoinUnreachable", message, 1, cause[4] if cause else None)


def delay_ms(node: NodeShape, token: str, tried: int, asked_ms: int | None) -> int:
    """Return the pause before the next attempt: exponential, capped, with jitter.

    The jitter is a checksum of token and attempt, so every owner and every replay computes the same pause.
    What a provider asked for is honoured up to `RETRY_AFTER_MS_MAX`.
    """
    retry = node.retry
    assert retry is not None
    pause = float(min(retry.initial_ms, retry.maximum_ms))
    for _ in range(1, tried):
        if pause in (0, retry.maximum_ms):
            break
        pause = min(pause * retry.factor, float(retry.maximum_ms))
    spread = crc32(f"{token}:{tried}".encode("utf-8", "surrogatepass")) / 0xFFFFFFFF * 2 - 1  # in [-1, 1]
    pause *= 1 + retry.jitter * spread
    return max(int(pause), min(asked_ms or 0, RETRY_AFTER_MS_MAX))
