"""Settings for all tests, and the path of the helpers that several folders share."""

import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

sys.path.append(str(Path(__file__).with_name("shared")))

# An example takes longer on a busy machine: no property is about time.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
