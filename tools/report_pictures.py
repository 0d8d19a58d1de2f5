"""Pictures of `report.html` for the README and the docs, of a recorded history, in a real browser.

``python tools/report_pictures.py docs/pictures`` draws the history in that directory (`history.jsonl.gz`: an experiment
of a real run). With ``--record EXPERIMENT HISTORY`` it first replaces that by an experiment of another history.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pytest_serve_chaos.history import History
from pytest_serve_chaos.report import Outcomes
from pytest_serve_chaos.report.page import page
from pytest_serve_chaos.results import results_of

RECORDED = "history.jsonl.gz"

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")

Theme = Literal["light", "dark"]
THEMES: tuple[Theme, ...] = ("light", "dark")

WIDTHS = {"wide": 1280, "narrow": 390}

_AROUND = 3.0
"""Seconds before and after the events of an experiment whose requests are kept."""

_COMMON = ("run", "warning", "machine")
"""Kinds of events that belong to no experiment, and are kept."""

_NOT_DRAWN = ("log_lines", "repeat")
"""Kinds of events that no picture shows, and that name files of the machine of the run."""


def record(history: Path, experiment: str, target: Path) -> None:
    """Keeps one experiment of a history, deflated."""
    lines = [json.loads(line) for line in history.read_text(encoding="utf-8").splitlines()]
    own = [line["at"] for line in lines if line.get("experiment") == experiment]
    if not own:
        raise SystemExit(f"{history} has no experiment {experiment!r}")
    begin, end = min(own) - _AROUND, max(own) + _AROUND
    kept = "".join(
        json.dumps(line, separators=(",", ":")) + "\n" for line in lines if _is_kept(line, experiment, begin, end)
    )
    target.write_bytes(gzip.compress(kept.encode(), 9, mtime=0))


def _is_kept(line: dict[str, object], experiment: str, begin: float, end: float) -> bool:
    at = line.get("scheduled", line.get("at"))
    inside = isinstance(at, float | int) and begin <= at <= end
    match line.get("type"):
        case "request":
            return inside
        case "event":
            is_common = line.get("kind") in _COMMON and not line.get("experiment")
            if line.get("kind") in _NOT_DRAWN:
                return False
            return line.get("experiment") == experiment or (is_common and (inside or line.get("kind") != "machine"))
    return True


def write_page(recorded: Path, target: Path) -> None:
    """The page of a recorded history."""
    with tempfile.TemporaryDirectory() as directory:
        plain = Path(directory) / "history.jsonl"
        plain.write_bytes(gzip.decompress(recorded.read_bytes()))
        history = History.load(plain)
        target.write_text(page(Outcomes(history, results_of(history))), encoding="utf-8")


def _lacks() -> str:
    """What it takes to draw and is not here; "" if nothing."""
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed"
    return "" if any(map(shutil.which, PROGRAMS)) else f"there is no browser: none of {', '.join(PROGRAMS)}"


def draw(html: Path, directory: Path) -> Iterator[Path]:
    """Draws the first experiment of a page at each width in each theme; gives each picture that it wrote."""
    if lacks := _lacks():
        raise SystemExit(lacks)
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, PROGRAMS)))
    with sync_playwright() as programs, programs.chromium.launch(executable_path=program, args=["--no-sandbox"]) as one:
        for name, width in WIDTHS.items():
            for theme in THEMES:
                shown = one.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
                shown.goto(html.as_uri())
                shown.wait_for_selector(".picture[data-ready]")
                shown.wait_for_timeout(300)
                target = directory / f"report-{name}-{theme}.png"
                shown.locator(".picture").screenshot(path=target)
                yield target
                shown.close()


def main(arguments: list[str]) -> int:
    """Draws all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--record", nargs=2, metavar=("EXPERIMENT", "HISTORY"))
    parser.add_argument("--where-possible", action="store_true", help="leave the pictures alone without a browser")
    given = parser.parse_args(arguments)
    if given.where_possible and _lacks():
        print(f"the pictures stay as they are: {_lacks()}")
        return 0
    recorded = given.directory / RECORDED
    if given.record:
        record(Path(given.record[1]), given.record[0], recorded)
    with tempfile.TemporaryDirectory() as temporary:
        html = Path(temporary) / "report.html"
        write_page(recorded, html)
        for picture in draw(html, given.directory):
            print(picture)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
