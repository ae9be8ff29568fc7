"""Small rules that several decisions share: names of signals, limits, pauses between attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from beluga_graph.kernel.shape import NodeShape, Shape
    from beluga_graph.kernel.snapshot import Snapshot

__all__ = [
    "RETRY_AFTER_MS_MAX",
    "answer_signal",
    "get_limit",
    "is_answer",
    "retry_delay_ms",
    "signal_of",
]

RETRY_AFTER_MS_MAX = 120_000

_ANSWER = "approval:"


def answer_signal(token: str) -> str:
    """Return the name of the signal that answers a token's question. Each question has its own."""
    return f"{_ANSWER}{token}"


def is_answer(signal: str | None) -> bool:
    """Return whether a signal is the answer to a question."""
    return signal is not None and signal.startswith(_ANSWER)


def signal_of(node: NodeShape, token: str) -> str | None:
    """Return the name of the signal that a token at this wait needs."""
    return answer_signal(token) if node.asks else node.signal


def get_limit(shape: Shape, run: Snapshot, name: str) -> int:
    """Return a limit: the run's own, else the graph's."""
    own = run.limits.get(name)
    return shape.limits[name] if own is None else own


def retry_delay_ms(node: NodeShape, token: str, attempts: int, requested_ms: int | None) -> int:
    """Return the pause before the next attempt: exponential, capped, with jitter.

    The jitter is a checksum of token and attempt, so every owner and every replay computes the same pause. A
    provider's request for a longer pause is honoured up to `RETRY_AFTER_MS_MAX`.
    """
    retry = node.retry
    assert retry is not None
    pause = float(min(retry.initial_ms, retry.maximum_ms))
    for _ in range(1, attempts):
        if pause in (0, retry.maximum_ms):
            break
        pause = min(pause * retry.factor, float(retry.maximum_ms))
    spread = crc32(f"{token}:{attempts}".encode("utf-8", "surrogatepass")) / 0xFFFFFFFF * 2 - 1  # in [-1, 1]
    pause *= 1 + retry.jitter * spread
    return max(int(pause), min(requested_ms or 0, RETRY_AFTER_MS_MAX))
