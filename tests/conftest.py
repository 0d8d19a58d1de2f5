"""How properties are tried."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A property says nothing of how long it takes: on a busy machine one example may wait for the processor.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
