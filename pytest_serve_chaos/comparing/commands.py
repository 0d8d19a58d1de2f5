"""The commands `serve-chaos compare` and `serve-chaos bisect`."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pytest_serve_chaos.analysis.compared import ALPHA, Comparison
from pytest_serve_chaos.analysis.comparison import compare_sets
from pytest_serve_chaos.analysis.likeness import Likeness
from pytest_serve_chaos.analysis.sign_test import pairs_needed
from pytest_serve_chaos.analysis.trial_figures import (
    LEAKS,
    MEASURES,
    USUAL,
    Measure,
    Trial,
    by_experiment,
    measures_of,
    of_one_run,
)
from pytest_serve_chaos.analysis.words import number
from pytest_serve_chaos.clock import seconds
from pytest_serve_chaos.comparing.bisection import Bisection, released, report_document, report_text, without
from pytest_serve_chaos.comparing.child_run import Side, TestRun, signals_as_interrupts, what_to_run
from pytest_serve_chaos.comparing.collected import experiments_in
from pytest_serve_chaos.comparing.differences import BACKEND, ON_LOCAL, Difference, differences_of, side_of
from pytest_serve_chaos.comparing.environments import environment
from pytest_serve_chaos.comparing.paired import PairedComparison, Plan, unit_words
from pytest_serve_chaos.comparing.run_files import trials_at
from pytest_serve_chaos.errors import RunFailed, SettingsError, in_one_line
from pytest_serve_chaos.options import option
from pytest_serve_chaos.printable import printable
from pytest_serve_chaos.report import comparison_html, comparison_text

STATUS = {"no worse": 0, "worse": 1, "cannot say": 2}

_EPILOG = """
exit status: 0 no worse, 1 worse, 2 nobody can say, or the command failed.

examples:
  serve-chaos compare .serve-chaos/OLD .serve-chaos/NEW
  serve-chaos compare --ray 2.54.1 --ray 2.60.0 head_failure tests/test_app.py::test_upgrade
  serve-chaos compare --set RAY_x=1 --set RAY_x=2 head_failure -- --serve-chaos-rate=100
"""


def add_compare(compare: argparse.ArgumentParser) -> None:
    """Adds the arguments of `serve-chaos compare`."""
    compare.formatter_class = argparse.RawDescriptionHelpFormatter
    compare.epilog = _EPILOG
    compare.add_argument(
        "what", nargs="*", metavar="WHAT",
        help="an old and a new run, or directories of runs; with --ray or --set: tests, or names of faults to run",
    )  # fmt: skip
    compare.add_argument("--old", nargs="+", type=Path, default=[], metavar="RUN", help="several old runs")
    compare.add_argument("--new", nargs="+", type=Path, default=[], metavar="RUN", help="several new runs")
    compare.add_argument(
        "--ray", action="append", default=[], metavar="VERSION",
        help="run the tests with this Ray: give it twice, the old and the new one (2.60.0, 2.60, or a wheel)",
    )  # fmt: skip
    compare.add_argument(
        "--set", action="append", default=[], dest="settings", metavar="KEY=VALUE",
        help="a setting of this plugin, or an environment variable of the cluster (in capitals, or env=KEY=VALUE): "
        "twice, the old and the new value",
    )  # fmt: skip
    _add_running(compare)
    names = ", ".join(measure.name for measure in MEASURES)
    compare.add_argument(
        "--on",
        metavar="MEASURES",
        help=f"what is compared, of {names}; default: {','.join(USUAL)}, and leaks of runs that looked for them",
    )
    compare.add_argument(
        "--format", choices=("table", "json", "markdown", "html"), default="table", help="what is printed"
    )
    _add_number(compare, "pairs", 20, "the greatest number of pairs")


def _add_running(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--with", action="append", default=[], dest="extra", metavar="REQUIREMENT",
        help="what pip also installs in the environments, such as what app and tests import",
    )  # fmt: skip
    _add_number(command, "seed", 1000, "the seed of the first runs", kind="seed")
    deadline = option("request_timeout").kind.of_argument
    command.add_argument(
        "--deadline", type=deadline, default="30m", metavar="DURATION", help="how long a run may take (30m)"
    )
    command.add_argument(
        "--directory", type=Path, metavar="PATH",
        help="where runs and report are written; that of an earlier command is continued. Default: below .serve-chaos",
    )  # fmt: skip
    command.set_defaults(arguments=[])


def _add_number(command: argparse.ArgumentParser, name: str, default: int, text: str, *, kind: str = "trials") -> None:
    """Adds an argument that takes what the option `kind` takes."""
    command.add_argument(
        f"--{name}", type=option(kind).kind.of_argument, default=default, metavar="N", help=f"{text} ({default})"
    )


def split_arguments(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words of the command itself, and those after ``--``, which are for pytest."""
    words = list(words)
    if words[:1] not in (["compare"], ["bisect"]) or "--" not in words:
        return words, []
    at = words.index("--")
    return words[:at], words[at + 1 :]


