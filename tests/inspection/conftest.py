"""Makes the sample runs of the trace tests and the flows of the pruning tests importable."""

import sys
from pathlib import Path

sys.path.extend(str(Path(__file__).parents[1] / folder) for folder in ("trace", "storage"))
