"""Inspection: read-only questions about the runs of a store."""