def run_compare(given: argparse.Namespace) -> int:
    """Compares, and returns the exit status.

    Raises:
        ServeChaosError: It cannot be compared.
    """
    if given.ray or given.settings:
        from pytest_serve_chaos.comparing.environments import requirement

        for ray in given.ray:
            requirement(ray)  # before the first one is installed
        return _run_both(given)
    found = _of_runs(given)
    _print(found, given.format)
    return STATUS[found.answer]


def _print(found: Comparison, form: str) -> None:
    if form == "table":
        print(printable("\n".join(comparison_text.lines(found))))
        return
    texts = {"json": comparison_text.json_text, "markdown": comparison_text.markdown, "html": comparison_html.page}
    print(texts[form](found), end="")


# -- runs that are there -----------------------------------------------------------------------------------------------


def _of_runs(given: argparse.Namespace) -> Comparison:
    old, new = list(given.old), list(given.new)
    if given.what and (old or new or len(given.what) != 2):
        raise _which_runs()
    if given.what:
        old, new = [Path(given.what[0])], [Path(given.what[1])]
    if not old or not new:
        raise _which_runs()
    before, after = trials_at(old), trials_at(new)
    watched = all(any(LEAKS in trial.values for trial in trials) for trials in (before, after))
    measures = _measures(given, more=(LEAKS,) if watched else ())
    return compare_sets(by_experiment(before), by_experiment(after), measures, names=_names(old, new))


def _names(old: Sequence[Path], new: Sequence[Path]) -> tuple[str, str]:
    """What the sides are called: by their paths, where these are short and tell them apart."""
    names = [
        str(each[0]) if len(each) == 1 else f"{label} ({len(each)} runs)"
        for label, each in (("old", old), ("new", new))
    ]
    return (names[0], names[1]) if names[0] != names[1] else ("old", "new")


def _which_runs() -> SettingsError:
    return SettingsError(
        "nothing says which runs are compared",
        fix=[
            "give two runs, the old one first: serve-chaos compare .serve-chaos/OLD .serve-chaos/NEW",
            "or several for each side: --old RUN RUN --new RUN RUN",
            "or what differs between two runs to be made: --ray 2.54.1 --ray 2.60.0 head_failure",
        ],
    )


def _measures(given: argparse.Namespace, more: Sequence[str] = ()) -> tuple[Measure, ...]:
    """What the user names; else the usual ones, and some more."""
    named = (*USUAL, *more) if given.on is None else given.on.split(",")
    return measures_of(name.strip() for name in named if name.strip())


# -- runs to be made ---------------------------------------------------------------------------------------------------


def _run_both(given: argparse.Namespace) -> int:
    units, measures = _units(given), _measures(given)
    _require_enough(given.pairs, measures, len(units))
    differences, deadline = _differences(given), seconds(given.deadline, name="--deadline")
    experiments = sum(experiments_in(tests, given.arguments) for tests in units)
    _require_enough(given.pairs, measures, experiments)
    directory = _directory(given, "compare")

    def compare() -> int:
        with contextlib.ExitStack() as held:
            sides = _sides(given, differences, directory, held)
            plan = Plan(
                sides=sides,
                units=units,
                experiments=experiments,
                measures=measures,
                most=given.pairs,
                seed=given.seed,
                directory=directory,
                arguments=tuple(given.arguments),
                deadline=deadline,
            )
            _say(f"{sides[0].name} against {sides[1].name}: {unit_words(units)}; at most {given.pairs} pairs")
            _say(f"the runs are in {directory}")
            _keep_plan(plan)
            found = _pairs(plan)
        _print(found, given.format)
        return STATUS[found.answer]

    return _interruptible(compare, directory)


def _interruptible(run: Callable[[], int], directory: Path) -> int:
    """Runs it, and returns its exit status: 130 after a Ctrl-C or a signal that is one."""
    with signals_as_interrupts():
        try:
            return run()
        except KeyboardInterrupt:
            _say(f"it was interrupted; --directory {directory} goes on from there")
            return 130


