"""Measures what the installed plugin costs those who do not use it: goal, no more than 10 ms a run of pytest.

Run it as `python -m benchmarks.startup`. It makes environments of their own, as pip would: pytest alone, pytest and the
plugin, and both with all that the plugin depends on. Runs in them alternate, so that a machine that is busy with other
things is busy for all.
"""

from __future__ import annotations

import argparse
import compileall
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

import pytest_serve_chaos
from benchmarks.child import used_by

GOAL = 0.010
"""Seconds."""

_RESAMPLES = 1000

_NAME = "pytest-serve-chaos"
_NO_TESTS = 5


@dataclass(frozen=True, slots=True)
class Startup:
    """What a run of pytest takes that finds no tests; seconds of CPU.

    What else a machine does makes runs longer and never shorter, so the fast ones are compared: the first decile of the
    runs in each environment.

    Attributes:
        alone: The runs without the plugin.
        cost: What the plugin adds, itself.
        interval: Where that lies with 90 % confidence, by the bootstrap over rounds.
        dependencies: What all adds that the plugin depends on, and that has plugins for pytest too.
    """

    alone: float
    cost: float
    interval: tuple[float, float]
    dependencies: float


def measure(runs: int) -> Startup:
    """Runs pytest in an empty directory, so many times in each environment."""
    with tempfile.TemporaryDirectory() as directory:
        needed = _needed("pytest")
        alone = _Environment(Path(directory, "alone"), needed)
        plugin = _Environment(Path(directory, "plugin"), needed, plugin=True)
        full = _Environment(Path(directory, "full"), needed | _needed(_NAME), plugin=True)
        for environment in (alone, plugin, full):
            environment.pytest()  # compiles what is not compiled yet
        rounds = [(alone.pytest(), plugin.pytest(), full.pytest()) for _ in range(runs)]
    fast = [_fast(column) for column in zip(*rounds, strict=True)]
    chance = random.Random(1)
    resampled = sorted(_cost(chance.choices(rounds, k=runs)) for _ in range(_RESAMPLES))
    return Startup(
        alone=fast[0],
        cost=_cost(rounds),
        interval=(resampled[_RESAMPLES // 20], resampled[-_RESAMPLES // 20]),
        dependencies=fast[2] - fast[1],
    )


def _cost(rounds: Sequence[tuple[float, float, float]]) -> float:
    return _fast(plugin for _, plugin, _ in rounds) - _fast(alone for alone, _, _ in rounds)


def _fast(seconds: Iterable[float]) -> float:
    """The first decile."""
    return statistics.quantiles(seconds, n=10)[0]


def _needed(name: str) -> set[str]:
    """The distributions that one needs, without extras, itself among them unless it is ours."""
    found: set[str] = set()
    todo = [name]
    while todo:
        one = todo.pop()
        if one not in found:
            found.add(one)
            requirements = map(Requirement, metadata.requires(one) or ())
            todo += [r.name for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found - {_NAME}


class _Environment:
    """A directory that Python finds packages in, instead of those that are installed."""

    def __init__(self, directory: Path, needed: set[str], *, plugin: bool = False) -> None:
        self._directory = directory
        self._site = directory / "site"
        self._site.mkdir(parents=True)
        (directory / "empty").mkdir()
        for name in needed:
            self._link(metadata.distribution(name))
        if plugin:
            self._install()
        drop = ("PYTHONDONTWRITEBYTECODE", "PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD")
        self._variables = {name: value for name, value in os.environ.items() if name not in drop}
        self._variables |= {"PYTHONPATH": str(self._site), "PYTHONPYCACHEPREFIX": str(directory / "compiled")}
        self._variables["PYTHONHASHSEED"] = "0"  # else each run orders its sets, and its work, differently

    def _link(self, distribution: metadata.Distribution) -> None:
        tops = {file.parts[0] for file in distribution.files or ()}
        for top in tops - {"..", "__pycache__"}:
            (self._site / top).symlink_to(Path(str(distribution.locate_file(top))))

    def _install(self) -> None:
        # pytest reads the list of a plugin's files, so it must have all that pip writes into it.
        source = Path(pytest_serve_chaos.__file__).parent
        package = self._site / source.name
        shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
        compileall.compile_dir(package, quiet=2)
        info = self._site / f"{source.name}-{pytest_serve_chaos.__version__}.dist-info"
        info.mkdir()
        distribution = metadata.distribution(_NAME)
        for name in ("METADATA", "entry_points.txt"):
            (info / name).write_text(distribution.read_text(name) or "")
        files = [file.relative_to(self._site) for file in package.rglob("*") if file.is_file()]
        (info / "RECORD").write_text("".join(f"{file},sha256={'x' * 43},1000\n" for file in files))

    def pytest(self) -> float:
        """Seconds of CPU for a run of pytest."""
        command = [sys.executable, "-S", "-m", "pytest", "--collect-only", "-q", "empty"]
        output = self._directory / "output"
        with output.open("wb") as file:
            process = subprocess.Popen(
                command, cwd=self._directory, env=self._variables, stdout=file, stderr=subprocess.STDOUT
            )
            usage = used_by(process)
        if process.returncode != _NO_TESTS:
            raise SystemExit(f"pytest ended with status {process.returncode}: {output.read_text()}")
        return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=60, help="in each environment")
    runs = parser.parse_args().runs
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(processors)})  # a run that changes its processor finds cold caches there
    try:
        startup = measure(runs)
    finally:
        os.sched_setaffinity(0, processors)
    low, high = startup.interval
    print("What the plugin costs a run of pytest without --serve-chaos, in ms of CPU:")
    print(f"  pytest alone           {1000 * startup.alone:8.1f}  (first decile of the runs, here and below)")
    print(f"  what the plugin adds   {1000 * startup.cost:8.1f}  (goal {1000 * GOAL:g})")
    print(f"    90 % interval        {1000 * low:8.1f} to {1000 * high:.1f}")
    print(f"  its dependencies add   {1000 * startup.dependencies:8.1f}  (nothing where they are there already)")


if __name__ == "__main__":
    main()
