"""Files of a run that hold credentials, or may: all in one place, so that nobody shares them by accident."""

from __future__ import annotations

from pathlib import Path

PRIVATE = "private"
"""The directory in that of a run: kubeconfigs, and objects with the passwords that they hold in plain text."""


def private_directory(run_directory: Path) -> Path:
    """The directory for such files, which nobody else can enter; it is made if necessary."""
    directory = run_directory / PRIVATE
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    return directory
