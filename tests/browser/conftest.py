"""A real browser, and pages of histories in it. Where there is none, these tests are skipped."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_serve_chaos.events import ComponentCame, ComponentGone, ServeSaid
from pytest_serve_chaos.model import Expectations, Request
from pytest_serve_chaos.report import Outcomes
from pytest_serve_chaos.report.page import page
from pytest_serve_chaos.results import result_of
from tests.unit.histories import FAULT, Story, component, head_failure

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
"""What the program of a browser may be called, where SERVE_CHAOS_BROWSER does not name it."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium without a window."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    named = os.environ.get("SERVE_CHAOS_BROWSER")
    program = named or next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"there is no browser: none of {', '.join(NAMES)}, and SERVE_CHAOS_BROWSER is not set")
    # Chromium's own sandbox refuses to run as root; what it loads here are files of this test.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with (
        api.sync_playwright() as programs,
        programs.chromium.launch(executable_path=program, args=arguments) as started,
    ):
        yield started


@pytest.fixture(scope="session")
def story() -> Story:
    """The head is lost and comes back: losses on both kinds of connections, processes, and what Serve said."""
    story = head_failure(Expectations(slow_after=0.5)).lose(2.0, 3.0, error="ReadTimeout", every=2)
    story.slow(3.0, 3.5, 0.9)
    for role in ("head", "gcs", "controller"):
        old, new = component(role, "head"), component(role, "head", incarnation=2)
        story.add(0.05, ComponentGone(f"{role} is gone", component=old))
        story.add(6.0, ComponentCame(f"{role} is there", component=new))
    everything = {"Serve": "answers", "app shop": "RUNNING", "proxy on head": "HEALTHY"}
    story.add(-9.0, ServeSaid("all is well", statuses=everything))
    story.add(1.0, ServeSaid("silent", statuses={"Serve": "does not answer"}))
    story.add(7.0, ServeSaid("again", statuses={"Serve": "answers", "app shop": "DEPLOYING"}))
    story.add(9.0, ServeSaid("well", statuses={"app shop": "RUNNING"}))
    for number in range(600):
        at = FAULT - 5 + number / 20
        error = "ReadError" if 0.0 <= at - FAULT < 0.2 else None
        story.requests.append(Request(number, "kept:0", at, at, at + 0.003, error=error, path="proxy on worker-1"))
    return story


@pytest.fixture(scope="session")
def report(story: Story, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of that story."""
    return write(tmp_path_factory.mktemp("report") / "report.html", story)


def write(path: Path, *stories: Story) -> Path:
    """Writes the page of these experiments."""
    history = stories[0].history()
    for number, story in enumerate(stories[1:], start=1):
        story.add_to(history, later=1000.0 * number)
    results = tuple(result_of(history, story.experiment) for story in stories)
    path.write_text(page(Outcomes(history, results)), encoding="utf-8")
    return path
