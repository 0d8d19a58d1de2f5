"""How events stand in the file of a history, and that histories of the first version can still be read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_serve_chaos import events
from pytest_serve_chaos.events import EVENTS, Event, Moment, OtherEvent, Phase, PhaseBegan, TopologySeen
from pytest_serve_chaos.history import ExperimentLog, History
from pytest_serve_chaos.json_records import event_from_json, event_to_json
from pytest_serve_chaos.model import (
    Checked,
    CheckSpec,
    ClusterDescription,
    ConfigWarning,
    Expectations,
    Identity,
    Json,
)
from tests.unit.histories import cluster, component

WARNING = ConfigWarning("one_replica", "app has one replica", "nothing answers", "more", ("replica_failure",), "head")
DESCRIPTION = ClusterDescription("kind", "2.60.0", 2, "redis", "app:app", "fast", 4, "http://a/", {"nodes": ["a", "b"]})
CHECK = CheckSpec("p999", "my_checks:P999", {"limit": 0.5})

WITH_FIELDS: tuple[Event, ...] = (
    events.ClusterReady("a cluster", description=DESCRIPTION, seed=7, start_seconds=1.5),
    events.Warned("app has one replica", warning=WARNING),
    events.ConfigurationSeen("one_replica", warnings=(WARNING,)),
    PhaseBegan.of(Phase.POST_RECOVERY),
    events.Demanded(
        "what is demanded", expectations=Expectations(window=9.0, kept=("head",)), source="traffic-1",
        autoscaled=("app#Pid",), checks=(CHECK, CheckSpec("x", "m:X")),
    ),
    replace(TopologySeen.of(cluster(), Moment.BEFORE), at=0.0),
    events.TrafficBegan("traffic begins", source="traffic-1", rate=50.0),
    events.FaultAsked("SIGKILL to the head", fault="head_failure", injection=3, must_land=False),
    events.EvidenceSeen("14 processes are gone", side="victim"),
    events.FaultLanded("the head is down", victims=(Identity("pod", ("uid",)),), served=None, injection=3),
    events.ComponentGone("worker-1 is gone", component=component("worker", "worker-1")),
    events.ComponentCame("a replica is there", component=component("replica", "worker-1")),
    events.Rescaled("app#App: 2 were wanted, and now 4", what="app#App", before=2, now=4),
    events.ProxyStale("proxy on head is stale", proxy="proxy on head"),
    events.PostRecoveryChecking("begins", begins=True, replaces=True),
    events.CheckDone("p999: too slow", found=Checked("p999", ("too slow",), (), ("why",), "Traceback", True)),
    events.Restored("as before", seconds=2.5),
    events.LogsKept("logs/it", directory="logs/it"),
)  # fmt: skip


@pytest.mark.parametrize("event", WITH_FIELDS, ids=lambda event: event.kind)
def test_what_is_read_is_what_was_written(event: Event) -> None:
    written: dict[str, Json] = json.loads(json.dumps(event_to_json(replace(event, at=1.5, experiment="it"))))
    assert list(written) == ["at", "kind", "text", "experiment", "data"]
    read = event_from_json(written)
    if isinstance(event, TopologySeen):  # its time is that of the event
        event = replace(event, topology=replace(event.topology, at=1.5))
    assert read == replace(event, at=1.5, experiment="it")
    assert type(read) is type(event)


@pytest.mark.parametrize("kind", [kind for kind in EVENTS if kind not in map(type, WITH_FIELDS)])
def test_of_a_kind_without_fields_there_is_the_text(kind: type[Event]) -> None:
    line = event_to_json(kind("said", at=1.0))
    assert line == {"at": 1.0, "kind": kind.name, "text": "said", "experiment": "", "data": {}}
    assert event_from_json(line) == kind("said", at=1.0)


def test_each_kind_has_a_name_of_its_own() -> None:
    assert len({kind.name for kind in EVENTS}) == len(EVENTS)


def test_a_kind_that_only_another_version_knows_is_kept_as_it_is() -> None:
    line: dict[str, Json] = {"at": 1.0, "kind": "moved", "text": "to b", "experiment": "it", "data": {"to": ["b"]}}
    read = event_from_json(line)
    assert isinstance(read, OtherEvent)
    assert (read.kind, read.text, event_to_json(read)) == ("moved", "to b", line)


def test_a_phase_and_a_moment_that_only_another_version_knows_are_text() -> None:
    phase = event_from_json({"at": 1.0, "kind": "phase", "text": "settle"})
    assert phase == PhaseBegan("settle", at=1.0, phase=None)
    seen = event_from_json({"at": 1.0, "kind": "topology", "text": "between", "data": {"components": []}})
    assert isinstance(seen, TopologySeen)
    assert (seen.text, seen.moment) == ("between", None)


def test_what_the_first_version_wrote_can_be_read(tmp_path: Path) -> None:
    """Lines as version 0.1 wrote them, and the fields that it did not write yet."""
    lines: list[dict[str, Json]] = [
        {"kind": "proxy_deaf", "text": "proxy on head", "data": {}},
        {"kind": "checking", "text": "ends", "data": {"begins": False}},
        {"kind": "asked", "text": "SIGKILL", "data": {}},
        {"kind": "landed", "text": "down", "data": {"victims": ["pod:uid"], "served": None}},
        {"kind": "run", "text": "a cluster", "data": {"backend": "local", "rate": 50.0}},
        {
            "kind": "gone",
            "text": "proxy on head is gone (PID 7)",
            "data": {
                "role": "proxy",
                "node": "head",
                "identity": "process:boot/7/1",
                "pid": 7,
                "actor_id": None,
                "deployment": None,
            },
        },
    ]
    path = tmp_path / "history.jsonl"
    History(path).close()
    with path.open("a") as file:
        file.writelines(json.dumps({"type": "event", "at": 1.0, "experiment": "it", **line}) + "\n" for line in lines)
    stale, ends, asked, landed, ready, gone = History.load(path).events
    assert stale == events.ProxyStale("proxy on head", at=1.0, experiment="it", proxy="proxy on head")
    assert ends == events.PostRecoveryChecking("ends", at=1.0, experiment="it", begins=False)
    assert asked == events.FaultAsked("SIGKILL", at=1.0, experiment="it")
    assert isinstance(landed, events.FaultLanded)
    assert (landed.injection, landed.victims) == (None, (Identity("pod", ("uid",)),))
    assert isinstance(ready, events.ClusterReady)
    assert ready.description is None, "not all of it is there"
    assert isinstance(gone, events.ComponentGone)
    assert gone.component.name == "proxy on head"


def test_the_log_of_an_experiment_has_its_events_only() -> None:
    history = History()
    log, other = ExperimentLog(history, "it"), ExperimentLog(history, "other")
    log.add(events.Note("early", at=1.0))
    other.add(events.Note("of another", at=1.5))
    log.add(events.Problem("a leak", at=2.0))
    log.add(events.Note("late", at=3.0))
    assert [event.text for event in log.of(events.Note)] == ["early", "late"]
    assert [event.text for event in log.of(events.Note, since=2.0)] == ["late"]
    assert log.has(events.Doubt, events.Problem)
    assert not other.has(events.Problem)
