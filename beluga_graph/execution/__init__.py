"""Execution: one attempt of one node."""
