"""What the page of all runs says of one, as its ``summary.json`` has it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import get_args

from pytest_serve_chaos.json_text import read_json
from pytest_serve_chaos.model import Json, Outcome

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


@dataclass(frozen=True, slots=True)
class NotPassed:
    """An experiment that failed, or showed nothing.

    Attributes:
        experiment: Its name.
        outcome: Its verdict.
        reason: The first of its reasons; "" without any.
    """

    experiment: str
    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a run found.

    Attributes:
        ray_version: The version of Ray under test, that of the last cluster; "" if there was no cluster.
        backend: What started that cluster.
        app: The app on it.
        outcomes: How many experiments had each verdict, without those that do not count because they were run again.
        not_passed: The experiments that failed, or showed nothing.
    """

    ray_version: str = ""
    backend: str = ""
    app: str = ""
    outcomes: Mapping[Outcome, int] = field(default_factory=dict)
    not_passed: tuple[NotPassed, ...] = ()


@dataclass(frozen=True, slots=True)
class ListedRun:
    """A run as the page lists it.

    Attributes:
        directory: The name of its directory.
        began: When, by the clock of the machine that it ran on.
        summary: What it found; None if that cannot be read.
        problem: Why it cannot be read.
        files: The names of the files in the directory that the page links to.
    """

    directory: str
    began: datetime
    summary: RunSummary | None
    problem: str = ""
    files: tuple[str, ...] = ()


def read_summary(text: bytes) -> RunSummary:
    """What a ``summary.json`` says, of this version or another.

    Raises:
        ValueError: It is not the summary of a run.
    """
    document = read_json(text)
    if not isinstance(document, dict) or not isinstance(document.get("experiments"), list):
        raise ValueError("it has no list of experiments")
    experiments = [one for one in _objects(document["experiments"]) if one.get("run_again") is not True]
    outcomes = Counter(_outcome(one) for one in experiments)
    run = document.get("run")
    described = run if isinstance(run, dict) else {}
    return RunSummary(
        ray_version=_text(described, "ray_version"),
        backend=_text(described, "backend"),
        app=_text(described, "app"),
        outcomes={outcome: outcomes[outcome] for outcome in OUTCOMES if outcomes[outcome]},
        not_passed=tuple(_not_passed(one) for one in experiments if _outcome(one) not in ("passed", "measured")),
    )


def _objects(found: Json) -> Sequence[dict[str, Json]]:
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ValueError("an experiment in it is not an object")
    return [one for one in found if isinstance(one, dict)]


def _outcome(experiment: Mapping[str, Json]) -> Outcome:
    for outcome in OUTCOMES:
        if experiment.get("verdict") == outcome:
            return outcome
    raise ValueError(f"{experiment.get('verdict')!r:.60} is not a verdict")


def _not_passed(experiment: Mapping[str, Json]) -> NotPassed:
    reasons = experiment.get("reasons")
    first = reasons[0] if isinstance(reasons, list) and reasons else ""
    reason = first if isinstance(first, str) else ""
    return NotPassed(_text(experiment, "experiment"), _outcome(experiment), reason)


def _text(record: Mapping[str, Json], name: str) -> str:
    found = record.get(name)
    return found if isinstance(found, str) else ""
