"""How properties are tried."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A property says nothing of how long it takes: on a busy machine one example may wait for the processor. The examples
# are the same in each run, so that what turns red is what was changed.
settings.register_profile("unhurried", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
