"""Finds the release of Ray that made an experiment worse: the trials of each step decide it."""

from __future__ import annotations

import contextlib
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from packaging.version import InvalidVersion, Version

from pytest_serve_chaos.analysis.compared import Comparison
from pytest_serve_chaos.analysis.likeness import Like, Likeness
from pytest_serve_chaos.analysis.trial_figures import Measure, Trial
from pytest_serve_chaos.analysis.words import number as counted
from pytest_serve_chaos.comparing.environments import Say
from pytest_serve_chaos.errors import RunFailed, SettingsError
from pytest_serve_chaos.report.comparison_text import trial_words, value_words

ERROR = 0.05
"""The probability, about, that a step of a bisection goes the wrong way."""

_LISTED_WITHIN = 120.0

_FRUITLESS = 3
"""Trials of a release that showed nothing, and nothing else, after which no further one is run."""


def released(good: str, bad: str) -> list[str]:
    """The releases of Ray from the good one to the bad one that pip finds for this Python, in their order.

    Raises:
        SettingsError: pip gives no list, or one of the two is not in it.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "index", "versions", "ray"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=_LISTED_WITHIN, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        text = f"pip does not list the releases of Ray: {error}"
        raise SettingsError(text, fix=["see: pip index versions ray"]) from error
    return between(asked.stdout, good, bad, asked.stderr)


def between(listed: str, good: str, bad: str, errors: str = "") -> list[str]:
    """The releases from the good one to the bad one in what `pip index versions` printed.

    Raises:
        SettingsError: There is no list, or one of the two is not in it, or they are in the wrong order.
    """
    found = re.search(r"Available versions: (.*)", listed)
    if found is None:
        raise SettingsError(
            "pip does not list the releases of Ray",
            checked=errors.strip().splitlines()[-3:],
            fix=["see: pip index versions ray"],
        )
    versions = sorted(version for text in found[1].split(",") if (version := _version(text)) is not None)
    first, last = _newest(versions, good), _newest(versions, bad)
    if first >= last:
        raise SettingsError(
            f"{first} is not older than {last}",
            fix=["--good is the older release, --bad the newer one; for an improvement, swap what is looked for"],
        )
    return [str(version) for version in versions if first <= version <= last]


def without(versions: Sequence[str], skipped: Sequence[str]) -> list[str]:
    """The releases that are left: ``2.55`` leaves out all its patches.

    Raises:
        SettingsError: The good or the bad release would be left out.
    """
    left = [version for version in versions if not any(_is(version, one) for one in skipped)]
    if not versions or left[:1] != list(versions[:1]) or left[-1:] != list(versions[-1:]):
        raise SettingsError(
            f"--skip leaves out {versions[0]} or {versions[-1]}, between which the release is looked for",
            fix=["give other releases as --good and --bad"],
        )
    return left


def _is(version: str, wanted: str) -> bool:
    return version == wanted or version.startswith(f"{wanted}.")


def _version(text: str) -> Version | None:
    with contextlib.suppress(InvalidVersion):
        version = Version(text.strip())
        return None if version.is_prerelease else version
    return None


def _newest(versions: Sequence[Version], wanted: str) -> Version:
    """The release with that version, or the newest patch of ``2.54``."""
    fits = [version for version in versions if _is(str(version), wanted)]
    if not fits:
        near = ", ".join(str(version) for version in versions[-12:])
        raise SettingsError(
            f"there is no release {wanted} of Ray for this Python",
            checked=[f"the newest: {near}"],
            fix=["give one that pip lists: pip index versions ray"],
        )
    return fits[-1]


@dataclass(frozen=True, slots=True)
class Step:
    """What became of a release.

    Attributes:
        version: The release.
        values: The measure in its trials.
        like: What it is like.
        sure: Whether the trials decided it, and not only how many there may be.
    """

    version: str
    values: tuple[float, ...]
    like: Like
    sure: bool


@dataclass(slots=True)
class Bisection:
    """Halves the releases between a good and a bad one.

    Attributes:
        versions: The good one first, the bad one last.
        experiment: The experiment in which they differ.
        measure: The measure in which they differ.
        likeness: Tells their trials apart.
        trial: Runs the experiment on a release: version, number of the trial. None where it showed nothing.
        say: Prints a line of progress.
        most: The greatest number of trials of a release.
        steps: What became of the releases that were tried.
    """

    versions: Sequence[str]
    experiment: str
    measure: Measure
    likeness: Likeness
    trial: Callable[[str, int], Trial | None]
    say: Say
    most: int = 12
    steps: list[Step] = field(default_factory=list)

    def first_bad(self) -> str:
        """The first release that is like the bad one.

        Raises:
            RunFailed: A release gives no results.
        """
        good, bad = 0, len(self.versions) - 1
        while bad - good > 1:
            middle = (good + bad) // 2
            step = self._step(self.versions[middle])
            self.steps.append(step)
            unsure = "" if step.sure else f", as far as {len(step.values)} trials show"
            self.say(f"Ray {step.version} is {step.like}{unsure}: {self._shown(step.values)}")
            good, bad = (middle, bad) if step.like == "good" else (good, middle)
        return self.versions[bad]

    @property
    def _error(self) -> float:
        """The error of each step, so that all together have the one that is allowed."""
        return ERROR / max(1, math.ceil(math.log2(max(2, len(self.versions) - 1))))

    def _step(self, version: str) -> Step:
        values: list[float] = []
        for number in range(1, self.most + 1):
            trial = self.trial(version, number)
            if trial is None or not trial.counts or self.measure.name not in trial.values:
                if not values and number == _FRUITLESS:
                    break
                continue
            self.say(f"trial {number} of Ray {version}: {trial_words(trial)}")
            values.append(trial.values[self.measure.name])
            like = self.likeness.like(values, self._error)
            if like is not None:
                return Step(version, tuple(values), like, True)
        if not values:
            raise RunFailed(
                f"no trial of Ray {version} showed its {self.measure.title}",
                fix=["see the logs of its runs", "or leave that release out: --skip VERSION"],
                again=False,
            )
        return Step(version, tuple(values), "bad" if self.likeness.evidence(values) > 0 else "good", False)

    def _shown(self, values: Sequence[float]) -> str:
        return f"{self.measure.title} {', '.join(value_words(value, self.measure) for value in values)}"


def report_text(bisection: Bisection, first_bad: str, found: Comparison) -> str:
    """What was found, in lines."""
    measure = bisection.measure
    row = next(row for row in found.of(bisection.experiment) if row.measure == measure)
    tried = {step.version: step for step in bisection.steps}
    last_good = bisection.versions[bisection.versions.index(first_bad) - 1]
    unsure = [step for step in bisection.steps if not step.sure]
    what = f"{bisection.experiment}: {measure.title}"
    lines = [f"{what}: worse since Ray {first_bad}; Ray {last_good} is good"]
    if unsure:
        lines = [f"{what}: probably worse since Ray {first_bad}, and perhaps since another release"]
        for one in unsure:
            those = f"{counted(len(one.values), 'trial')} of Ray {one.version}"
            lines.append(f"  not sure: {those} did not decide whether it is good or bad")
        lines.append("  --trials allows more of them, --directory continues")
    for place, version in enumerate(bisection.versions):
        ends = {0: row.old, len(bisection.versions) - 1: row.new}.get(place)
        step = tried.get(version)
        values = ends if step is None else step.values
        if values is not None:
            like = step.like if step is not None else "good" if place == 0 else "bad"
            shown = ", ".join(value_words(value, measure) for value in values)
            doubt = "?" if step is not None and not step.sure else ""
            lines.append(f"  {version:<9} {like + doubt:<5} {shown}")
    limit = value_words(bisection.likeness.limit, measure)
    lines.append(
        f"a release counts as bad if its trials are above {limit} as often as those of Ray {bisection.versions[-1]}"
    )
    return "\n".join(lines)


def report_document(bisection: Bisection, first_bad: str) -> str:
    """What was found, as JSON."""
    steps = [
        {"version": s.version, "like": s.like, "sure": s.sure, "values": [_json(value) for value in s.values]}
        for s in bisection.steps
    ]
    document = {
        "schema": 1,
        "experiment": bisection.experiment,
        "measure": bisection.measure.name,
        "limit": _json(bisection.likeness.limit),
        "releases": list(bisection.versions),
        "first_bad": first_bad,
        "sure": all(step.sure for step in bisection.steps),
        "steps": steps,
    }
    return json.dumps(document, indent=2) + "\n"


def _json(value: float) -> float | str:
    return "never" if math.isinf(value) else value
