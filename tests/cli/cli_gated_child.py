"""The command line with a demo that reads N documents (the first argument), then waits until its input is closed."""

import itertools
import os
import sys

from beluga_graph.cli import main
from beluga_graph.demo import pipeline

free, reads = int(sys.argv.pop(1)), itertools.count()


class Gate:
    """Replaces `time` in the demo, which sleeps before each document."""

    @staticmethod
    def sleep(_: float) -> None:
        if next(reads) >= free:
            os.read(0, 1)


vars(pipeline)["time"] = Gate
main()
