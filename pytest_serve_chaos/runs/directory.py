"""The runs in a directory of reports: which there are, which is the newest, and the page of all of them."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from pytest_serve_chaos.errors import SafetyError, in_one_line
from pytest_serve_chaos.runs.page import MARK, index_page
from pytest_serve_chaos.runs.summary import ListedRun, RunSummary, read_summary

LATEST = "latest"
INDEX = "index.html"
HISTORY, SUMMARY, PAGE = "history.jsonl", "summary.json", "report.html"

MOST_RUNS = 500
"""How many the page lists, the newest."""

_MOST_BYTES = 16_000_000
"""Of a summary. That of a run with a thousand experiments has a quarter of it."""

_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d)(?:-(\d+))?")


def runs_in(directory: Path) -> list[Path]:
    """The directories of the runs, the newest first.

    Raises:
        OSError: The directory cannot be read.
    """
    found = [Path(entry.path) for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False)]
    runs = [path for path in found if (path / HISTORY).is_file()]
    return sorted(runs, key=lambda path: (*_began(path), path.name), reverse=True)


def newest_page(directory: Path) -> Path | None:
    """The report of the newest run that has one.

    Raises:
        OSError: The directory cannot be read.
    """
    return next((run / PAGE for run in runs_in(directory) if (run / PAGE).is_file()), None)


def point_to_latest(run: Path) -> None:
    """Lets `LATEST`, next to the directory of a run, lead to it: a link, or a file with its name where none can be.

    Raises:
        SafetyError: Something else has that name.
        OSError: It could not be written.
    """
    latest = run.parent / LATEST
    if not _leads_to_a_run(latest):
        raise _not_ours(latest)
    try:
        _replace(latest, lambda new: new.symlink_to(run.name))
    except OSError:  # the file system has no links
        _replace(latest, lambda new: _write(new, f"{run.name}\n"))


def write_index(directory: Path) -> Path:
    """Writes the page of all runs.

    Returns:
        Where it is.

    Raises:
        SafetyError: Something else has its name.
        OSError: The directory cannot be read, or the page could not be written.
    """
    index = directory / INDEX
    if os.path.lexists(index) and not _starts_with(index, MARK):
        raise _not_ours(index)
    runs = runs_in(directory)
    page = index_page([_listed(run) for run in runs[:MOST_RUNS]], older=max(0, len(runs) - MOST_RUNS))
    _replace(index, lambda new: _write(new, page))
    return index


def _not_ours(path: Path) -> SafetyError:
    return SafetyError(
        f"{path} was not made by pytest-serve-chaos, so it stays as it is",
        fix=["move it elsewhere", "or let runs report into another directory: --serve-chaos-report-dir"],
    )


def _began(run: Path) -> tuple[datetime, int]:
    """When a run began, and its number among those of the same second."""
    found = _STAMP.fullmatch(run.name)
    if found:
        try:
            return datetime.strptime(found[1], "%Y-%m-%dT%H-%M-%S"), int(found[2] or 1)
        except ValueError:  # the thirteenth month
            pass
    return datetime.fromtimestamp((run / HISTORY).stat().st_mtime), 1  # it was renamed


def _listed(run: Path) -> ListedRun:
    summary, problem = _summary(run / SUMMARY)
    files = tuple(name for name in (PAGE, SUMMARY, HISTORY) if (run / name).is_file())
    return ListedRun(run.name, _began(run)[0], summary, problem, files)


def _summary(path: Path) -> tuple[RunSummary | None, str]:
    """What a run found; or why that cannot be read."""
    try:
        if not path.is_file():  # nor may a link lead to a device, or a pipe
            return None, f"it has no {SUMMARY}: it goes on, or was ended by force"
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
        if len(text) > _MOST_BYTES:
            return None, f"{SUMMARY} is larger than {_MOST_BYTES // 1_000_000} MB"
        return read_summary(text), ""
    except (OSError, ValueError) as error:
        return None, f"{SUMMARY} cannot be read: {in_one_line(error)}"


def _leads_to_a_run(latest: Path) -> bool:
    """Whether nothing is there, or what `point_to_latest` made."""
    if latest.is_symlink():
        return _STAMP.fullmatch(os.readlink(latest)) is not None
    if not os.path.lexists(latest):
        return True
    return latest.is_file() and latest.stat().st_size < 100 and _STAMP.fullmatch(_text(latest)) is not None


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace").strip()


def _starts_with(path: Path, start: str) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(start.encode())) == start.encode()


def _replace(path: Path, make: Callable[[Path], None]) -> None:
    """Puts something new in the place of a file, at once, so that nobody sees a part of it, or nothing."""
    new = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        make(new)
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _write(path: Path, text: str) -> None:
    """Writes a file that nobody else can read: it names what an app, and a cluster, are called."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def nearest(name: str, start: Path) -> Iterator[Path]:
    """The directories of that name in a directory and in those above it, the nearest first."""
    for place in (start, *start.parents):
        if (place / name).is_dir():
            yield place / name
