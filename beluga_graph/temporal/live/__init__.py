"""Live records of attempts, and the ways on which they reach the followers of a run: side channel and heartbeats."""
