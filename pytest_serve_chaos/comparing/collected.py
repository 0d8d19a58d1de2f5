"""Which experiments pytest finds, seen before environments are made for them.

As a plugin of pytest it prints how many there are.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence

import pytest

from pytest_serve_chaos.comparing.child_run import BY_MODULE
from pytest_serve_chaos.errors import SettingsError

_DEADLINE = 60.0
"""Seconds that pytest may take to find the tests; after that their own run shows whether they are there."""

_CANNOT_IMPORT = re.compile(r"^(_+ )?ERROR collecting |^ERROR .+ - ", re.MULTILINE)
"""What pytest prints of a file that it cannot import."""

_COUNT = "serve-chaos experiments: "


def pytest_collection_finish(session: pytest.Session) -> None:
    """Prints how many of the tests are experiments."""
    count = sum("experiment" in getattr(item, "fixturenames", ()) for item in session.items)
    session.config.get_terminal_writer().line(f"{_COUNT}{count}")


def experiments_in(tests: Sequence[str], arguments: Sequence[str] = ()) -> int:
    """How many experiments pytest finds in some tests; 1 where it cannot say.

    What it cannot import here may still be installed in the environments of the runs, so only a test that is nowhere is
    refused.

    Args:
        tests: What pytest shall run.
        arguments: Further arguments of pytest.

    Raises:
        SettingsError: pytest finds no such test.
    """
    if tests[0] == BY_MODULE:
        return 1
    look = ["--collect-only", "--quiet", "-p", "no:cacheprovider", "-p", __name__]
    command = [sys.executable, "-m", "pytest", *look, *arguments, *tests]
    try:
        looked = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=_DEADLINE
        )
    except subprocess.TimeoutExpired:
        return 1
    said = [line.removeprefix("ERROR: ") for line in looked.stderr.splitlines() if line.startswith("ERROR: ")]
    absent = [line for line in said if "not found: " in line]
    if absent and not _CANNOT_IMPORT.search(looked.stdout):
        raise SettingsError(
            f"pytest finds no test {tests[-1]!r}",
            checked=absent,
            fix=["see what there is: pytest --collect-only -q", "or name a fault, as head_failure"],
        )
    counted = re.search(rf"^{_COUNT}(\d+)$", looked.stdout, re.MULTILINE)
    return max(1, int(counted[1])) if counted else 1
