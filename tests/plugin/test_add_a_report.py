"""The example of `docs/add-a-report.md`: a plugin of somebody else's adds a report through the hook alone."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import pytest

from pytest_serve_chaos.cli import main
from tests.plugin.conftest import ROOT, RunChaos

DOCS = (ROOT / "docs" / "add-a-report.md").read_text()
(PAGE,) = re.findall(r"^```python\n(# page\.py\n.*?)^```$", DOCS, re.MULTILINE | re.DOTALL)

EXPERIMENT = """
import pytest

@pytest.mark.worker_failure
def test_a_worker_may_go(experiment):
    experiment.run(availability=0.5, window="700ms")
"""
MEASURED = """
def test_it(serve_cluster): pass
"""


@pytest.fixture(autouse=True)
def page(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The plugin, in the current directory."""
    pytester.path.joinpath("page.py").write_text(PAGE)
    monkeypatch.syspath_prepend(pytester.path)
    yield
    sys.modules.pop("page", None)


def test_each_run_writes_it_and_a_history_is_shown_in_its_format(
    run_chaos: RunChaos, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = run_chaos(EXPERIMENT, "-p", "page")

    ran.outcomes(passed=1)
    (directory,) = (path.parent for path in ran.path.glob(".serve-chaos/2*/history.jsonl"))
    written = (directory / "losses.html").read_text()
    assert re.search(r"<td>a_worker_may_go</td><td>passed</td><td>\d+ of \d+</td>", written)
    assert (directory / "summary.json").is_file()

    capsys.readouterr()
    assert main(["analyse", "-p", "page", "--format", "losses", str(directory / "history.jsonl")]) == 0
    assert capsys.readouterr().out.strip() == written.strip()


def test_a_report_that_cannot_be_made_costs_no_other(run_chaos: RunChaos, pytester: pytest.Pytester) -> None:
    pytester.path.joinpath("page.py").write_text(PAGE.replace("    rows = [", "    rows = outcomes.nonsense and ["))

    ran = run_chaos(MEASURED, "-p", "page")

    assert ran.result.ret == pytest.ExitCode.TESTS_FAILED
    ran.result.stdout.fnmatch_lines(["ERROR: the report losses could not be made: AttributeError: *nonsense*"])
    assert ran.summary["schema"] == 2


def test_two_plugins_with_one_name_are_a_usage_error(run_chaos: RunChaos, pytester: pytest.Pytester) -> None:
    pytester.path.joinpath("other.py").write_text(PAGE)

    ran = run_chaos(MEASURED, "-p", "page", "-p", "other")

    assert ran.result.ret == pytest.ExitCode.USAGE_ERROR
    ran.result.stderr.fnmatch_lines(["*a reporter cannot have the name 'losses'*"])
