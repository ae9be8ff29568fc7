"""Trace: what a run did, as a fold over its committed steps."""
