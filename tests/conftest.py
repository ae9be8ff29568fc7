"""What all tests share."""

from hypothesis import HealthCheck, settings

# An example takes as long as the machine is busy: no property is about time.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
