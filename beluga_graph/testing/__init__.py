"""Parts for the tests of your own graphs."""

from beluga_graph.testing.clock import VirtualClock

__all__ = ["VirtualClock"]
