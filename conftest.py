"""What all tests of this repository share: pytester, which runs pytest inside of tests, and how to try properties."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

pytest_plugins = ("pytester",)

# A property says nothing of how long it takes: on a busy machine one example may wait for the processor.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
