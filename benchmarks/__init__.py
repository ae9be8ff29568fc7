"""Benchmarks: nine workloads on the engine and on what it stands on, side by side in one run.

    python -m benchmarks --quick                 every workload at small sizes, under a minute
    python -m benchmarks                         the whole, under a quarter of an hour
    python -m benchmarks -w w1,w5 -v commit,lmdb-sync --reps 5

The map:

    __main__    the command line
    suite       one fresh process per (variant, workload, size), shuffled over repetitions
    child       what such a process does; `cold` is the one that measures its own start
    workloads   W1 to W9: sizes, steps, metrics
    adapters    who runs them: `ours`, `raw_stores`, `raw_asyncio`
    figures     medians and ratios        bars     what is promised, as ratios
    tables      the report on the terminal     charts     growth laws as SVG
    machine     what the figures were measured on

Nothing is imported here: a child process must pay for what it measures and for nothing else.
"""
