"""Runs flows on Temporal: the same flows, walked by the same kernel within a workflow of the server."""
