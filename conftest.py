"""For all tests: pytest's own fixture for tests of plugins."""

from __future__ import annotations

pytest_plugins = ["pytester"]
