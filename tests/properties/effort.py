"""The number of examples of a property: few by default, many with `HYPOTHESIS_PROFILE=thorough`."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_TIMES = 20 if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 1


def examples(count: int) -> settings:
    """Return the settings of a property that is worth `count` examples in a quick run."""
    return settings(
        max_examples=count * _TIMES,
        deadline=None,
        print_blob=True,
        # Graphs are large: drawing one takes long, and some draws are unusable.
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
