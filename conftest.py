"""What all tests of this repository share: pytester, which runs pytest inside of the tests in `tests/plugin`."""

from __future__ import annotations

pytest_plugins = ("pytester",)
