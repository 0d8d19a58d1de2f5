"""``serve-chaos``: judges a history again, mends what runs have left, and says what each backend lacks."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pytest_serve_chaos.errors import ServeChaosError
from pytest_serve_chaos.options import BACKENDS, option

FORMATS = ("table", "json", "github")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 0 all is well, 1 something is not, 2 the command failed."""
    given = _parser().parse_args(arguments)
    try:
        if given.command == "analyse":
            passed = [_analyse(path, given.format, timeline=given.timeline) for path in given.histories]
            return 0 if all(passed) else 1
        if given.command == "undo":
            return _undo(given.report_dir)
        settings = {name: getattr(given, name) for name in ("context", "rayservice") if getattr(given, name)}
        return _doctor(given.backends, settings)
    except ServeChaosError as error:
        print(f"serve-chaos: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="serve-chaos", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    analyse = commands.add_parser("analyse", help="judge the experiments of a history again")
    analyse.add_argument("histories", type=Path, nargs="+", metavar="HISTORY", help="history.jsonl of a run")
    analyse.add_argument("--format", choices=FORMATS, default="table", help="github: Markdown, for a job's summary")
    analyse.add_argument("--json", action="store_const", dest="format", const="json", help="the same as --format json")
    analyse.add_argument("--timeline", metavar="EXPERIMENT", help="print the events of one experiment")

    undo = commands.add_parser("undo", help="mend what runs that were ended by force have left")
    row = option("report_dir")
    default = Path(os.environ.get(row.env) or str(row.default))
    undo.add_argument("--report-dir", type=Path, default=default, help="the directory of their reports")

    doctor = commands.add_parser("doctor", help="say what each backend needs, and whether it is here")
    doctor.add_argument("backends", nargs="*", type=_backend, metavar="BACKEND", help=", ".join(BACKENDS))
    for name in ("context", "rayservice"):
        doctor.add_argument(f"--{name}", metavar=option(name).kind.metavar, help=option(name).help)
    return parser


def _backend(text: str) -> str:
    if text not in BACKENDS:  # `choices` would refuse that none is given
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(BACKENDS)}")
    return text


def _analyse(path: Path, form: str, *, timeline: str | None) -> bool:
    """Prints what a history says; whether all its experiments passed."""
    from pytest_serve_chaos.analysis.record import warnings_of
    from pytest_serve_chaos.analysis.result import result_of
    from pytest_serve_chaos.history import History
    from pytest_serve_chaos.report import markdown
    from pytest_serve_chaos.report.document import summary_document
    from pytest_serve_chaos.report.terminal import summary_table, timeline_excerpt, warning_lines

    history = History.load(path)
    if timeline is not None:
        print("\n".join(timeline_excerpt(history, timeline, most=1000)))
        return True
    judged = [name for name in history.experiments() if any(e.kind == "verdict" for e in history.of(name))]
    results = [result_of(history, name) for name in judged]
    if form == "json":
        print(json.dumps(summary_document(history, results), indent=2))
    elif form == "github":
        print(markdown.summary(results, warnings_of(history)))
    else:
        print("\n".join([*summary_table(results), *warning_lines(warnings_of(history))]))
    return all(result.passed for result in results)


def _undo(report_dir: Path) -> int:
    from pytest_serve_chaos import backends

    mended: list[str] = []

    def say(text: str) -> None:
        mended.append(text)
        print(text, flush=True)

    failed = backends.undo(report_dir, say)
    for failure in failed:
        print(f"could not be undone: {failure}")
    if not mended:
        print(f"nothing is left to undo in {report_dir / 'undo'}")
    return 1 if failed else 0


def _doctor(named: Sequence[str], settings: dict[str, str]) -> int:
    from pytest_serve_chaos.doctor import examine

    ready = {}
    for backend in named or BACKENDS:
        findings = examine(backend, settings, os.environ)
        ready[backend] = all(finding.ok for finding in findings)
        print(f"{backend}: {'ready' if ready[backend] else 'not ready'}")
        for finding in findings:
            print(finding.line)
    return 0 if (all if named else any)(ready.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
