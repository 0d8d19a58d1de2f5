"""What the page of pytest-html shows of a test: a link to the page of the run, and pictures of experiments."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from types import ModuleType
from typing import TypeAlias
from urllib.parse import quote

import pytest

from pytest_serve_chaos.errors import in_one_line
from pytest_serve_chaos.report.picture import timeline_svg
from pytest_serve_chaos.report.registry import Reporters
from pytest_serve_chaos.report.timeline import timeline_of
from pytest_serve_chaos.session.lending import Lending, RigUse
from pytest_serve_chaos.session.lifetime import RunLifetime
from pytest_serve_chaos.session.results import Results

Extra: TypeAlias = "dict[str, str | None]"

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
        results: Of all experiments.
        reporters: Know which files a run has.
    """

    def __init__(
        self, config: pytest.Config, lifetime: RunLifetime, lending: Lending, results: Results, reporters: Reporters
    ) -> None:
        self._page = Path(os.path.expandvars(config.getoption("htmlpath"))).expanduser().resolve()
        self._lifetime = lifetime
        self._lending = lending
        self._results = results
        self._file = next((one.file for one in reporters if one.name == "html" and one.file), "summary.json")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Adds the link and the pictures to the report of a test that broke something."""
        report = yield
        use, run = self._lending.use_of(item), self._lifetime.begun
        if report.when == "call" and run is not None and use is not None and use.names:
            from pytest_html import extras

            there = quote(Path(os.path.relpath(run.directory / self._file, self._page.parent)).as_posix())
            added = [extras.url(there, name="serve chaos"), *self._pictures(use, extras)]
            setattr(report, _EXTRAS, [*getattr(report, _EXTRAS, []), *added])
        return report

    def _pictures(self, use: RigUse, extras: ModuleType) -> Iterator[Extra]:
        """Of each experiment that the test has had judged; why there is none, where one cannot be drawn."""
        for result in self._results.since(use.results_before):
            try:
                svg = timeline_svg(timeline_of(result, use.rig.history)).encode("utf-8")
                yield extras.svg(base64.b64encode(svg).decode("ascii"), name=result.experiment)
            except Exception as error:  # raised here, it would end the whole run
                yield extras.text(f"no picture of {result.experiment}: {in_one_line(error)}")
