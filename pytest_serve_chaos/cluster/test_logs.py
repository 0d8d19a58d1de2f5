"""Where the logs of a test are kept in the run's directory, and how much of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pytest_serve_chaos.cluster.base import Cluster
from pytest_serve_chaos.cluster.capabilities import STREAMS_LOGS
from pytest_serve_chaos.model import LogLine

MOST_BYTES = 20_000_000
"""Of one file."""

DIRECTORY = "logs"
"""In the run's directory; in it each test has one of its own."""

_NOT_IN_NAMES = re.compile(r"[^\w.,=\[\]-]+")


class LogsOfTest:
    """The logs of one test; where a cluster cannot keep any there are none.

    Args:
        cluster: Whose logs.
        run_directory: The run's directory.
        test: The test's name.
    """

    def __init__(self, cluster: Cluster, run_directory: Path, test: str) -> None:
        self._within = run_directory
        self._directory = _unused(run_directory / DIRECTORY, name_of_file(test))
        logs = cluster.capability(STREAMS_LOGS)
        self._kept = None if logs is None else logs.stream_logs(self._directory)

    @property
    def directory(self) -> Path | None:
        """Where they are; None while there are none."""
        return self._directory if self._directory.is_dir() else None

    @property
    def place(self) -> str:
        """The same, as seen from the run's directory."""
        return self._directory.relative_to(self._within).as_posix()

    def around(self, moment: float, *, before: float, after: float) -> Sequence[LogLine]:
        """Lines that were logged around a moment (monotonic seconds), in order of time."""
        return () if self._kept is None else self._kept.around(moment, before=before, after=after)

    def keep(self) -> None:
        """The test failed: they have to stay.

        Raises:
            OSError: They could not be written.
        """
        if self._kept is not None:
            self._kept.keep()

    def close(self) -> None:
        """The test is over."""
        if self._kept is not None:
            self._kept.close()


def name_of_file(text: str) -> str:
    """The text as the name of a file: without slashes and blanks, not hidden, and not too long."""
    return _NOT_IN_NAMES.sub("_", text).lstrip(".")[:150] or "_"


def _unused(parent: Path, name: str) -> Path:
    """Two tests may differ only in what a file's name cannot have."""
    names = (name, *(f"{name}-{i}" for i in range(2, 10_000)))
    return next(path for path in (parent / n for n in names) if not path.exists())
