"""pytest-html's page, where it is installed: its rows lead to the run's own reports."""

from __future__ import annotations

import base64
import html
import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from urllib.parse import unquote

import pytest

from pytest_serve_chaos.session import html_extras
from tests.plugin.conftest import Ran, RunChaos

pytest.importorskip("pytest_html")

PAGE = ("-p", "pytest_metadata.plugin", "-p", "pytest_html.plugin", "-W", "ignore:Module already imported")

TESTS = """
import pytest

@pytest.mark.replica_failure
def test_replica(experiment):
    experiment.measure(window="500ms")

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

    ran.outcomes(passed=3)
    found = rows(ran, "ci/page one.html")
    assert found["test_that_breaks_nothing"] == []
    (link,) = found["test_by_hand"]
    assert (link["name"], link["format_type"]) == ("serve chaos", "url")
    assert (ran.path / "ci" / unquote(link["content"])).resolve().is_file()
    _, picture = found["test_replica"]
    kind, _, svg = picture["content"].partition(";base64,")
    assert (kind, picture["name"]) == ("data:image/svg+xml", "replica")
    assert "replica: " in (ElementTree.fromstring(base64.b64decode(svg))[0].text or "")


def test_where_no_page_is_asked_for_nothing_is_imported(run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytest_html", None)
    run_chaos(TESTS.partition("@")[0] + "def test_it(serve_cluster): pass").outcomes(passed=1)


def test_a_picture_that_cannot_be_drawn_costs_nothing(run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(timeline: object) -> str:
        raise KeyError("nothing")

    monkeypatch.setattr(html_extras, "timeline_svg", fails)
    ran = run_chaos(TESTS.partition("def test_by_hand")[0], *PAGE, "--html=page.html", "--self-contained-html")

    ran.outcomes(passed=1)
    _, why = rows(ran, "page.html")["test_replica"]
    assert b"no picture of replica: KeyError: 'nothing'" in base64.b64decode(why["content"].partition(";base64,")[2])
