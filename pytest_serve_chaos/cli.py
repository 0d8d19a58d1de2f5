"""``serve-chaos``: judges a history again, shows reports, compares runs, undoes what they left, and more."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_serve_chaos import __version__
from pytest_serve_chaos.backends.registry import Backends, backends_of
from pytest_serve_chaos.comparing.commands import add_bisect, add_compare, run_bisect, run_compare, split_arguments
from pytest_serve_chaos.errors import Locked, ServeChaosError, SettingsError, in_one_line
from pytest_serve_chaos.options import Option, option
from pytest_serve_chaos.printable import printable
from pytest_serve_chaos.report.registry import Reporters, reporters_of
from pytest_serve_chaos.report_command import add_arguments as add_report_arguments
from pytest_serve_chaos.report_command import missing_experiments, print_report, report
from pytest_serve_chaos.viewer import add_arguments as add_open_arguments
from pytest_serve_chaos.viewer import open_report

if TYPE_CHECKING:
    import pytest

    from pytest_serve_chaos.checks.own import MakesCheck
    from pytest_serve_chaos.cluster.base import Progress
    from pytest_serve_chaos.history import History


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 0 all is well, 1 something is not, 2 the command failed.

    Whatever goes wrong is one of the last, and never a traceback, whose exit status would be 1.
    """
    try:
        return _run(sys.argv[1:] if arguments is None else arguments)
    except Exception as error:
        _complain(error)
        return 2


def _run(words: Sequence[str]) -> int:
    plugins = _with_plugins(_named_plugins(words))
    backends, reporters = backends_of(plugins), reporters_of(plugins)
    own, for_pytest = split_arguments(words)
    given = make_parser(backends, reporters).parse_args(own)
    if given.command == "analyse":
        show = _Show(given.format, reporters, given.timeline, _load_checks(given.checks))
        return max(_analyse(path, show) for path in given.histories)
    if given.command == "report":
        return report(given, reporters, _print)
    if given.command == "open":
        return open_report(given, _print)
    if given.command in ("compare", "bisect"):
        given.arguments = for_pytest
        return run_compare(given) if given.command == "compare" else run_bisect(given)
    if given.command == "undo":
        return _undo(given, backends)
    if given.command == "rbac":
        return _rbac(given)
    return _doctor(given.backends, _settings(given, backends), backends)


def _print(text: str) -> None:
    """Prints a line for people, in which nothing commands their terminal or their CI."""
    print(printable(text), flush=True)


def _complain(error: Exception, about: str = "") -> None:
    """Prints what went wrong; of what nobody foresaw, one line."""
    if isinstance(error, BrokenPipeError):  # who read the output has gone, and Python would try to write the rest
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    foreseen = isinstance(error, (ServeChaosError, OSError))
    text = str(error) if foreseen else f"this is a defect, please report it: {_type(error)}"
    with contextlib.suppress(OSError):  # standard error may be closed
        print(printable(f"serve-chaos: {about}{text}"), file=sys.stderr)


