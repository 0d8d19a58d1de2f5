"""Holds the rules of predictions against runs that were recorded.

``python -m tools.predictions HISTORY...`` computes for each experiment of each ``history.jsonl`` what its fault would
be expected to cost, by what was known just before it, and prints that with what was seen. A history does not have
what a marker said, so that is read from the words of the fault.

``python -m tools.predictions reduce FILE HISTORY...`` writes what the rules need of each experiment, and what was seen,
to a JSON file for tests.

``python -m tools.predictions annotate FILE NUMBER HISTORY`` adds to that run of a file in ``docs/measured``, which was
made before there were predictions, what its history lets the rules expect. The first run has the number 0.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pytest_serve_chaos.analysis.record import read_record
from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.errors import ServeChaosError
from pytest_serve_chaos.events import Demanded, FaultAsked, TrafficBegan, of_kind
from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.faults.predicting import settings_of, traffic_of
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import ClusterDescription, Component, Identity, Topology
from pytest_serve_chaos.prediction.comparison import Comparison, against
from pytest_serve_chaos.prediction.situation import Situation, TrafficNow
from pytest_serve_chaos.prediction.steps import between
from pytest_serve_chaos.results import results_of
from tools.measured import EXPECTED, SEEN, rounded

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


@dataclass(frozen=True, slots=True)
class Recorded:
    """An experiment that was run: what was known before its fault, and what was seen.

    Attributes:
        experiment: Its name.
        situation: What was known.
        lost: Requests that were lost; None: there were none.
        outage: Seconds of the longest outage; None: nobody knows.
        redundancy: Seconds until redundancy was back; None: it never was.
    """

    experiment: str
    situation: Situation
    lost: int | None
    outage: float | None
    redundancy: float | None

    @property
    def comparison(self) -> Comparison | None:
        """What the rule of its fault expects, against what was seen; None: it expects nothing."""
        rule = BUILT_IN[self.situation.fault].predict if self.situation.fault in BUILT_IN else None
        prediction = None if rule is None else rule(self.situation)
        if prediction is None or prediction.why_not:
            return None
        return against(prediction, lost=self.lost, outage=self.outage, redundancy=self.redundancy)


def recorded(path: Path) -> Iterator[Recorded]:
    """The experiments of a history with one fault, which landed."""
    history = History.load(path)
    for result in results_of(history):
        asked = of_kind(FaultAsked, result.events)
        if len(asked) != 1 or not result.landed or result.before is None or result.description is None:
            continue
        measured = result.measurement
        in_flight, others = measured.in_flight, measured.lost_beyond_in_flight
        lost = None if in_flight is None or others is None else in_flight + others
        situation = _situation(history, result, asked[0], asked[0].fault)
        yield Recorded(result.experiment, situation, lost, measured.longest_outage, measured.redundancy_back)


def _situation(history: History, result: Result, asked: FaultAsked, fault: str) -> Situation:
    record = read_record(history, result.experiment)
    before, description = result.before, result.description
    assert before is not None
    assert description is not None
    source = of_kind(Demanded, record.events)[-1].source
    began = [event for event in record.events if isinstance(event, TrafficBegan) and event.source == source]
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
        autoscaled=tuple(sorted(result.scaling.deployments)),
    )


def spec_of(description: ClusterDescription) -> ClusterSpec:
    """The cluster that was wanted, as far as a history says it."""
    return ClusterSpec(
        gcs="none" if description.gcs == "none" else "redis",
        workers=description.workers,
        profile="guide" if description.profile == "guide" else "fast",
        app=description.app,
        ingress="haproxy" if description.ingress == "haproxy" else "python",
    )


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


def _row(one: Recorded, found: Comparison) -> tuple[str, ...]:
    expected = found.prediction
    known = expected.lost_most is not None and expected.lost is not None
    return (
        f"{one.situation.cluster.backend} {one.situation.cluster.ingress}",
        one.experiment,
        expected.fault,
        f"<= {expected.lost_most}, {expected.lost:.1f}" if known else "?",
        "-" if found.lost is None else str(found.lost),
        between(expected.outage_least, expected.outage_most),
        "-" if found.outage is None else f"{found.outage:.1f}",
        between(expected.redundancy_least or 0.0, expected.redundancy_most),
        "never" if found.redundancy is None else f"{found.redundancy:.1f}",
        " ".join(beyond(found)),
    )


def beyond(found: Comparison) -> list[str]:
    """Which figures are beyond what was expected."""
    figures = {"lost": found.unexplained, "outage": found.outage_beyond, "back": found.redundancy_beyond}
    return [name for name, by in figures.items() if by]


# -- as JSON, for tests --------------------------------------------------------------------------------------------


def to_json(one: Recorded) -> dict[str, object]:
    """A recorded experiment as plain data."""
    s = one.situation
    listed = s.topology.components
    hit = {c.replica for c in s.of_lost("replica")}
    shares = {name: _short(share) for name, share in s.traffic.shares.items() if name in hit}
    return {
        "experiment": one.experiment,
        "fault": s.fault,
        "options": dict(s.options),
        "hold": s.hold,
        "lasts": s.lasts,
        "cluster": {f.name: getattr(s.cluster, f.name) for f in fields(s.cluster) if f.name != "details"},
        "kubernetes": s.settings.kubernetes_version,
        "components": [[c.role, c.node, c.deployment, c.replica if c.replica in shares else None] for c in listed],
        "victims": [listed.index(c) for c in s.victims],
        "traffic": {f.name: _short(getattr(s.traffic, f.name)) for f in fields(s.traffic)} | {"shares": shares},
        "autoscaled": list(s.autoscaled),
        "seen": [one.lost, _short(one.outage), _short(one.redundancy)],
    }


def _short(value: object) -> object:
    return round(value, 4) if isinstance(value, float) else value


def from_json(data: Mapping[str, Any]) -> Recorded:
    """The experiment that `to_json` wrote."""
    kubernetes = {"kubernetes version": data["kubernetes"]} if data["kubernetes"] else {}
    cluster = ClusterDescription(**data["cluster"], details=kubernetes)
    listed = tuple(
        Component(role, node, Identity("process", ("boot", str(number), "1")), deployment=deployment, replica=replica)
        for number, (role, node, deployment, replica) in enumerate(data["components"])
    )
    situation = Situation(
        fault=data["fault"],
        how=data["options"]["how"],
        options=data["options"],
        victims=tuple(listed[number] for number in data["victims"]),
        cluster=cluster,
        topology=Topology(0.0, listed),
        settings=settings_of(spec_of(cluster), cluster),
        traffic=TrafficNow(**data["traffic"]),
        hold=data["hold"],
        lasts=data["lasts"],
        autoscaled=tuple(data["autoscaled"]),
    )
    lost, outage, redundancy = data["seen"]
    return Recorded(data["experiment"], situation, lost, outage, redundancy)


# -- command line --------------------------------------------------------------------------------------------------


def _all(paths: Sequence[str]) -> Iterator[Recorded]:
    for path in paths:
        try:
            yield from recorded(Path(path))
        except ServeChaosError as error:
            print(f"{path}: {error.what}", file=sys.stderr)


def _annotate(file: Path, number: int, history: Path) -> None:
    runs = json.loads(file.read_text(encoding="utf-8"))
    found = {one.experiment: one.comparison for one in recorded(history)}
    for experiment in runs[number]["experiments"]:
        comparison = found.get(experiment["experiment"])
        if comparison is not None:
            experiment["against_prediction"] = {
                "expected": {name: rounded(getattr(comparison.prediction, name)) for name in EXPECTED},
                "seen": {name: rounded(getattr(comparison, name)) for name in SEEN},
            }
    file.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """Does what the command line says; returns the exit status."""
    match arguments:
        case ["reduce", file, *paths] if paths:
            found = [to_json(one) for one in _all(paths)]
            lines = ",\n".join(json.dumps(one, separators=(",", ":")) for one in found)
            Path(file).write_text(f"[\n{lines}\n]\n", encoding="utf-8")
        case ["annotate", file, number, history]:
            _annotate(Path(file), int(number), Path(history))
        case [_, *_]:
            print(f"| {' | '.join(_HEAD)} |\n|{' --- |' * len(_HEAD)}")
            for one in _all(arguments):
                found_of_one = one.comparison
                if found_of_one is not None:
                    print(f"| {' | '.join(_row(one, found_of_one))} |")
        case _:
            print(__doc__)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
