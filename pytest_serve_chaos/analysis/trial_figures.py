"""What a comparison takes of each experiment: its verdict, and figures of which less is better."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_serve_chaos.errors import HistoryError, SettingsError
from pytest_serve_chaos.model import Json

SCHEMA = 2
"""The version of the JSON document of a run that is read here."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure of an experiment; less is better.

    Attributes:
        name: What the command line calls it.
        title: What reports call it.
        unit: Of its values: ``requests``, ``s`` for seconds, ``MiB``, or ``""``.
        of: Reads it from an experiment of the JSON document; None where it is unknown.
    """

    name: str
    title: str
    unit: str
    of: Callable[[Mapping[str, Json]], float | None] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of an experiment.

    Attributes:
        experiment: Its name, the same in all runs of it.
        outcome: Its verdict.
        values: Its figures by the name of the measure; infinite: it never came back. What is unknown is not there.
        lost: Lost requests in the window.
        sent: Requests in the window.
        cluster: What was under test, in words: ``ray_version`` and the like.
    """

    experiment: str
    outcome: str
    values: Mapping[str, float] = field(default_factory=dict)
    lost: int = 0
    sent: int = 0
    cluster: Mapping[str, str] = field(default_factory=dict)

    @property
    def counts(self) -> bool:
        """Whether it showed something: one that is inconclusive, or has no verdict, counts for nothing."""
        return self.outcome in ("passed", "failed", "measured")


def trials_of(document: object, where: str) -> list[Trial]:
    """The experiments of the JSON document of a run, without those whose test was run again.

    Args:
        document: The document.
        where: Its file, for messages.

    Raises:
        HistoryError: It is not such a document.
    """
    experiments = document.get("experiments") if isinstance(document, Mapping) else None
    if not isinstance(document, Mapping) or document.get("schema") != SCHEMA or not isinstance(experiments, list):
        raise HistoryError(
            f"{where} is not a summary of a run in the format of this version",
            checked=[f"schema must be {SCHEMA}, and experiments a list"],
            fix=["give the history.jsonl of the same run: it can be judged again by any version"],
        )
    trials = []
    for one in experiments:
        if not isinstance(one, Mapping) or not isinstance(one.get("experiment"), str):
            raise HistoryError(
                f"{where} has an experiment without a name",
                checked=[f"{one!r:.120}"],
                fix=["give the history.jsonl of the same run: it can be judged again by any version"],
            )
        if not one.get("run_again"):
            trials.append(_trial(one))
    return trials


def _trial(one: Mapping[str, Json]) -> Trial:
    values = {measure.name: value for measure in MEASURES if (value := measure.of(one)) is not None}
    measurement, cluster = _object(one, "measurement"), _object(one, "cluster")
    shown = {name: str(value) for name, value in cluster.items() if isinstance(value, (str, int)) and name != "url"}
    return Trial(
        experiment=_key(one),
        outcome=str(one.get("verdict")),
        values=values,
        lost=int(_number(measurement, "lost") or 0),
        sent=int(_number(measurement, "sent") or 0),
        cluster=shown,
    )


def _key(one: Mapping[str, Json]) -> str:
    """The name that all trials of a test's experiment have."""
    of = _object(one, "trial").get("of")
    return of if isinstance(of, str) else str(one["experiment"])


