"""What a comparison takes of each experiment: its verdict, and figures of which less is better."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_serve_chaos.analysis.growth import LEAST_SAMPLES
from pytest_serve_chaos.analysis.rank_test import median
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
        unit: Of its values: ``requests``, ``s`` for seconds, ``MiB``, ``share`` of trials, or ``""``.
        of: Reads it from an experiment of the JSON document; None where it is unknown.
    """

    name: str
    title: str
    unit: str
    of: Callable[[Mapping[str, Json]], float | None] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Trial:
    """An experiment, run once; or all trials of it in one run of pytest, as `of_one_run` puts them together.

    Attributes:
        experiment: Its name, the same in all runs of it.
        outcome: Its verdict.
        values: Its figures by the name of the measure; infinite: it never came back. What is unknown is not there.
        lost: Lost requests in the window.
        sent: Requests in the window.
        cluster: What was under test, in words: ``ray_version`` and the like.
        run: The run of pytest that it is from. Trials of one run share its cluster, its machine and its hour.
        of: The trials that were put together; none where it is one trial itself.
    """

    experiment: str
    outcome: str
    values: Mapping[str, float] = field(default_factory=dict)
    lost: int = 0
    sent: int = 0
    cluster: Mapping[str, str] = field(default_factory=dict)
    run: str = ""
    of: tuple[Trial, ...] = ()

    @property
    def each(self) -> tuple[Trial, ...]:
        """The trials that it stands for."""
        return self.of or (self,)

    @property
    def counts(self) -> bool:
        """Whether it showed something: one that is inconclusive, or has no verdict, counts for nothing."""
        return self.outcome in ("passed", "failed", "measured")


def trials_of(document: object, where: str) -> list[Trial]:
    """The experiments of the JSON document of a run, without those whose test was run again.

    Args:
        document: The document.
        where: Its file, for messages; it also tells its trials from those of other runs.

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
            trials.append(_trial(one, where))
    return trials


def _trial(one: Mapping[str, Json], run: str) -> Trial:
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
        run=run,
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


def _until(name: str, *before: str) -> Callable[[Mapping[str, Json]], float | None]:
    """Reads seconds until something was back; infinite if it never came back while it was observed.

    It does not matter whether the test demanded it: a fault that only measures leaves a cluster broken as well.

    Args:
        name: What comes back.
        *before: What must come back before it, so that it never came where that did not.
    """

    def read(one: Mapping[str, Json]) -> float | None:
        measurement = _object(one, "measurement")
        if not _number(measurement, "sent"):
            return None
        seen = _number(measurement, name)
        if seen is not None:
            return seen
        return math.inf if {name, *before} & _never(one) else None

    return read


_WITHOUT_DEMAND = {"traffic_back", "redundancy_back"}
"""What each experiment waits for, whatever its test demands."""


def _never(one: Mapping[str, Json]) -> set[str]:
    """What did not come back while it was observed."""
    said = one.get("never")
    if isinstance(said, list):
        return {str(name) for name in said}
    # Documents of earlier versions have only the times, which are null.
    measurement, demanded = _object(one, "measurement"), _object(one, "expectations")
    judged = {name for name in demanded if demanded[name]} if one.get("verdict") == "failed" else set()
    return {name for name in _WITHOUT_DEMAND | judged if name in measurement and measurement[name] is None}


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
    """What became of the figures of the processes that were watched.

    None: none was there all the time, or it was too short to tell a leak from a warm-up.
    """
    watched = _object(one, "watched")
    trends = watched.get("trends")
    too_few = (_number(watched, "samples") or 0) < LEAST_SAMPLES
    if too_few or not _number(watched, "processes") or not isinstance(trends, list):
        return None
    return [trend for trend in trends if isinstance(trend, Mapping)]


LEAKS, FAILED = "leaks", "failed"

SHARE = "share"
"""The unit of a share of the trials: each has 0 or 1."""

MEASURES = (
    Measure("lost", "lost requests", "requests", _count("lost")),
    Measure("late", "late requests", "requests", _count("late")),
    Measure("outage", "longest outage", "s", _count("longest_outage")),
    Measure("traffic_back", "traffic back", "s", _until("traffic_back")),
    Measure("redundancy_back", "redundancy back", "s", _until("redundancy_back")),
    Measure("settled", "settled", "s", _until("settled", "redundancy_back")),
    Measure("p50", "median latency", "s", _latency("p50")),
    Measure("p99", "p99 latency", "s", _latency("p99")),
    Measure(FAILED, "failed trials", SHARE, _failed),
    Measure(LEAKS, "processes that leak", "", _leaks),
    Measure("growth", "memory growth a minute", "MiB", _growth),
)
"""All that can be compared."""

USUAL = (FAILED, "lost", "outage", "redundancy_back", "p99")
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


def of_one_run(trials: Sequence[Trial]) -> Trial:
    """The trials of an experiment in one run as one: the median of each figure, and the share of them that failed.

    They share a cluster, a machine and an hour, so that ten of them say less about the next run than ten runs would.
    """
    if len(trials) == 1:
        return trials[0]
    counted = [trial for trial in trials if trial.counts]
    values = {}
    for measure in MEASURES:
        each = [trial.values[measure.name] for trial in counted if measure.name in trial.values]
        if each:
            values[measure.name] = math.fsum(each) / len(each) if measure.name == FAILED else median(each)
    outcomes = [trial.outcome for trial in counted] or ["inconclusive"]
    return Trial(
        experiment=trials[0].experiment,
        outcome="failed" if "failed" in outcomes else outcomes[0],
        values=values,
        lost=sum(trial.lost for trial in counted),
        sent=sum(trial.sent for trial in counted),
        cluster=trials[0].cluster,
        run=trials[0].run,
        of=tuple(trials),
    )


def by_run(trials: Sequence[Trial]) -> list[Trial]:
    """The trials of an experiment with those of each run put together."""
    found: dict[str, list[Trial]] = {}
    for trial in trials:
        found.setdefault(trial.run, []).append(trial)
    return [of_one_run(of_it) for of_it in found.values()]


def by_experiment(trials: Sequence[Trial]) -> dict[str, list[Trial]]:
    """The trials of each experiment, in their order."""
    found: dict[str, list[Trial]] = {}
    for trial in trials:
        found.setdefault(trial.experiment, []).append(trial)
    return found
