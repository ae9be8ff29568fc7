"""Benchmarks: nine workloads on the engine and on raw stores and raw asyncio, side by side in one run.

    python -m benchmarks --quick                 every workload at small sizes, under a minute
    python -m benchmarks                         every workload in full, under 15 minutes
    python -m benchmarks -w w1,w5 -v commit,lmdb-sync --reps 5

The map:

    __main__    the command line
    suite       one fresh process per (variant, workload, size), shuffled over repetitions
    child       the measurement in such a process; `cold` measures the start of one
    workloads   W1 to W9: sizes, steps, metrics
    adapters    run the workloads: `ours`, `raw_stores`, `raw_asyncio`
    figures     medians and ratios        bars     the promised limits
    tables      the report on the terminal     charts     growth laws as SVG
    machine     the machine that the figures were measured on
    parked      the cost of parked runs: a command of its own
    temporal    the cost of a step on a Temporal server: a command of its own

This module imports nothing, so that a child process measures only its own imports.
"""