def _object(one: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    value = one.get(name)
    return value if isinstance(value, Mapping) else {}


def _number(one: Mapping[str, Json], name: str) -> float | None:
    value = one.get(name)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _count(name: str) -> Callable[[Mapping[str, Json]], float | None]:
    """Reads a number of requests, or seconds, of the measurement."""
    return lambda one: _number(_object(one, "measurement"), name)


def _until(name: str) -> Callable[[Mapping[str, Json]], float | None]:
    """Reads seconds until something was back; infinite if it was demanded, and never came."""

    def read(one: Mapping[str, Json]) -> float | None:
        measurement, demanded = _object(one, "measurement"), _object(one, "expectations")
        if not _number(measurement, "sent"):
            return None
        seen = _number(measurement, name)
        if seen is not None:
            return seen
        return math.inf if demanded.get(name) and one.get("verdict") == "failed" else None

    return read


def _latency(name: str) -> Callable[[Mapping[str, Json]], float | None]:
    """Reads a percentile of the latencies since the fault; a lost request took infinitely long."""

    def read(one: Mapping[str, Json]) -> float | None:
        during = _object(one, "measurement").get("during")
        if not isinstance(during, Mapping) or name not in during:
            return None
        seen = _number(during, name)
        return math.inf if seen is None else seen

    return read


def _failed(one: Mapping[str, Json]) -> float | None:
    return {"passed": 0.0, "failed": 1.0}.get(str(one.get("verdict")))


def _leaks(one: Mapping[str, Json]) -> float | None:
    """Reads how many processes leak since the fault."""
    trends = _trends(one)
    if trends is None:
        return None
    return float(len({str(t.get("process")) for t in trends if _is_leak(t)}))


def _is_leak(trend: Mapping[str, Json]) -> bool:
    return bool((trend.get("grows") and not trend.get("grew_before")) or trend.get("stays_above"))


def _growth(one: Mapping[str, Json]) -> float | None:
    """Reads by how many MiB a minute the memory of all watched processes grew together; 0.0 where it shrank."""
    trends = _trends(one)
    if trends is None:
        return None
    slopes = [_number(t, "slope") or 0.0 for t in trends if t.get("figure") == "memory"]
    return max(0.0, math.fsum(slopes) / 2**20)


def _trends(one: Mapping[str, Json]) -> list[Mapping[str, Json]] | None:
    """What became of the figures of the processes that were watched; None where none was there all the time."""
    watched = _object(one, "watched")
    trends = watched.get("trends")
    if not _number(watched, "processes") or not isinstance(trends, list):
        return None
    return [trend for trend in trends if isinstance(trend, Mapping)]


LEAKS = "leaks"

MEASURES = (
    Measure("lost", "lost requests", "requests", _count("lost")),
    Measure("late", "late requests", "requests", _count("late")),
    Measure("outage", "longest outage", "s", _count("longest_outage")),
    Measure("traffic_back", "traffic back", "s", _until("traffic_back")),
    Measure("redundancy_back", "redundancy back", "s", _until("redundancy_back")),
    Measure("settled", "settled", "s", _until("settled")),
    Measure("p50", "median latency", "s", _latency("p50")),
    Measure("p99", "p99 latency", "s", _latency("p99")),
    Measure("failed", "failed trials", "", _failed),
    Measure(LEAKS, "processes that leak", "", _leaks),
    Measure("growth", "memory growth a minute", "MiB", _growth),
)
"""All that can be compared."""

USUAL = ("lost", "outage", "redundancy_back", "p99")
"""What is compared by default. Each one more makes the others harder to decide."""


def measures_of(names: Iterable[str]) -> tuple[Measure, ...]:
    """The measures of these names.

    Raises:
        SettingsError: There is no name, or one is not that of a measure.
    """
    known = {measure.name: measure for measure in MEASURES}
    chosen = []
    for name in dict.fromkeys(names):
        if name not in known:
            raise SettingsError(f"{name!r} cannot be compared", fix=[f"the measures are {', '.join(known)}"])
        chosen.append(known[name])
    if not chosen:
        raise SettingsError("--on names nothing to compare", fix=[f"name some of {', '.join(known)}"])
    return tuple(chosen)


def by_experiment(trials: Sequence[Trial]) -> dict[str, list[Trial]]:
    """The trials of each experiment, in their order."""
    found: dict[str, list[Trial]] = {}
    for trial in trials:
        found.setdefault(trial.experiment, []).append(trial)
    return found
