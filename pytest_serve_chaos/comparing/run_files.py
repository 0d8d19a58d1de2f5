"""The trials that files and directories of runs have."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pytest_serve_chaos.analysis.trial_figures import Trial, trials_of
from pytest_serve_chaos.errors import HistoryError

_SUMMARY, _HISTORY = "summary.json", "history.jsonl"


def trials_at(paths: Iterable[Path]) -> list[Trial]:
    """The trials of all these: of a run's directory, its summary.json or history.jsonl, or a directory of runs.

    Raises:
        HistoryError: There is no run, or one that cannot be read.
    """
    trials: list[Trial] = []
    for path in paths:
        found = _of_file(path) if path.is_file() else trials_in(path)
        if found is None:
            raise HistoryError(
                f"there is no run at {path}",
                checked=[f"{path}/{_SUMMARY}", f"{path}/{_HISTORY}", f"{path}/*/{_SUMMARY}", f"{path}/*/{_HISTORY}"],
                fix=["give the directory that pytest printed at the end of the run: report: .serve-chaos/..."],
            )
        trials += found
    return trials


def trials_in(directory: Path) -> list[Trial] | None:
    """The trials of a run's directory, or of all runs directly below it; None where there is no run."""
    own = _of_run(directory)
    if own is not None:
        return own
    below = sorted(path for path in directory.iterdir() if path.is_dir()) if directory.is_dir() else []
    each = [found for path in below if not path.is_symlink() and (found := _of_run(path)) is not None]
    return [trial for found in each for trial in found] if each else None


def _of_run(directory: Path) -> list[Trial] | None:
    for name in (_SUMMARY, _HISTORY):
        if (directory / name).is_file():
            return _of_file(directory / name)
    return None


def _of_file(path: Path) -> list[Trial]:
    # However its path is written, it is one run.
    return [replace(trial, run=str(path.resolve())) for trial in trials_of(_document(path), str(path))]


def _document(path: Path) -> object:
    if path.suffix == ".jsonl":
        from pytest_serve_chaos.history import History
        from pytest_serve_chaos.report.document import summary_document
        from pytest_serve_chaos.results import results_of

        history = History.load(path)
        return summary_document(history, results_of(history))
    try:
        document: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HistoryError(
            f"{path} cannot be read: {error}", fix=[f"give the {_HISTORY} of the same run, or another run"]
        ) from error
    return document