def _pairs(plan: Plan) -> Comparison:
    """Runs pairs until it is decided, and writes the reports, also of a comparison that ends too early."""
    going = PairedComparison(plan, _say)
    try:
        going.run()
    except BaseException as error:
        why = "it was interrupted" if isinstance(error, KeyboardInterrupt) else in_one_line(error)
        going.notes.append(f"the comparison is not complete: {why}")
        _say(f"not complete; what was measured is in {plan.directory}")
        raise
    finally:
        _write(going.comparison(), plan.directory)
    return going.comparison()


def _require_enough(pairs: int, measures: Sequence[Measure], experiments: int) -> None:
    """Refuses a comparison that could find nothing, before it takes hours.

    Raises:
        SettingsError: There are too few pairs, or there is nothing to compare.
    """
    if not measures:
        raise SettingsError(
            "--on names nothing to compare", fix=[f"give some of {', '.join(m.name for m in MEASURES)}"]
        )
    needed = pairs_needed(ALPHA / (len(measures) * experiments))
    if pairs < needed:
        what = f"{number(len(measures), 'measure')} of {number(experiments, 'experiment')}"
        raise SettingsError(
            f"{number(pairs, 'pair')} could show no difference in {what}: that takes {needed}, all of them alike",
            fix=[f"give --pairs {needed} or more", "or compare less: --on lost"],
        )


def _keep_plan(plan: Plan) -> None:
    """Writes what is compared, or refuses to continue a comparison of something else."""
    path = plan.directory / "plan.json"
    said = {
        "sides": [{"name": side.name, "arguments": side.arguments} for side in plan.sides],
        "tests": plan.units,
        "seed": plan.seed,
        "arguments": plan.arguments,
    }
    text = json.dumps(said, indent=2) + "\n"
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise SettingsError(
            f"{plan.directory} has the runs of another comparison",
            checked=[str(path)],
            fix=["give the same tests, sides, seed and arguments", "or another --directory"],
        )
    path.write_text(text, encoding="utf-8")


def _units(given: argparse.Namespace) -> tuple[tuple[str, ...], ...]:
    if given.old or given.new or not given.what:
        raise SettingsError(
            "nothing says which experiments are run on both sides",
            fix=["name tests, or faults: serve-chaos compare --ray 2.54.1 --ray 2.60.0 head_failure"],
        )
    return tuple(what_to_run(given.what))


def _directory(given: argparse.Namespace, kind: str) -> Path:
    if given.directory is not None:
        directory: Path = given.directory
    else:
        directory = Path(str(option("report_dir").default)) / f"{kind}-{time.strftime('%Y-%m-%dT%H-%M-%S')}"
        if not directory.parent.exists():
            directory.parent.mkdir(parents=True)
            (directory.parent / ".gitignore").write_text("# Created by pytest-serve-chaos.\n*\n", encoding="utf-8")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory.resolve()


def _sides(
    given: argparse.Namespace, differences: Sequence[Difference], directory: Path, held: contextlib.ExitStack
) -> tuple[Side, Side]:
    """Both sides, in environments that are held until all is over."""
    rays = [*given.ray, *given.ray][:2] if given.ray else []
    pythons = []
    for ray in rays or [None, None]:
        if ray is None:
            pythons.append((Path(sys.executable), ""))
        elif pythons and ray == rays[0]:
            pythons.append(pythons[0])
        else:
            made = held.enter_context(environment(ray, given.extra, directory / "environments.log", _say))
            pythons.append((made.python, made.ray))
    shown = [ray for _, ray in pythons] if pythons[0][1] != pythons[1][1] else rays
    sides = [side_of(place, pythons[place][0], shown[place] if shown else "", differences) for place in (0, 1)]
    return sides[0], sides[1]


def _differences(given: argparse.Namespace) -> list[Difference]:
    """What is set on the sides.

    Raises:
        SettingsError: A setting cannot be used, or both sides would be the same.
    """
    if len(given.ray) > 2:
        raise SettingsError("--ray was given more than twice", fix=["give the old and the new one"])
    differences = differences_of(given.settings, given.arguments)
    if len(set(given.ray)) < 2 and all(one.same for one in differences):
        raise SettingsError(
            "both sides are the same",
            fix=["give --ray twice, the old and the new one", "or --set KEY=OLD --set KEY=NEW"],
        )
    elsewhere = [word for word in given.arguments if word.startswith(f"{BACKEND.flag}=") and word != ON_LOCAL]
    if given.ray and elsewhere:
        raise SettingsError(
            f"--ray compares on local, and {elsewhere[0]} would start another Ray on both sides",
            fix=["leave the backend out", "or give images of pods: --set ray_image=OLD --set ray_image=NEW"],
        )
    return differences


def _say(text: str) -> None:
    print(printable(f"serve-chaos: {text}"), file=sys.stderr, flush=True)


