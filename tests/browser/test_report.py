"""`report.html` in a real browser: it shows what is in the history, at each width, in each theme, and by keyboard."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.events import LogsExcerpted
from pytest_serve_chaos.model import LogLine, Request
from tests.browser.conftest import write
from tests.unit.histories import FAULT, Story, head_failure, node_failure, not_started, trials
from tests.unit.test_html_page import HOSTILE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Theme = Literal["light", "dark"]

WIDE, NARROW = 1280, 390


class Shown:
    """A page that is open, and what went wrong in it.

    Args:
        page: Of the browser.
        path: The file that it shows.
    """

    def __init__(self, page: Page, path: Path) -> None:
        self.page = page
        self.problems: list[str] = []
        self.requested: list[str] = []
        page.on("console", lambda message: self.problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda request: self.requested.append(request.url))
        page.on("dialog", lambda dialog: self.problems.append(f"dialog {dialog.message}"))
        page.goto(path.as_uri())

    def drawn(self) -> Shown:
        """Waits until the first picture is there."""
        self.page.wait_for_selector(".picture[data-ready]")
        return self

    def wait_for(self, condition: str) -> None:
        """Waits until that holds. `Page.wait_for_function` would need what the page forbids: text that becomes code."""
        clock.wait_until(condition, lambda: self.page.evaluate(condition) or NotYet("no"), timeout=20.0, interval=0.05)

    @property
    def picture(self) -> dict[str, str]:
        """What the first picture says of itself."""
        found = self.page.eval_on_selector(".picture", "one => ({...one.dataset})")
        return {str(name): str(value) for name, value in found.items()}

    @property
    def view(self) -> tuple[float, float]:
        """From when until when it shows."""
        return float(self.picture["begin"]), float(self.picture["end"])

    def key(self, *keys: str) -> None:
        """Presses keys in the first picture."""
        self.page.focus(".stage")
        for key in keys:
            self.page.keyboard.press(key)


@pytest.fixture
def show(browser: Browser) -> Iterator[Callable[..., Shown]]:
    """Opens a file; that nothing goes wrong in it is part of each test."""
    opened: list[Shown] = []

    def open_page(path: Path, *, width: int = WIDE, theme: Theme = "light") -> Shown:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
        opened.append(Shown(page, path))
        return opened[-1]

    yield open_page
    for one in opened:
        one.page.close()
    assert [one.problems for one in opened if one.problems] == []
    assert all(url.startswith(("file:", "blob:", "data:")) for one in opened for url in one.requested)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_it_fits_and_is_drawn(show: Callable[..., Shown], report: Path, width: int, theme: Theme) -> None:
    page = show(report, width=width, theme=theme).drawn().page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    background = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    brightness = sum(map(int, re.findall(r"\d+", background)[:3])) / 3
    assert (brightness < 128) == (theme == "dark")
    drawn = page.eval_on_selector_all(
        ".uplot canvas",
        """all => all.map(one => one.getContext("2d").getImageData(0, 0, one.width, one.height).data
            .reduce((sum, value, place) => sum + (place % 4 === 3 && value > 0), 0))""",
    )
    assert len(drawn) == 2
    assert min(drawn) > 1000, "pixels that are not empty"


def test_every_request_and_every_process_is_in_it(show: Callable[..., Shown], report: Path, story: Story) -> None:
    shown = show(report).drawn()
    lost = sum(request.lost for request in story.requests)
    assert int(shown.picture["requests"]) == len(story.requests)
    assert int(shown.picture["losses"]) == lost
    processes = shown.page.locator('[data-lane="process"]')
    assert processes.count() == 12
    assert shown.page.locator('[data-lane="status"]').count() == 3
    (controller,) = (one for one in processes.all() if "controller" in one.inner_text())
    assert controller.locator(".life").count() == 2
    assert controller.locator(".life.victim").count() == 0, "the fault was aimed at the head"


def test_a_zoom_moves_both_plots_and_all_lanes(show: Callable[..., Shown], report: Path) -> None:
    shown = show(report).drawn()
    scales = """() => [pictures.get(document.querySelector(".picture"))].flatMap(one => [one.scatter, one.rate])
        .map(one => [one.plot.scales.x.min, one.plot.scales.x.max])"""
    place = ".life.began >> nth=0"
    before = shown.page.locator(place).evaluate("one => one.style.left")
    box = shown.page.locator(".u-over").first.bounding_box()
    assert box is not None
    shown.page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 100)
    shown.page.mouse.down()
    shown.page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 110, steps=5)
    shown.page.mouse.up()
    begin, end = shown.view
    assert (begin, end) == pytest.approx((-3.0, 11.0), abs=0.3)
    assert shown.page.evaluate(scales) == [pytest.approx([begin, end], abs=1e-3)] * 2
    assert shown.page.locator(place).evaluate("one => one.style.left") != before
    left = shown.page.locator(place).evaluate("one => parseFloat(one.style.left)")
    assert left == pytest.approx(100 * (6.0 - begin) / (end - begin), abs=0.1), "the new head came at 6 s"


def test_it_can_be_used_by_keyboard(show: Callable[..., Shown], report: Path) -> None:
    shown = show(report).drawn()
    everything = shown.view
    shown.key("+")
    assert shown.view[1] - shown.view[0] == pytest.approx((everything[1] - everything[0]) / 2, abs=0.01)
    shown.key("ArrowRight")
    shown.key("f")
    assert shown.view[0] == -1.0
    shown.key("0")
    assert shown.view == everything
    shown.key("n", "n", "n", "n", "Enter")
    panel = shown.page.locator(".panel")
    assert "Lost:" in panel.inner_text()
    assert shown.page.evaluate("document.activeElement.className") == "panel"
    shown.page.focus(".stage")
    shown.page.keyboard.press("Escape")
    assert panel.is_hidden()
    reached = set()
    shown.page.evaluate("document.activeElement.blur()")
    for _ in range(40):
        shown.page.keyboard.press("Tab")
        reached.add(shown.page.evaluate("document.activeElement.className || document.activeElement.tagName"))
    assert {"skip", "stage", "key fresh", "BUTTON", "SUMMARY"} <= reached


def test_a_click_on_a_loss_shows_what_became_of_it(show: Callable[..., Shown], report: Path) -> None:
    shown = show(report).drawn()
    shown.key("f")
    at = shown.page.evaluate(
        """() => { const one = pictures.get(document.querySelector(".picture"));
            const i = one.losses.indexes.find(i => one.requests.scheduled[i] > 2.1);
            const box = one.scatter.plot.over.getBoundingClientRect();
            return [box.left + one.scatter.plot.valToPos(one.requests.scheduled[i], "x"),
                    box.top + one.scatter.plot.valToPos(one.requests.latency[i], "y")]; }"""
    )
    shown.page.mouse.click(*at)
    text = shown.page.locator(".panel").inner_text()
    for said in ("Lost: ReadTimeout", "lost after", "5.00 s", "proxies", "Serve: does not answer", "gcs: went at"):
        assert said in text
    assert "\noutage\nfrom " in text, "it is part of an outage"


def test_a_lost_request_shows_its_number_its_id_and_the_log_lines_that_name_it(
    show: Callable[..., Shown], tmp_path: Path
) -> None:
    lost = Request(4711, "fresh", FAULT + 1.0, FAULT + 1.0, FAULT + 1.1, 500, "HTTP 500", request_id="5f0c-1")
    lines = (LogLine(30.0, "head", "serve/proxy_a.log", "5f0c-1 GET / 500"), LogLine(30.0, "head", "raylet.out", "no"))
    story = Story().add(61.0, LogsExcerpted("2 lines", lines=lines))
    story.requests.append(lost)
    shown = show(write(tmp_path / "report.html", story)).drawn()
    shown.key("n", "Enter")
    text = shown.page.locator(".panel").inner_text()
    for said in ("4711", "5f0c-1", "lost after", "+30.00 s proxy on head: 5f0c-1 GET / 500"):
        assert said in text
    assert "raylet" not in text, "half a minute later"


def test_an_odd_address_opens_the_page_all_the_same(show: Callable[..., Shown], report: Path) -> None:
    shown = show(report)
    for address in ("#%", "#%ff", "#experiment-99"):
        shown.page.goto(report.as_uri() + address)
    shown.drawn()


def test_what_is_not_wanted_can_be_hidden(show: Callable[..., Shown], report: Path) -> None:
    shown = show(report).drawn()
    pixels = """() => { const canvas = document.querySelector(".uplot canvas");
        return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data
            .reduce((sum, value, place) => sum + (place % 4 === 3 && value > 0), 0); }"""
    before = shown.page.evaluate(pixels)
    button = shown.page.get_by_role("button", name="answered on new connections")
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    shown.wait_for(f"({pixels})() < {before}")


def test_only_what_must_be_looked_at_is_open_at_first(show: Callable[..., Shown], tmp_path: Path) -> None:
    stories = [head_failure(), node_failure(), not_started(), Story("quiet")]
    shown = show(write(tmp_path / "report.html", *stories))
    opened = "all => all.map(one => one.open)"
    assert shown.page.eval_on_selector_all(".experiment > details", opened) == [False, True, True, False]
    shown.page.click('a[href="#experiment-4"]')
    shown.page.wait_for_selector("#experiment-4 .picture[data-ready]")
    assert shown.page.eval_on_selector_all(".experiment > details", opened)[3] is True


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_a_row_of_a_test_leads_to_its_trials(show: Callable[..., Shown], tmp_path: Path, width: int) -> None:
    path = write(tmp_path / "report.html", *trials(["passed", "failed", "passed", "passed"], allowed=1), Story("quiet"))
    page = show(path, width=width).page
    beneath = page.locator("#trials-1 .verdicts")
    assert not beneath.is_visible()
    page.click('a[href="#trials-1"]')
    beneath.wait_for(state="visible")
    assert beneath.locator("tbody tr").count() == 4
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.click('a[href="#experiment-2"]')
    page.wait_for_selector("#experiment-2 .picture[data-ready]")


def test_an_event_leads_to_its_moment(show: Callable[..., Shown], report: Path) -> None:
    shown = show(report).drawn()
    shown.page.get_by_text(re.compile(r"^Events")).click()
    shown.page.locator("button.moment", has_text="+19.80 s").first.click()
    assert shown.view == pytest.approx((17.8, 21.8), abs=0.01)


def test_on_paper_all_is_light_and_unfolded(show: Callable[..., Shown], tmp_path: Path) -> None:
    stories = [head_failure(), node_failure(), not_started(), Story("quiet")]
    shown = show(write(tmp_path / "report.html", *stories), theme="dark")
    shown.page.wait_for_selector("#experiment-2 .picture[data-ready]")
    shown.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    shown.wait_for("document.querySelector('#experiment-2 .uplot').clientWidth <= 680")
    shown.page.wait_for_selector("#experiment-4 .picture[data-ready]")
    assert shown.page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--page')") == "#f6f7f9"
    shown.page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert shown.page.eval_on_selector("#experiment-4 > details", "one => one.open") is False


def test_no_text_of_a_history_runs(show: Callable[..., Shown], tmp_path: Path) -> None:
    story = Story(experiment=HOSTILE).event(1.0, "note", HOSTILE).lose(0.0, 1.0, error=HOSTILE)
    shown = show(write(tmp_path / "report.html", story)).drawn()
    shown.key("n", "Enter")
    assert HOSTILE[:30] in shown.page.locator(".panel").inner_text()
    assert shown.page.locator("img").count() == 0
    refused = shown.page.evaluate(
        """() => new Promise(done => { document.addEventListener("securitypolicyviolation", () => done(true));
            const own = document.createElement("script"); own.textContent = "document.title = 'hacked'";
            document.body.append(own); setTimeout(() => done(document.title !== "hacked"), 200); })"""
    )
    assert refused
    shown.problems = [problem for problem in shown.problems if "Content Security Policy" not in problem]


def test_a_hundred_thousand_requests_are_drawn_at_once(show: Callable[..., Shown], report: Path) -> None:
    shown = show(report).drawn()
    seconds = shown.page.evaluate(
        """() => { const one = pictures.get(document.querySelector(".picture"));
            const rows = 100000;
            const step = (one.end - one.begin) / rows;
            const every = (make) => Float64Array.from({ length: rows }, (_, i) => make(i));
            one.requests = { ...one.requests, rows, scheduled: every(i => one.begin + i * step),
                latency: every(i => 0.002 * Math.exp(5 * ((i * 0.618) % 1))),
                outcome: new Uint32Array(rows), kept: new Uint32Array(rows) };
            one.losses = { indexes: [], row: () => 0, kinds: one.losses.kinds };
            const begin = performance.now();
            for (let turn = 0; turn < 5; turn++) one.scatter.draw(one.scatter.plot);
            return (performance.now() - begin) / 5000; }"""
    )
    assert seconds < 0.5
