"""What a file with a history may have in it, how events stand there, and what its reader says of all else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_serve_chaos import __version__, events, history_file
from pytest_serve_chaos.cli import main
from pytest_serve_chaos.errors import HistoryError
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
    LogLine,
)
from pytest_serve_chaos.predicted import PredictedStep, Prediction
from tests.unit.histories import cluster, component, head_failure

Record = dict[str, Json]


def changed(path: Path, kind: str, change: Callable[[Record], object]) -> int:
    """Writes a history in which the first record of that kind was changed; the number of its line."""
    head_failure().history(path)
    lines = path.read_text().splitlines()
    records: list[Record] = [json.loads(line) for line in lines]
    index = next(i for i, r in enumerate(records) if kind in (r["type"], r.get("kind")))
    change(records[index])
    lines[index] = json.dumps(records[index])
    path.write_text("\n".join(lines) + "\n")
    return index + 1


@pytest.mark.parametrize("kind", ["request", "asked", "expectations", "topology"])
def test_what_a_newer_version_added_to_a_record_is_left_out(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "history.jsonl"
    changed(path, kind, lambda record: record.update(protocol="h2"))
    story = head_failure()
    loaded = History.load(path)
    assert (len(loaded.requests), len(loaded.events)) == (len(story.requests), len(story.events))


def test_only_a_request_with_an_id_takes_room_for_it(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history = History(path)
    good = head_failure().requests[0]
    lost = replace(good, index=1, error="HTTP 500", request_id="5f0c-1")
    history.add_request(good)
    history.add_request(lost)
    history.close()
    assert [line.count("request_id") for line in path.read_text().splitlines()[1:]] == [0, 1]
    assert [one.request_id for one in History.load(path).requests] == ["", "5f0c-1"]


def test_what_a_newer_version_added_to_a_component_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    changed(path, "topology", lambda record: first_component(record).update(zone="b"))
    assert len(History.load(path).events) == len(head_failure().events)


def test_a_kind_of_record_that_only_a_newer_version_knows_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    head_failure().history(path)
    path.write_text(f'{path.read_text()}{{"type":"sample","at":1.0}}\n')
    assert len(History.load(path).events) == len(head_failure().events)


def first_component(record: Record) -> Record:
    data = record["data"]
    assert isinstance(data, dict)
    components = data["components"]
    assert isinstance(components, list)
    component = components[0]
    assert isinstance(component, dict)
    return component


def data(record: Record) -> Record:
    found = record["data"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("request", lambda r: r.pop("type"), "it has no 'type'"),
        ("request", lambda r: r.pop("scheduled"), "a request has no 'scheduled'"),
        ("request", lambda r: r.update(sent="soon"), "'sent' of a request must be a number or null, not 'soon'"),
        ("request", lambda r: r.update(finished=None), "'finished' of a request must be a number, not None"),
        ("request", lambda r: r.update(finished=float("nan")), "'finished' of a request must be a number, not nan"),
        ("request", lambda r: r.update(index=True), "'index' of a request must be a whole number, not True"),
        (
            "request",
            lambda r: r.update(status="200"),
            "'status' of a request must be a whole number or null, not '200'",
        ),
        ("request", lambda r: r.update(error=500), "'error' of a request must be text or null, not 500"),
        ("asked", lambda r: r.pop("at"), "an event has no 'at'"),
        ("asked", lambda r: r.update(data=[]), "'data' of an event must be an object, not []"),
        ("asked", lambda r: data(r).update(injection=[1]), "'injection' of a fault must be a whole number, not [1]"),
        ("expectations", lambda r: data(r).update(window="20s"), "'window' of the expectations must be a number"),
        ("expectations", lambda r: data(r).update(kept="head"), "'kept' of the expectations must be a list of texts"),
        ("expectations", lambda r: data(r).update(autoscaled=1), "'autoscaled' of the expectations must be a list of"),
        ("expectations", lambda r: data(r).update(settled=1), "'settled' of the expectations must be true or false"),
        ("landed", lambda r: data(r).update(victims="head"), "'victims' of a fault must be a list of texts"),
        ("landed", lambda r: data(r).update(victims=["head"]), "not an identity: 'head'"),
        ("landed", lambda r: data(r).update(served="many"), "'served' of a fault must be a whole number or null"),
        ("topology", lambda r: data(r).pop("components"), "a topology has no 'components'"),
        ("topology", lambda r: data(r).update(components=[1]), "'components' of a topology must be a list of objects"),
        ("topology", lambda r: data(r).update(pending=[]), "'pending' of a topology must be an object"),
        ("topology", lambda r: data(r).update(sources=0), "'sources' of a topology must be a list of texts"),
        ("topology", lambda r: first_component(r).pop("role"), "a component has no 'role'"),
        ("topology", lambda r: first_component(r).update(identity="1"), "not an identity: '1'"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_line(
    tmp_path: Path, kind: str, change: Callable[[Record], object], message: str
) -> None:
    path = tmp_path / "history.jsonl"
    line = changed(path, kind, change)
    with pytest.raises(HistoryError) as raised:
        History.load(path)
    assert str(raised.value).startswith(f"{path}: line {line}: {message}")


@pytest.mark.parametrize(
    ("kind", "record", "message"),
    [
        ("run", {"workers": "two"}, "'workers' of the run must be a whole number, not 'two'"),
        ("warning", {"faults": "head_failure"}, "'faults' of a warning must be a list of texts"),
        ("configuration", {"warnings": ["one"]}, "'warnings' of the configuration must be a list of objects"),
        ("logs", {}, "'directory' of the logs must be text, not None"),
        ("gone", {"identity": 7}, "'identity' of a component must be text, not 7"),
    ],
)
def test_what_an_event_says_is_checked_as_far_as_it_is_used(
    tmp_path: Path, kind: str, record: Record, message: str
) -> None:
    path = tmp_path / "history.jsonl"
    History(path).close()
    event = {"type": "event", "at": 0.0, "kind": kind, "text": "", "data": record}
    path.write_text(f"{path.read_text()}{json.dumps(event)}\n")
    with pytest.raises(HistoryError) as raised:
        History.load(path)
    assert str(raised.value).startswith(f"{path}: line 2: {message}")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"[]\n", "line 2: it is not a JSON object: []"),
        (b"{\n", "line 2: it is not JSON"),
        (b"\xff\n", "cannot be read"),
    ],
)
def test_a_line_that_is_not_a_record_is_an_error(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "history.jsonl"
    History(path).close()
    path.write_bytes(path.read_bytes() + line)
    with pytest.raises(HistoryError) as raised:
        History.load(path)
    assert message in str(raised.value)


def test_the_last_line_of_a_run_that_was_killed_may_be_cut(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    head_failure().history(path)
    path.write_bytes(path.read_bytes()[:-9])
    assert len(History.load(path).requests) == len(head_failure().requests) - 1


# -- formats -----------------------------------------------------------------------------------------------------------


def of_format(path: Path, number: Json, **said: Json) -> Path:
    path.write_text(json.dumps({"type": "history", "format": number, **said}) + "\n")
    return path


def test_the_first_line_says_which_version_wrote_a_history(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    History(path).close()
    header = json.loads(path.read_text())
    assert (header["format"], header["version"]) == (history_file.FORMAT, __version__)


def test_of_each_format_it_is_known_which_versions_read_it() -> None:
    assert sorted(history_file.READ_BY) == list(range(1, history_file.FORMAT + 1))
    ended = [number for number, versions in history_file.READ_BY.items() if "<" in versions]
    assert ended == list(range(1, history_file.FORMAT)), "only the newest is read by versions to come"


@pytest.mark.parametrize("said", [{}, {"version": "0.1.4"}])
def test_an_older_format_says_which_versions_can_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], said: Record
) -> None:
    monkeypatch.setattr(history_file, "FORMAT", 2)
    monkeypatch.setattr(history_file, "READ_BY", {1: ">=0.1,<0.3", 2: ">=0.3"})
    path = of_format(tmp_path / "history.jsonl", 1, **said)
    assert main(["analyse", str(path)]) == 2
    told = capsys.readouterr().err
    assert f"{path} is a history of format 1, which an older version wrote" in told
    assert "reads format 2" in told
    assert "pip install 'pytest-serve-chaos>=0.1,<0.3'" in told
    assert f"written by pytest-serve-chaos {said.get('version', 'of an unknown version')}" in told


@pytest.mark.parametrize(
    ("said", "way_out"),
    [
        ({"version": "7.1"}, "pip install 'pytest-serve-chaos>=7.1'"),
        ({}, "read it with the version that wrote it"),
    ],
)
def test_a_newer_format_says_so_too(tmp_path: Path, said: Record, way_out: str) -> None:
    path = of_format(tmp_path / "history.jsonl", history_file.FORMAT + 6, **said)
    with pytest.raises(HistoryError, match=f"format {history_file.FORMAT + 6}, which a newer version wrote") as raised:
        History.load(path)
    assert raised.value.fix[0].endswith(way_out)


@pytest.mark.parametrize("number", [None, "1", [1]])
def test_a_file_without_the_number_of_its_format_is_no_history(tmp_path: Path, number: Json) -> None:
    with pytest.raises(HistoryError, match="is not a history of format 1"):
        History.load(of_format(tmp_path / "history.jsonl", number))


# -- events ------------------------------------------------------------------------------------------------------------


WARNING = ConfigWarning("one_replica", "app has one replica", "nothing answers", "more", ("replica_failure",), "head")
DESCRIPTION = ClusterDescription("kind", "2.60.0", 2, "redis", "app:app", "fast", 4, "http://a/", {"nodes": ["a", "b"]})
PREDICTION = Prediction(
    "proxy_failure", 0.2, 2, "in flight", 0.0, 0.1, 2.5, None,
    (PredictedStep("redundancy", "Serve finds it", 2.0, None, "PERIOD = 1", "ray 2.60.0"),),
    "PERIOD = 1", "less", ("how long it takes to start",),
)  # fmt: skip
CHECK = CheckSpec("p999", "my_checks:P999", {"limit": 0.5})

WITH_FIELDS: tuple[Event, ...] = (
    events.ClusterReady(
        "a cluster", description=DESCRIPTION, seed=7, start_seconds=1.5, host={"processors": 2},
        profile_settings={"head": {"A": "1"}},
    ),
    events.MachineSeen("1.5 of 2", seconds=1.0, processors=2, ours=1.5, others=0.4, waiting=0.3, has_cluster=True),
    events.UsageSeen(
        "2 processes", processes=(Identity("process", ("b", "1", "2")), Identity("process", ("b", "3", "4"))),
        places=("controller", "gcs"), pids=(1, 3), memory=(5, 6), processor=(0.5, 2.0), descriptors=(7, 8),
        threads=(9, 10), connections=(0, 1),
    ),
    events.Warned("app has one replica", warning=WARNING),
    events.ConfigurationSeen("one_replica", warnings=(WARNING,)),
    PhaseBegan.of(Phase.POST_RECOVERY),
    events.Demanded(
        "what is demanded", expectations=Expectations(window=9.0, kept=("head",)), source="traffic-1",
        autoscaled=("app#Pid",), checks=(CHECK, CheckSpec("x", "m:X")), apps=("a", "b"),
        names=("chat",), about="the apps a, b",
    ),
    replace(TopologySeen.of(cluster(), Moment.BEFORE), at=0.0),
    events.TrafficBegan("traffic begins", source="traffic-1", rate=50.0),
    events.StagesBegan("stages begin", source="traffic-1"),
    events.Predicted("expected: 1 lost", prediction=PREDICTION, injection=3),
    events.FaultAsked("SIGKILL to the head", fault="head_failure", injection=3, must_land=False),
    events.EvidenceSeen("14 processes are gone", side="victim"),
    events.FaultLanded("the head is down", victims=(Identity("pod", ("uid",)),), served=None, injection=3),
    events.ComponentGone("worker-1 is gone", component=component("worker", "worker-1")),
    events.ComponentCame("a replica is there", component=component("replica", "worker-1")),
    events.ChildrenSeen(
        "1 below it", parent=Identity("process", ("b", "1", "2")), processes=(Identity("process", ("b", "3", "4")),),
        titles=("llama-server",), ages=(2.5,), struck=(Identity("process", ("b", "3", "4")),),
    ),
    events.Rescaled("app#App: 2 were wanted, and now 4", what="app#App", before=2, now=4),
    events.ServeSaid("Serve says", statuses={"Serve": "answers", "app shop": ""}),
    events.HAProxyReloaded("HAProxy was reloaded", proxy="proxy on head", pid=21),
    events.ProxyStale("proxy on head is stale", proxy="proxy on head"),
    events.PostRecoveryChecking("begins", begins=True, replaces=True),
    events.CheckDone("p999: too slow", found=Checked("p999", ("too slow",), (), ("why",), "Traceback", True)),
    events.TrialEnded("trial 2 of 20: failed", of="it", number=2, planned=20, allowed=1, outcome="failed"),
    events.Restored("as before", seconds=2.5),
    events.LogsKept("logs/it", directory="logs/it"),
    events.LogsExcerpted(
        "2 log lines", left_out=9,
        lines=(LogLine(-0.5, "head", "raylet.out", "a"), LogLine(1.0, "redis", "b.log", "c", 7)),
    ),
    events.Repeatable(
        "pytest --serve-chaos", test="test_a.py::test_b", seed=7, options=("--serve-chaos-rate=20",), on_local=()
    ),
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
