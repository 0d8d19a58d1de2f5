"""``serve-chaos open``: shows the newest report, or the page of all runs."""

from __future__ import annotations

import argparse
import os
import shlex
import webbrowser
from collections.abc import Callable, Mapping
from pathlib import Path

from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.options import option
from pytest_serve_chaos.runs.directory import HISTORY, PAGE, nearest, newest_page, runs_in, write_index


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "directory",
        nargs="?",
        type=Path,
        metavar="DIRECTORY",
        help="of one run, or of the reports of several; default: .serve-chaos here, or in a directory above",
    )
    parser.add_argument("--index", action="store_true", help="make the page of all runs again, and show it")


def open_report(
    given: argparse.Namespace,
    say: Callable[[str], None],
    *,
    environment: Mapping[str, str] = os.environ,
    browse: Callable[[str], bool] = webbrowser.open,
) -> int:
    """Prints where a page is, and shows it where there is a browser to show it in.

    Args:
        given: What `add_arguments` takes.
        say: Prints a line.
        environment: Says whether somebody sits at this machine.
        browse: Shows a URL, and returns whether it could.

    Returns:
        0.

    Raises:
        SettingsError: There is no such page.
        SafetyError: There is a page of somebody else's where that of all runs would be.
        OSError: The directory cannot be read.
    """
    directory = _directory(given.directory, environment)
    if not directory.is_dir():
        raise SettingsError(
            f"there is no directory {directory}",
            checked=[str(directory.absolute())],
            fix=["give the directory of a run, or one with the reports of several, such as .serve-chaos"],
        )
    if given.index and not runs_in(directory):
        raise _no_page(directory, None)
    page = (write_index(directory) if given.index else _page(directory)).absolute()
    say(str(page))
    if not _has_browser(environment):
        say("the page was not opened: no browser can be shown from here")
    elif not browse(page.as_uri()):
        say("the page was not opened: no browser was found")
    return 0


def _directory(given: Path | None, environment: Mapping[str, str]) -> Path:
    if given is not None:
        return given
    reports = option("report_dir")
    named = environment.get(reports.env)
    if named:
        return Path(named)
    here = Path.cwd()
    found = next(nearest(str(reports.default), here), None)
    if found is None:
        raise SettingsError(
            f"there is no directory {reports.default} here",
            checked=[f"{here} and the directories above it"],
            fix=["give the directory of reports: serve-chaos open DIRECTORY", "or run pytest --serve-chaos first"],
        )
    return found


def _page(directory: Path) -> Path:
    """The report of a run, or the newest of a directory of reports."""
    if (directory / HISTORY).is_file():
        if (directory / PAGE).is_file():
            return directory / PAGE
        raise _no_page(directory, directory)
    page = newest_page(directory)
    if page is None:
        runs = runs_in(directory)
        raise _no_page(directory, runs[0] if runs else None)
    return page


def _no_page(directory: Path, newest: Path | None) -> SettingsError:
    if newest is None:
        return SettingsError(f"there is no run in {directory}", fix=["run pytest --serve-chaos first"])
    return SettingsError(
        f"no run in {directory} has a {PAGE}",
        fix=[f"make it from what was recorded: serve-chaos report {shlex.quote(str(newest))}"],
    )


def _has_browser(environment: Mapping[str, str]) -> bool:
    """Whether a window can be shown to who typed the command; $BROWSER may be a program that can do that over SSH."""
    if environment.get("BROWSER"):
        return True
    remote = environment.get("SSH_CONNECTION") or environment.get("SSH_TTY")
    return not remote and bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))