def _write(found: Comparison, directory: Path) -> None:
    """Writes the reports of a comparison."""
    for name, text in _files(found):
        (directory / name).write_text(text, encoding="utf-8")


def _files(found: Comparison) -> Iterator[tuple[str, str]]:
    yield "comparison.json", comparison_text.json_text(found)
    yield "comparison.md", comparison_text.markdown(found)
    yield "comparison.html", comparison_html.page(found)


# -- the release that made it worse ------------------------------------------------------------------------------------


def add_bisect(bisect: argparse.ArgumentParser) -> None:
    """Adds the arguments of `serve-chaos bisect`."""
    bisect.formatter_class = argparse.RawDescriptionHelpFormatter
    bisect.epilog = "exit status: 0 the release was found, 2 the two ends do not differ, or the command failed."
    bisect.add_argument("what", metavar="EXPERIMENT", help="a test, or the name of a fault")
    bisect.add_argument(
        "--good", required=True, metavar="VERSION", help="a release of Ray that is good: 2.54.1 or 2.54"
    )
    bisect.add_argument("--bad", required=True, metavar="VERSION", help="a newer release that is worse")
    bisect.add_argument("--skip", action="append", default=[], metavar="VERSION", help="a release that is left out")
    bisect.add_argument(
        "--on",
        default="failed,lost,outage",
        metavar="MEASURES",
        help="measures in which it may be worse; default: failed,lost,outage",
    )
    _add_number(bisect, "pairs", 20, "the greatest number of pairs of the two ends")
    _add_number(bisect, "trials", 12, "the greatest number of trials of each other release")
    _add_running(bisect)


def run_bisect(given: argparse.Namespace) -> int:
    """Bisects, and returns the exit status.

    Raises:
        ServeChaosError: The ends do not differ, or a release gives no results.
    """
    _require_enough(given.pairs, _measures(given), 1)
    seconds(given.deadline, name="--deadline")
    (tests,) = what_to_run([given.what])
    experiments = experiments_in(tests, given.arguments)
    _require_enough(given.pairs, _measures(given), experiments)
    versions = without(released(given.good, given.bad), given.skip)
    _say(f"{len(versions)} releases: {', '.join(versions)}")
    directory = _directory(given, "bisect")
    return _interruptible(lambda: _bisect(given, versions, tests, experiments, directory), directory)


def _bisect(
    given: argparse.Namespace, versions: Sequence[str], tests: tuple[str, ...], experiments: int, directory: Path
) -> int:
    log, deadline = directory / "environments.log", seconds(given.deadline, name="--deadline")
    arguments = tuple(given.arguments)
    with contextlib.ExitStack() as held:

        def side(version: str) -> Side:
            made = held.enter_context(environment(version, given.extra, log, _say))
            return Side(f"Ray {made.ray}", made.python, (ON_LOCAL,))

        ends = side(versions[0]), side(versions[-1])
        plan = Plan(
            sides=ends,
            units=(tests,),
            experiments=experiments,
            measures=_measures(given),
            most=given.pairs,
            seed=given.seed,
            directory=directory,
            arguments=arguments,
            deadline=deadline,
        )
        _keep_plan(plan)
        found = _pairs(plan)
        worse = sorted((row for row in found.rows if row.finding == "worse"), key=lambda row: row.p)
        if not worse:
            _print(found, "table")
            _say(f"Ray {versions[-1]} was not seen to be worse than Ray {versions[0]}, so there is nothing to bisect")
            return 2
        row, sides = worse[0], dict(zip((versions[0], versions[-1]), ends, strict=True))

        def trial(version: str, number: int) -> Trial | None:
            if version not in sides:
                sides[version] = side(version)
            run = TestRun(
                sides[version],
                tests,
                seed=given.seed + number,
                directory=directory / f"{version}-trial-{number:02d}",
                arguments=arguments,
                deadline=deadline,
            )
            return _trial_of(run, row.experiment)

        likeness = Likeness.between(row.old, row.new)
        bisection = Bisection(versions, row.experiment, row.measure, likeness, trial, _say, given.trials)
        first_bad = bisection.first_bad()
    (directory / "bisection.json").write_text(report_document(bisection, first_bad), encoding="utf-8")
    print(printable(report_text(bisection, first_bad, found)))
    return 0


def _trial_of(run: TestRun, experiment: str) -> Trial | None:
    """The trial of an experiment in a run, or all of them as one; None where it has none."""
    try:
        of_it = by_experiment(run.trials()).get(experiment)
    except RunFailed as failed:
        if not failed.again:
            raise
        _say(str(failed))
        return None
    return of_one_run(of_it) if of_it else None
