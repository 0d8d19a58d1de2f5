from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_serve_chaos import clock
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import Expectations, Json, Latency, Topology
from pytest_serve_chaos.report.document import SCHEMA, summary_document, to_json
from pytest_serve_chaos.results import result_of
from tests.unit.histories import Story, component, head_failure, node_failure, not_started, written


def document(*stories: Story) -> Any:
    """The document of a run with these experiments one after the other, as a program reads it."""
    history = History()
    run: dict[str, Json] = {"backend": "local", "ray_version": "2.60.0", "workers": 2, "gcs": "redis"}
    run |= {"app": "ranker:app", "profile": "fast", "replicas": 4, "url": "http://127.0.0.1:8000/"}
    history.add(written("run", "local backend", at=0.0, data={**run, "rate": 50.0, "seed": 61407}))
    for number, story in enumerate(stories):
        story.add_to(history, later=100.0 * number)
    found = summary_document(history, [result_of(history, story.experiment) for story in stories])
    return json.loads(json.dumps(found, allow_nan=False))


def test_a_document_has_a_schema_and_the_run() -> None:
    found = document()
    assert (found["schema"], found["experiments"]) == (SCHEMA, [])
    assert (found["run"]["seed"], found["run"]["text"]) == (61407, "local backend")
    assert found["program"]["name"] == "pytest-serve-chaos"


def test_each_experiment_has_its_fault_figures_and_verdict() -> None:
    head, node, idle = document(head_failure(), node_failure(), not_started())["experiments"]
    assert [experiment["verdict"] for experiment in (head, node, idle)] == ["passed", "failed", "inconclusive"]
    assert (head["fault"], idle["fault"]) == ("SIGKILL to the head", "")
    assert head["cluster"]["app"] == "ranker:app"
    assert head["measurement"]["in_flight"] == 3
    assert head["expectations"]["availability"] == 0.99
    assert len(node["reasons"]) == 2
    assert idle["reasons"] == ["the pod held no replica and answered nothing before the fault"]


def test_times_count_from_the_fault() -> None:
    _, node = document(head_failure(), node_failure())["experiments"]
    assert node["measurement"]["outages"] == [{"start": 0.0, "end": 23.96, "lost": 400, "late": 0, "sent": 1198}]
    assert node["evidence"][1] == {"at": 8.0, "side": "cluster", "text": "the GCS says DEAD"}


def test_remarks_and_late_answers_are_there_for_programs() -> None:
    (found,) = document(Story().slow(3.0, 8.0, takes=4.0).event(40.0, "remark", "4 replicas instead of 2/2"))[
        "experiments"
    ]
    assert found["remarks"] == ["4 replicas instead of 2/2"]
    assert (found["measurement"]["lost"], found["measurement"]["late"]) == (0, 250)
    assert found["measurement"]["outages"][0]["late"] == 250


def test_what_was_not_measured_is_null_and_not_zero() -> None:
    (found,) = document(Story().without("landed"))["experiments"]
    names = ("sent", "lost", "late", "in_flight", "availability", "longest_outage", "traffic_back", "kept_lost")
    assert [found["measurement"][name] for name in names] == [None] * len(names)
    assert found["measurement"]["scheduled"] == 3501


def test_a_latency_without_end_is_null() -> None:
    """JSON has no infinity: the p99 is that of a lost request."""
    (found,) = document(node_failure())["experiments"]
    assert found["measurement"]["during"]["p99"] is None
    assert found["measurement"]["before"]["p99"] == pytest.approx(0.008)


def test_an_open_outage_has_no_end() -> None:
    (found,) = document(Story().lose(50.0, 70.0))["experiments"]
    assert found["measurement"]["outages"][0]["end"] is None
    assert found["measurement"]["traffic_back"] is None


def test_identities_tell_who_was_kept_who_is_gone_and_who_is_new() -> None:
    (found,) = document(head_failure())["experiments"]
    proxies = found["identities"]["proxy"]
    assert [c["name"] for c in proxies["kept"]] == ["proxy on worker-1", "proxy on worker-2"]
    assert proxies["gone"] == [{"name": "proxy on head", "identity": str(component("proxy", "head").identity)}]
    assert proxies["new"][0]["identity"] == str(component("proxy", "head", incarnation=2).identity)
    assert "redis" not in found["identities"]
    assert found["victims"] == [str(component("head", "head").identity)]


def test_a_worker_in_a_pod_is_said_to_be_on_its_machine() -> None:
    was = replace(component("worker", "worker-1"), machine="kind-worker")
    now = replace(component("worker", "worker-1", incarnation=2), machine="kind-worker3")
    (found,) = document(Story(before=Topology(0.0, (was,)), after=Topology(0.0, (now,))))["experiments"]
    assert found["identities"]["worker"] == {
        "kept": [],
        "gone": [{"name": "worker-1", "identity": str(was.identity), "machine": "kind-worker"}],
        "new": [{"name": "worker-1", "identity": str(now.identity), "machine": "kind-worker3"}],
    }


def test_a_cluster_that_nobody_described_is_null() -> None:
    story = head_failure()
    history = story.history()
    found = summary_document(history, [result_of(history, story.experiment)])
    assert found["run"] == {}
    assert to_json(result_of(history, story.experiment).description) is None


@pytest.mark.parametrize("uptime", [1.0, 1020.8, 24_801.74, 3e7])
def test_a_document_from_a_file_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uptime: float) -> None:
    """Whenever the machine was started: moments in the file count from the history's, to a microsecond."""
    monkeypatch.setattr(clock, "now", lambda: uptime)
    live = node_failure(Expectations(kept=("controller",))).history(tmp_path / "history.jsonl")
    loaded = History.load(tmp_path / "history.jsonl")
    both = [summary_document(h, [result_of(h, "node_failure")]) for h in (live, loaded)]
    for found in both:
        figures: Any = found["experiments"]
        del figures[0]["measurement"]
    assert both[0] == both[1]


@given(st.floats())
def test_numbers_that_json_has_no_word_for_are_null(number: float) -> None:
    text = json.dumps(to_json({"figure": Latency(number, 0.0, 0.0, 0.0)}), allow_nan=False)
    assert json.loads(text)["figure"]["p50"] in (number, None)


def test_what_has_no_place_in_json_is_refused() -> None:
    with pytest.raises(TypeError, match="no place in a JSON document"):
        to_json(object())
