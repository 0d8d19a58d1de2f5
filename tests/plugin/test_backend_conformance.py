"""The backend of fake clusters passes the tests that a backend of a third party must pass."""

from __future__ import annotations

from pytest_serve_chaos.testing import BackendConformance


class TestFake(BackendConformance):
    plugin = "pytest_serve_chaos.testing.plugin"
    backend = "fake"
