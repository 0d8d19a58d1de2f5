"""The page of all runs in a real browser: at each width and in each theme, without a network and without scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from pytest_serve_chaos.runs.directory import write_index

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WIDE, NARROW = 1280, 390

HOSTILE = '</td></table><script>document.title = "owned"</script><img src="http://192.0.2.1/x.png">' + "x" * 200


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of runs that passed, failed, went wrong and are hostile."""
    reports = tmp_path_factory.mktemp("reports")
    verdicts: tuple[list[str] | None, ...] = (
        ["passed"] * 12,
        ["passed", "failed", "inconclusive", "measured"],
        None,
        [HOSTILE],
        [],
    )
    for day, found in enumerate(verdicts, start=1):
        run = reports / f"2026-11-{day:02}T18-04-11"
        run.mkdir()
        (run / "history.jsonl").touch()
        (run / "report.html").write_text("<title>A report</title>")
        if found is not None:
            names = {"app": HOSTILE, "backend": "kind", "ray_version": "2.60.0"}
            experiments = [{"experiment": f"head_lost_{HOSTILE}", "verdict": v, "reasons": [HOSTILE]} for v in found]
            (run / "summary.json").write_text(json.dumps({"run": names, "experiments": experiments}))
    return write_index(reports)


def opened(browser: Browser, index: Path, width: int, theme: Literal["light", "dark"]) -> tuple[Page, list[str]]:
    """The page, and what it asked of a network or complained about."""
    wrong: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)

    def asked(url: str) -> None:
        if url != index.as_uri():
            wrong.append(url)

    page.on("console", lambda message: wrong.append(message.text))
    page.on("request", lambda request: asked(request.url))
    page.goto(index.as_uri())
    return page, wrong


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_fits_and_loads_nothing(
    browser: Browser, index: Path, width: int, theme: Literal["light", "dark"]
) -> None:
    page, wrong = opened(browser, index, width, theme)
    assert page.title() == "Runs of pytest-serve-chaos"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("tbody tr").count() == 5
    assert page.locator("script, img").count() == 0
    assert wrong == []
    light = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert light == (theme == "light")
    page.close()


def test_the_first_link_by_keyboard_is_the_newest_report(browser: Browser, index: Path) -> None:
    page, _ = opened(browser, index, WIDE, "light")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "2026-11-05T18-04-11/report.html"
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert page.title() == "A report"
    page.close()
