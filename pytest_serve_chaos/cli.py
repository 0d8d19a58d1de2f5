"""``serve-chaos``: judges a history again, without pytest and without the cluster that it came from."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pytest_serve_chaos.errors import ServeChaosError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 0 all passed, 1 something did not, 2 the command failed."""
    parser = argparse.ArgumentParser(prog="serve-chaos", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    analyse = commands.add_parser("analyse", help="judge the experiments of a history again")
    analyse.add_argument("history", type=Path, help="history.jsonl of a run")
    analyse.add_argument("--json", action="store_true", help="print the JSON summary instead of the table")
    analyse.add_argument("--timeline", metavar="EXPERIMENT", help="print the events of one experiment")
    given = parser.parse_args(arguments)
    try:
        return _analyse(given.history, as_json=given.json, timeline=given.timeline)
    except ServeChaosError as error:
        print(f"serve-chaos: {error}", file=sys.stderr)
        return 2


def _analyse(path: Path, *, as_json: bool, timeline: str | None) -> int:
    from pytest_serve_chaos.analysis.record import warnings_of
    from pytest_serve_chaos.analysis.result import result_of
    from pytest_serve_chaos.history import History
    from pytest_serve_chaos.report.document import summary_document
    from pytest_serve_chaos.report.terminal import summary_table, timeline_excerpt, warning_lines

    history = History.load(path)
    if timeline is not None:
        print("\n".join(timeline_excerpt(history, timeline, most=1000)))
        return 0
    judged = [name for name in history.experiments() if any(e.kind == "verdict" for e in history.of(name))]
    results = [result_of(history, name) for name in judged]
    if as_json:
        print(json.dumps(summary_document(history, results), indent=2))
    else:
        print("\n".join([*summary_table(results), *warning_lines(warnings_of(history))]))
    return 0 if all(result.passed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
