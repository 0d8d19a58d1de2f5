"""What pytest-html shows of a test, where it is installed and asked for: a link to the run's own page."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from pathlib import Path
from urllib.parse import quote

import pytest

from pytest_serve_chaos.report.registry import Reporters
from pytest_serve_chaos.session.lending import Lending
from pytest_serve_chaos.session.lifetime import RunLifetime

_EXTRAS = "extras"
"""The attribute of a report that pytest-html reads."""


def is_wanted(config: pytest.Config) -> bool:
    """Whether pytest-html writes a page in this run. Then it is loaded."""
    return bool(config.getoption("htmlpath", None)) and "pytest_html" in sys.modules


class HtmlExtras:
    """Adds to the rows of pytest-html's page.

    Args:
        config: Of pytest.
        lifetime: Of the run, which has the directory.
        lending: Knows which test has had the rig.
        reporters: Know which files a run has.
    """

    def __init__(self, config: pytest.Config, lifetime: RunLifetime, lending: Lending, reporters: Reporters) -> None:
        self._directory = Path(os.path.expandvars(config.getoption("htmlpath"))).expanduser().resolve().parent
        self._lifetime = lifetime
        self._lending = lending
        self._file = next((one.file for one in reporters if one.name == "html" and one.file), "summary.json")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Adds the link to the report of a test that broke something."""
        report = yield
        use, run = self._lending.use_of(item), self._lifetime.begun
        if report.when == "call" and run is not None and use is not None and use.names:
            from pytest_html import extras

            there = quote(Path(os.path.relpath(run.directory / self._file, self._directory)).as_posix())
            setattr(report, _EXTRAS, [*getattr(report, _EXTRAS, []), extras.url(there, name="serve chaos")])
        return report
