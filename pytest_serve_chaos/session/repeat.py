"""The command that runs the test of an experiment again, here and on the local backend."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest_serve_chaos
from pytest_serve_chaos.backends.registry import Backends
from pytest_serve_chaos.events import Repeatable
from pytest_serve_chaos.kinds import Flag
from pytest_serve_chaos.masking import masked
from pytest_serve_chaos.options import Option
from pytest_serve_chaos.settings import Configuration, Settings, given_texts

_LOCAL = "local"
_OF_THIS_RUN = ("seed", "report_dir", "dry_run", "keep")
"""Settings that say nothing of what was tested; the seed is given in any case."""


class Repetition:
    """Knows how a test was run.

    Args:
        config: Of pytest.
        directory: Where pytest was started.
        settings: What a user set.
        backends: Have the options that a user can give.
    """

    def __init__(self, config: Configuration, directory: Path, settings: Settings, backends: Backends) -> None:
        self._config = config
        self._directory = directory
        self._settings = settings
        self._backends = backends

    def of(self, nodeid: str, path: Path, experiment: str) -> Repeatable:
        """How the test of an experiment is run again.

        Args:
            nodeid: pytest's name of the test.
            path: The file that it is in.
            experiment: Its name.
        """
        rows = [row for row in self._backends.options if row.name not in _OF_THIS_RUN]
        used = [row for row in rows if self._settings.backend in self._backends.users(row)]
        options = tuple(option for row in used for option in self._given(row))
        on_local = tuple(
            option
            for row in used
            if row.name != "backend" and _LOCAL in self._backends.users(row)
            for option in self._given(row)
        )
        test, seed = self._test(nodeid, path), self._settings.seed
        command = ["pytest", "--serve-chaos", f"--serve-chaos-seed={seed}", *options, *test]
        return Repeatable(
            shlex.join(command),
            experiment=experiment,
            test=shlex.join(test),
            seed=seed,
            options=options,
            on_local=on_local,
        )

    def _given(self, row: Option) -> Iterator[str]:
        texts = given_texts(row, self._config)
        if texts and isinstance(row.kind, Flag):
            yield from [row.flag] if row.kind.parse(texts[-1], Path.cwd()) else []
            return
        yield from (f"{row.flag}={'...' if row.secret else masked(text)}" for text in texts)

    def _test(self, nodeid: str, path: Path) -> list[str]:
        """The test as pytest takes it: one of the guide by its module, which is elsewhere on another machine."""
        inside, package = nodeid.partition("::")[2], Path(pytest_serve_chaos.__file__).parent
        if path.is_relative_to(package):
            module = ".".join(path.relative_to(package.parent).with_suffix("").parts)
            return ["--pyargs", f"{module}::{inside}"]
        return [f"{os.path.relpath(path, self._directory)}::{inside}"]
