"""A program that reads a case from each line and prints the digest of everything that its run wrote to disk.

It is one side of a comparison between processes with different hash seeds.
"""

from __future__ import annotations

import sys

import graphs
from simulation import steps_digest

if __name__ == "__main__":
    for line in sys.stdin:
        case = eval(line, vars(graphs))  # the line is the repr of frozen dataclasses, from the parent
        print(steps_digest(*case, build=graphs.build))
