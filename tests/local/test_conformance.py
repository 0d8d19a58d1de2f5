"""The local backend passes the tests that a backend of a third party must pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pytest_serve_chaos.testing import BackendConformance
from tests.local.test_lifecycle import directories, runs


class TestLocal(BackendConformance):
    backend = "local"
    options: ClassVar[Mapping[str, str]] = {"workers": "2"}
    before: ClassVar[set[str]] = set()

    @classmethod
    def setup_class(cls) -> None:
        """Notes what other runs have on this machine, and the run of this very test."""
        cls.before = runs() | directories()

    def leftovers(self) -> Sequence[str]:
        """Processes and directories that were not there before."""
        return [f"{name} has left something" for name in sorted((runs() | directories()) - self.before)]
