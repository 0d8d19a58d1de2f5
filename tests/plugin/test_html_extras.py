"""pytest-html's page, where it is installed: its rows lead to the run's own reports."""

from __future__ import annotations

import html
import json
import re
import sys
from urllib.parse import unquote

import pytest

from tests.plugin.conftest import Ran, RunChaos

pytest.importorskip("pytest_html")

PAGE = ("-p", "pytest_metadata.plugin", "-p", "pytest_html.plugin", "-W", "ignore:Module already imported")

TESTS = """
def test_by_hand(chaos):
    chaos.replica().kill()

def test_that_breaks_nothing(serve_cluster):
    pass
"""


def rows(ran: Ran, page: str) -> dict[str, list[dict[str, str]]]:
    """The extras of each test, as the page has them."""
    (blob,) = re.findall(r'data-jsonblob="([^"]*)"', (ran.path / page).read_text())
    tests = json.loads(html.unescape(blob))["tests"]
    return {name.rpartition("::")[2]: runs[0]["extras"] for name, runs in tests.items()}


def test_a_row_leads_to_the_report_of_the_run(run_chaos: RunChaos) -> None:
    ran = run_chaos(TESTS, *PAGE, "--html=ci/page one.html", "--self-contained-html")

    ran.outcomes(passed=2)
    found = rows(ran, "ci/page one.html")
    assert found["test_that_breaks_nothing"] == []
    (link,) = (one for one in found["test_by_hand"] if one["format_type"] == "url")
    assert link["name"] == "serve chaos"
    assert (ran.path / "ci" / unquote(link["content"])).resolve().is_file()


def test_where_no_page_is_asked_for_nothing_is_imported(run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytest_html", None)
    run_chaos(TESTS).outcomes(passed=2)
