"""New versions of apps, with Serve's own classes and without a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_new_versions_of_apps_are_as_they_should_be() -> None:
    """In a process of its own: the one of these tests never imports Ray."""
    file = Path(__file__).with_name("updated_apps.py")
    program = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "-W", "ignore", "-p", "no:cacheprovider"]
    ran = subprocess.run(
        [*program, f"--rootdir={ROOT}", str(file)], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-1000:]
