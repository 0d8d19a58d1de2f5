"""Holds the rules of predictions against runs that were recorded.

``python -m tools.predictions HISTORY...`` computes for each experiment of each ``history.jsonl`` what its fault would be
expected to cost, by what was known just before it, and prints that beside what was seen. Histories of before there were
predictions do not say what a marker said, so that is read from the words of the fault.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pytest_serve_chaos.analysis.record import read_record
from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.errors import ServeChaosError
from pytest_serve_chaos.events import FaultAsked, Predicted, TrafficBegan, of_kind
from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.faults.predicting import settings_of, traffic_of
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import ClusterDescription, Component
from pytest_serve_chaos.prediction.comparison import Comparison, compared
from pytest_serve_chaos.prediction.situation import Situation, TrafficNow
from pytest_serve_chaos.prediction.steps import between
from pytest_serve_chaos.results import results_of

_HEAD = (
    "backend",
    "experiment",
    "fault",
    "expected lost",
    "seen",
    "expected outage",
    "seen",
    "expected back",
    "seen",
    "",
)


def rows_of(path: Path) -> Iterator[tuple[str, ...]]:
    """A row for each experiment of a history whose fault landed."""
    history = History.load(path)
    for result in results_of(history):
        found = again(history, result)
        if found is not None:
            yield _row(result, found)


def again(history: History, result: Result) -> Comparison | None:
    """The prediction of an experiment that has ended, against what was seen; None where there can be none."""
    asked = of_kind(FaultAsked, result.events)
    said = of_kind(Predicted, result.events)
    if len(asked) != 1 or not result.landed or result.before is None or result.description is None:
        return None
    situation = _situation(history, result, asked[0], said[0].prediction.fault if said else asked[0].fault)
    rule = BUILT_IN[asked[0].fault].predict if asked[0].fault in BUILT_IN else None
    prediction = None if rule is None else rule(situation)
    return None if prediction is None or prediction.why_not else compared(prediction, result)


def _situation(history: History, result: Result, asked: FaultAsked, fault: str) -> Situation:
    record = read_record(history, result.experiment)
    before, description = result.before, result.description
    assert before is not None
    assert description is not None
    began = [event for event in record.events if isinstance(event, TrafficBegan) and not event.source]
    steady = [r for r in record.requests if r.scheduled < asked.at and not r.kept]
    options = options_of(asked.text)
    known = [c for identity in result.victims if (c := before.find(identity))]
    return Situation(
        fault=fault,
        how=str(options["how"]),
        options=options,
        victims=tuple(known) or _named(before.components, asked.text),
        cluster=description,
        topology=before,
        settings=settings_of(spec_of(description), description),
        traffic=traffic_of(steady, began[-1]) if began else TrafficNow(),
        hold="stays down" in asked.text,
        lasts=asked.held_for or None,
        autoscaled=result.scaling.deployments,
    )


def spec_of(description: ClusterDescription) -> ClusterSpec:
    """The cluster that was wanted, as far as a history says it."""
    profile = "guide" if description.profile == "guide" else "fast"
    ingress = "haproxy" if description.ingress == "haproxy" else "python"
    gcs = "none" if description.gcs == "none" else "redis"
    return ClusterSpec(gcs=gcs, workers=description.workers, profile=profile, app=description.app, ingress=ingress)


def options_of(text: str) -> Mapping[str, object]:
    """What the marker of a fault said, by the words in which the history describes it."""
    options: dict[str, object] = {"how": "kill"}
    for words, how in (("SIGSTOP", "freeze"), ("stands still", "freeze"), ("drained", "drain"), ("shut down", "stop"),
                       ("SIGTERM", "stop"), ("graceful", "stop"), ("is deleted", "delete")):  # fmt: skip
        if words in text:
            options["how"] = how
            break
    if "no_restart=True) of the controller" in text:
        options["replacement"] = "new_actor"
    if "health check" in text:
        options["mode"] = "hang" if text.endswith("hangs") else "raise"
    if "new version" in text and ("whose" in text or "which answers" in text):
        options["bad"] = "constructor"
    return options


def _named(components: Sequence[Component], text: str) -> tuple[Component, ...]:
    return tuple(c for c in components if c.name in text)


def _row(result: Result, found: Comparison) -> tuple[str, ...]:
    expected = found.prediction
    description = result.description
    backend = "" if description is None else f"{description.backend} {description.ingress}"
    return (
        backend,
        result.experiment,
        expected.fault,
        f"<= {expected.lost_most}, {expected.lost:.1f}" if expected.lost_most is not None and expected.lost is not None
        else "?",
        "-" if found.lost is None else str(found.lost),
        between(expected.outage_least, expected.outage_most),
        "-" if found.outage is None else f"{found.outage:.1f}",
        between(expected.redundancy_least or 0.0, expected.redundancy_most),
        "never" if found.redundancy is None else f"{found.redundancy:.1f}",
        _marks(found),
    )  # fmt: skip


def _marks(found: Comparison) -> str:
    return " ".join(
        name
        for name, beyond in (
            ("lost", found.unexplained), ("outage", found.outage_beyond), ("back", found.redundancy_beyond)
        )
        if beyond
    )  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Does what the command line says; returns the exit status."""
    if not arguments:
        print(__doc__)
        return 2
    print(f"| {' | '.join(_HEAD)} |\n|{' --- |' * len(_HEAD)}")
    for path in map(Path, arguments):
        try:
            for row in rows_of(path):
                print(f"| {' | '.join(row)} |")
        except ServeChaosError as error:
            print(f"{path}: {error.what}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