def _type(error: Exception) -> str:
    """The type and the text of an error, and where it was raised, for who looks for the cause."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{in_one_line(error)}{where}"


def _named_plugins(words: Sequence[str]) -> Sequence[str]:
    parser = argparse.ArgumentParser(add_help=False)
    _add_plugins(parser)
    return list(parser.parse_known_args(list(words))[0].plugins)


def _with_plugins(named: Sequence[str]) -> pytest.PytestPluginManager:
    """Has the installed plugins that require this one, those that PYTEST_PLUGINS names, and those that are named here.

    Raises:
        SettingsError: One of them cannot be loaded.
    """
    import pytest

    from pytest_serve_chaos import hookspecs

    manager = pytest.PytestPluginManager()
    manager.add_hookspecs(hookspecs)
    if named:
        sys.path.insert(0, os.getcwd())  # as `python -m pytest` does
    try:
        for name in (*_installed_plugins(), *named):
            manager.import_plugin(name, consider_entry_points=True)
        manager.consider_env()
    except Exception as error:  # of code that is not ours
        raise SettingsError(
            f"a plugin cannot be loaded: {error.__cause__ or error}",
            checked=["installed plugins that require this one", "PYTEST_PLUGINS", f"-p {', '.join(named)}".strip()],
            fix=["see whether pytest can load it: pytest -p NAME --version"],
        ) from error
    return manager


def _installed_plugins() -> Iterator[str]:
    if os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD"):
        return
    for entry in importlib.metadata.entry_points(group="pytest11"):
        requires = (entry.dist.requires if entry.dist is not None else None) or ()
        if any(re.match(r"pytest[-_.]serve[-_.]chaos\b", one, re.IGNORECASE) for one in requires):
            yield entry.name


def _add_plugins(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-p", dest="plugins", action="append", default=[], metavar="NAME", help="a plugin to load")


def _settings(given: argparse.Namespace, backends: Backends) -> dict[str, str]:
    values = {row.name: getattr(given, row.name) for row in backends.options if row.doctor}
    return {name: value for name, value in values.items() if value}


def make_parser(backends: Backends, reporters: Reporters) -> argparse.ArgumentParser:
    """The command line of `serve-chaos`, with what these backends and reporters add to it."""
    about = "Judge a history again, show reports, compare runs, undo what killed runs left, and more."
    parser = argparse.ArgumentParser(prog="serve-chaos", description=about)
    parser.add_argument("--version", action="version", version=f"pytest-serve-chaos {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)

    analyse = commands.add_parser("analyse", help="judge the experiments of a history again")
    analyse.add_argument("histories", type=Path, nargs="+", metavar="HISTORY", help="history.jsonl of a run")
    formats = ", ".join(f"{one.name} ({one.description})" for one in reporters if one.name in reporters.formats)
    analyse.add_argument("--format", choices=reporters.formats, default="table", help=formats)
    analyse.add_argument("--json", action="store_const", dest="format", const="json", help="the same as --format json")
    analyse.add_argument(
        "--check",
        action="append",
        default=[],
        dest="checks",
        metavar="MODULE:CLASS",
        help="a check of a test's own, by which it is judged again; imported from the current directory or the path",
    )
    analyse.add_argument("--timeline", metavar="EXPERIMENT", help="print the events of one experiment")
    _add_plugins(analyse)

    again = commands.add_parser("report", help="make the reports of a run once more")
    add_report_arguments(again, reporters)
    _add_plugins(again)
    show = commands.add_parser("open", help="show the newest report in a browser")
    add_open_arguments(show)
    _add_plugins(show)
    add_compare(commands.add_parser("compare", help="say what got worse from one run, Ray or setting to another"))
    add_bisect(commands.add_parser("bisect", help="find the release of Ray that made an experiment worse"))

    undo = commands.add_parser("undo", help="undo what runs that were ended by force have left behind")
    undo.add_argument(
        "--report-dir",
        type=Path,
        metavar="PATH",
        help="undo only what runs with reports in this directory have left; default: all",
    )
    undo.add_argument(
        "--allow-context", action="append", default=_named_contexts(), metavar="CONTEXT",
        help="a context in which it may undo changes; kind clusters on this machine need not be named",
    )  # fmt: skip
    for row in _rows_of_repairs(backends):
        undo.add_argument(
            row.doctor_flag, dest=row.name, type=_valid(row), metavar=row.kind.metavar,
            help=f"{row.help}: repairs that alone, also without the undo journal",
        )  # fmt: skip
    _add_plugins(undo)

    doctor = commands.add_parser("doctor", help="show what each backend needs, and whether it is here")

    def backend(text: str) -> str:
        if text not in backends.names:  # with `choices`, argparse would require one
            raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(backends.names)}")
        return text

    described = ", ".join(f"{one.name} ({one.description})" for one in backends)
    doctor.add_argument("backends", nargs="*", type=backend, metavar="BACKEND", help=described)
    for row in backends.options:
        if row.doctor:
            doctor.add_argument(
                row.doctor_flag, dest=row.name, type=_valid(row), metavar=row.kind.metavar, help=row.help
            )
    _add_plugins(doctor)
    _add_rbac(commands.add_parser("rbac", help="print what lets a service account test a RayService, and no more"))
    return parser


def _valid(row: Option) -> Callable[[str], str]:
    """Takes a text that is a valid value of a setting, under the name that the option has here."""

    def check(text: str) -> str:
        row.kind.of_argument(text)
        return text

    return check


def _add_rbac(rbac: argparse.ArgumentParser) -> None:
    rbac.add_argument("rayservice", metavar="NAMESPACE/NAME", help="the RayService that is tested")
    tiers = "look: change nothing; break: delete pods, and run programs in them; drain: drain nodes, too"
    rbac.add_argument("--tier", choices=("look", "break", "drain"), default="look", help=tiers)
    nodes = "a node that may be drained (several times for several); by default all nodes may"
    rbac.add_argument("--node", action="append", default=[], dest="nodes", metavar="NAME", help=nodes)
    rbac.add_argument(
        "--method", type=_method, default="GET", metavar="METHOD", help="the HTTP method of the requests (GET)"
    )
    rbac.add_argument("--operator-namespace", metavar="NAMESPACE", help="where KubeRay's operator is, to keep its log")
    policy = "also print an admission policy (Kubernetes 1.30), which limits it to pods of this RayService"
    rbac.add_argument("--admission-policy", action="store_true", help=policy)
    _add_plugins(rbac)


def _method(text: str) -> object:
    return option("method").kind.of_argument(text.upper())


def _named_contexts() -> list[str]:
    return [named] if (named := os.environ.get(option("allow_context").env)) else []


def _load_checks(paths: Sequence[str]) -> list[MakesCheck]:
    """The classes of checks that the user names. A history names them too, and that alone imports nothing."""
    if not paths:
        return []
    from pytest_serve_chaos.checks.own import load_class

    sys.path.insert(0, os.getcwd())
    return [load_class(path) for path in paths]


@dataclass(frozen=True, slots=True)
class _Show:
    """What `analyse` shows of a history.

    Attributes:
        form: The name of a reporter.
        reporters: All reporters.
        timeline: The experiment whose events are shown instead.
        known: The checks of tests' own, by which it is judged again.
    """

    form: str
    reporters: Reporters
    timeline: str | None
    known: Sequence[MakesCheck]


def _analyse(path: Path, show: _Show) -> int:
    """Prints what a history says.

    Returns:
        0 if it has experiments and all were judged and passed, 1 if not, 2 if it cannot be read.
    """
    try:
        return 0 if _all_passed(path, show) else 1
    except Exception as error:  # of several histories the others are shown all the same
        _complain(error, "" if isinstance(error, ServeChaosError) else f"{path} cannot be judged: ")
        return 2


def _all_passed(path: Path, show: _Show) -> bool:
    from pytest_serve_chaos.history import History
    from pytest_serve_chaos.report.base import Outcomes
    from pytest_serve_chaos.report.terminal import timeline_excerpt
    from pytest_serve_chaos.results import results_of

    history = History.load(path)
    if show.timeline is not None:
        _print("\n".join(timeline_excerpt(history, show.timeline, most=1000)))
        return True
    results = tuple(results_of(history, known=show.known))
    for name in _unused(history, show.known):
        print(
            printable(f"serve-chaos: no experiment of {path} has the check {name}, so none is judged by it"),
            file=sys.stderr,
        )
    missing = missing_experiments(results, path)
    content = show.reporters.content(show.form, Outcomes(history, results, missing, with_tracebacks=True))
    if isinstance(content, str) and not show.reporters.is_document(show.form):
        _print(content)
    else:
        print_report(content)
        for line in missing:  # for which a document has no place
            print(printable(f"serve-chaos: {line}"), file=sys.stderr)
    counted = [result for result in results if not result.run_again]
    return bool(counted) and all(result.passed for result in counted)


def _unused(history: History, known: Sequence[MakesCheck]) -> list[str]:
    """The classes of checks that no experiment of a history was judged by."""
    from pytest_serve_chaos.events import Demanded, of_kind

    demanded = [event for name in history.experiments() for event in of_kind(Demanded, history.of(name))]
    used = {check.code.rpartition(":")[2] for event in demanded for check in event.checks}
    names = [str(getattr(make, "__qualname__", make)) for make in known]
    return [name for name in names if name not in used]


def _undo(given: argparse.Namespace, backends: Backends) -> int:
    """Undoes what runs left, and says what it found, what it did, and what it could not do.

    Returns:
        0 if nothing is left but what belongs to a run that goes on, 1 if something could not be undone, 2 if there is a
        file that is not an entry, so that nobody knows what is left.
    """
    from pytest_serve_chaos.safety.journal import Journal, directory_of_journals

    journal = Journal(directory_of_journals(), given.report_dir)
    named = {row.name: value for row in _rows_of_repairs(backends) if (value := getattr(given, row.name))}
    restored: list[str] = []

    def say(text: str) -> None:
        restored.append(text)
        _print(text)

    broken = journal.broken()
    try:
        if named:
            failed = _repair(named, given.allow_context, backends, say)
        else:
            failed = backends.undo(given.report_dir, say, allowed=given.allow_context)
    except Locked as live:
        failed = [f"{' '.join(named.values())}: {live}"]
    for failure in failed:
        _print(f"could not be undone: {failure}")
    if not restored and not failed:
        _print(f"nothing is left to undo in {' '.join(named.values()) or journal.directory}")
    for entry in journal.alive():
        _print(f"skipped, because its run is still going on (PID {entry.owner}): {entry.text}")
    return 2 if broken else 1 if failed else 0


def _rows_of_repairs(backends: Backends) -> list[Option]:
    """The settings that name a cluster which a backend repairs without the undo journal."""
    names = {name: None for backend in backends if backend.repair for name in backend.repair.options}
    return [row for row in backends.options if row.name in names]


def _repair(named: Mapping[str, str], allowed: Sequence[str], backends: Backends, say: Progress) -> Sequence[str]:
    """Repairs the one cluster that the user named, and undoes what the journal has of it.

    Raises:
        SettingsError: What the user gave does not name a cluster.
        Locked: A run is using it, here or elsewhere.
    """
    from pytest_serve_chaos.doctor import CommandLine
    from pytest_serve_chaos.settings import resolve

    for backend in backends:
        if backend.repair is not None and set(named) <= set(backend.repair.options):
            lacking = [f"--{name.replace('_', '-')}" for name in backend.repair.options if name not in named]
            if lacking:
                rows = [row for row in backends.options if row.name in backend.repair.options]
                all_of_them = " and ".join(f"{row.doctor_flag} {row.kind.metavar}" for row in rows)
                raise SettingsError(f"{', '.join(lacking)} is missing", fix=[f"give {all_of_them}"])
            values = {**named, "backend": backend.name}
            if named.get("context") in allowed:
                values["allow_context"] = named["context"]
            settings = resolve(CommandLine(values), {}, backends, partial=True)
            left = backends.undo(None, say, allowed=allowed, only=named)
            return [*left, *backend.repair.run(settings, say)]
    raise SettingsError(f"no backend repairs what {', '.join(named)} name", fix=["see serve-chaos undo --help"])


def _rbac(given: argparse.Namespace) -> int:
    from pytest_serve_chaos.cluster.kubernetes.external.access_tiers import AccessRequest, manifests
    from pytest_serve_chaos.manifests import dump

    if given.nodes and given.tier != "drain":
        raise SettingsError(
            f"--node names a node that may be drained, and the tier {given.tier} drains none",
            fix=["add --tier drain", "or leave --node out"],
        )
    try:
        option("rayservice").kind.parse(given.rayservice, Path())
    except ValueError:
        raise SettingsError(
            f"{given.rayservice!r} does not name a RayService",
            fix=["write the RayService as NAMESPACE/NAME, for example ml/ranker"],
        ) from None
    namespace, _, name = given.rayservice.partition("/")
    request = AccessRequest(
        namespace,
        name,
        given.tier,
        nodes=tuple(given.nodes),
        method=given.method,
        operator_namespace=given.operator_namespace,
        admission=given.admission_policy,
    )
    print(f"# Apply this, and then: kubectl create token {request.account} --namespace {request.namespace}")
    print(dump(tuple(manifests(request))), end="")
    return 0


def _doctor(named: Sequence[str], settings: dict[str, str], backends: Backends) -> int:
    from pytest_serve_chaos.doctor import examine

    ready = {}
    for backend in named or backends.names:
        findings = examine(backend, settings, os.environ, backends)
        ready[backend] = all(finding.ok or not finding.needed for finding in findings)
        _print(f"{backend}: {'ready' if ready[backend] else 'not ready'}")
        for finding in findings:
            _print(finding.line)
    return 0 if (all if named else any)(ready.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
