"""Lets the tests of plans step through runs with the helper of the kernel's tests."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "kernel"))
