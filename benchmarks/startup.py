"""Measures what the installed plugin costs those who do not use it: goal, no more than 10 ms a run of pytest.

Run it as `python -m benchmarks.startup`. Runs with and without the plugin alternate, so that a machine that is busy
with other things is busy for both. The import times are Python's own (`-X importtime`).
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

GOAL = 0.010
"""Seconds."""

_NO_TESTS = 5
_IMPORT = re.compile(r"import time:\s*(\d+) \|\s*\d+ \|\s*(\S+)")


@dataclass(frozen=True, slots=True)
class Startup:
    """What a run of pytest takes that finds no tests; seconds of CPU, which a busy machine hardly changes.

    Attributes:
        with_plugin: The median of the runs with the plugin.
        without_plugin: The median of those without.
        cost: The median of the differences, pair by pair.
        imports: Of importing the plugin after pytest; the least of the runs.
        modules: How many modules that imports.
    """

    with_plugin: float
    without_plugin: float
    cost: float
    imports: float
    modules: int


def measure(runs: int) -> Startup:
    """Runs pytest in an empty directory, so many times with the plugin and as many without."""
    with tempfile.TemporaryDirectory() as directory:
        python = _Python(Path(directory))
        python.pytest("serve_chaos")  # compiles what is not compiled yet
        pairs = [(python.pytest("serve_chaos"), python.pytest("no:serve_chaos")) for _ in range(runs)]
        imports = [python.imports() for _ in range(max(1, runs // 2))]
    return Startup(
        with_plugin=statistics.median(a for a, _ in pairs),
        without_plugin=statistics.median(b for _, b in pairs),
        cost=statistics.median(a - b for a, b in pairs),
        imports=min(seconds for seconds, _ in imports),
        modules=imports[0][1],
    )


class _Python:
    """Runs Python in a directory of its own, as after an installation: with compiled files, without other plugins."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self._environment |= {
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPYCACHEPREFIX": str(directory / "compiled"),
        }

    def pytest(self, plugin: str) -> float:
        """Seconds of CPU for a run of pytest with that argument to ``-p``."""
        (self._directory / "empty").mkdir(exist_ok=True)
        command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", plugin, "empty"]
        output = self._directory / "output"
        with output.open("wb") as file:
            process = subprocess.Popen(
                command, cwd=self._directory, env=self._environment, stdout=file, stderr=subprocess.STDOUT
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != _NO_TESTS:
            raise SystemExit(f"pytest ended with status {process.returncode}: {output.read_text()}")
        return usage.ru_utime + usage.ru_stime

    def imports(self) -> tuple[float, int]:
        """Seconds that the plugin's own imports take after those of pytest, and how many modules they are."""
        # What pytest imports when it runs is not the plugin's doing.
        program = "import pytest, _pytest.config, _pytest.main, _pytest.terminal, pytest_serve_chaos.plugin"
        command = [sys.executable, "-X", "importtime", "-c", program]
        done = subprocess.run(
            command, cwd=self._directory, env=self._environment, capture_output=True, text=True, check=True
        )
        rows = [(int(match[1]), match[2]) for match in _IMPORT.finditer(done.stderr)]
        own = rows[next(i for i, (_, name) in enumerate(rows) if name == "pytest_serve_chaos") :]
        return sum(microseconds for microseconds, _ in own) / 1e6, len(own)


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="with the plugin, and as many without")
    startup = measure(parser.parse_args().runs)
    print("What the plugin costs a run of pytest without --serve-chaos, in ms of CPU:")
    print(f"  with it                {1000 * startup.with_plugin:8.1f}  (median)")
    print(f"  without it             {1000 * startup.without_plugin:8.1f}  (median)")
    print(f"  difference             {1000 * startup.cost:8.1f}  (median of pairs; goal {1000 * GOAL:g})")
    print(f"  its imports alone      {1000 * startup.imports:8.1f}  ({startup.modules} modules)")


if __name__ == "__main__":
    main()
