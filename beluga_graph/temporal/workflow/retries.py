"""How the server repeats activities: for workers that are lost or cannot serve, never for nodes that fail."""

from __future__ import annotations

from datetime import timedelta

from temporalio.common import RetryPolicy

__all__ = ["RETRY"]

RETRY = RetryPolicy(initial_interval=timedelta(milliseconds=100), maximum_interval=timedelta(seconds=10))
"""The policy of every activity: without an end, soon at first."""
