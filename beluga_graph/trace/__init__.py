"""The trace of a run: its visits, the edges that it took, and statistics, from its committed steps."""
