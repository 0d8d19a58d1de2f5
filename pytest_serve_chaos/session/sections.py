"""What the report of a failed test says of the cluster; log lines that repeat are shown once."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable

import pytest

from pytest_serve_chaos.analysis.log_choice import shape_of
from pytest_serve_chaos.backends.registry import Backends
from pytest_serve_chaos.cluster.test_logs import LogsOfTest
from pytest_serve_chaos.errors import ServeChaosError
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.kinds import Flag
from pytest_serve_chaos.masking import masked
from pytest_serve_chaos.printable import printable
from pytest_serve_chaos.report.terminal import timeline_excerpt
from pytest_serve_chaos.session.lending import Lending
from pytest_serve_chaos.session.results import Results
from pytest_serve_chaos.settings import Settings

WIDTH = 300
"""Characters of a line that are shown."""

_LOG_LINES = 1000
"""Lines that are read for the excerpt of a failed test; those that say the same are shown once."""


class Sections:
    """The sections of a test's report: events, logs, and the command that runs the test again.

    Args:
        config: Of pytest.
        settings: What a user set.
        backends: Have the options that a user can give.
        lending: Knows which test has the rig.
        results: Of all experiments.
    """

    def __init__(
        self, config: pytest.Config, settings: Settings, backends: Backends, lending: Lending, results: Results
    ) -> None:
        self._config = config
        self._settings = settings
        self._backends = backends
        self._lending = lending
        self._results = results

    def of(self, item: pytest.Item) -> list[tuple[str, str]]:
        """Titles and texts; none where the test did nothing with the rig."""
        use = self._lending.use_of(item)
        if use is None:
            return []
        rig, names = use.rig, use.names
        # After a measurement the rig has another name for what follows, under which nothing may have happened.
        shown = names[-1] if names else rig.current.experiment
        events = rig.history.of(shown)
        if not events:
            return []
        sections = [
            ("serve chaos: events", "\n".join(timeline_excerpt(rig.history, shown))),
            ("serve chaos: logs", "\n".join([_logs(rig, since=events[0].at), *_kept(self._lending.test.logs)])),
        ]
        raised = [t for result in self._results.since(use.results_before) for t in result.verdict.tracebacks]
        if raised:
            sections.append(("serve chaos: checks that raised an exception", "\n".join(raised)))
        sections.append(("serve chaos: run it again", self._command(item)))
        return [(title, printable(text)) for title, text in sections]

    def _command(self, item: pytest.Item) -> str:
        """The command that runs a test again."""
        seed = f"--serve-chaos-seed={self._settings.seed}"
        file = os.path.relpath(item.path, self._config.invocation_params.dir)
        test = "::".join([file, *item.nodeid.partition("::")[2:]])
        return shlex.join(["pytest", "--serve-chaos", seed, *self._given_options(), test])

    def _given_options(self) -> list[str]:
        """Our options as they stood on the command line, without the seed and without credentials."""
        given: list[str] = []
        for row in self._backends.options:
            value = self._config.getoption(row.ini)
            if value is None or row.name == "seed":
                continue
            values = value if isinstance(value, list) else [value]
            shown = ["..."] if row.secret else [masked(str(one)) for one in values]
            given += [row.flag] if isinstance(row.kind, Flag) else [f"{row.flag}={one}" for one in shown]
        return given


def _logs(rig: Rig, since: float) -> str:
    try:
        lines = rig.cluster.log_excerpt(since, pattern=r"ERROR|WARNING|Exception|Error", lines=_LOG_LINES)
    except (ServeChaosError, OSError) as error:
        return f"they cannot be read: {error}"
    return "\n".join(without_repetitions(lines)) or "no errors or warnings"


def _kept(logs: LogsOfTest | None) -> list[str]:
    """Where all of the failed test's logs are."""
    if logs is None:
        return []
    try:
        logs.keep()
    except OSError as error:
        return [f"the files cannot be kept: {error}"]
    return [f"all of them: {logs.directory}"] if logs.directory is not None else []


def without_repetitions(lines: Iterable[str], *, most: int = 30) -> list[str]:
    """The first of all lines that differ only in numbers, ids and quoted names, with how many there are.

    Args:
        lines: In order of time.
        most: How many to show; the rest is counted.
    """
    first: dict[str, str] = {}
    times: dict[str, int] = {}
    for line in lines:
        shape = shape_of(line)
        first.setdefault(shape, line)
        times[shape] = times.get(shape, 0) + 1
    shown = [_cut(line) + (f"  (x {times[shape]})" if times[shape] > 1 else "") for shape, line in first.items()]
    left_out = len(shown) - most
    return [*shown[:most], f"... and {left_out} more that differ"] if left_out > 0 else shown


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[:WIDTH]}..."
