"""What a fault is expected to cost: each rule against recorded runs, and what becomes of a prediction."""

from __future__ import annotations

import importlib.util
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_serve_chaos import clock, events
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.waits import HAS_OWN_WAITS, Waits
from pytest_serve_chaos.events import FaultAsked, MachineSeen, Predicted, TrafficBegan
from pytest_serve_chaos.faults import predicting
from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.faults.predicting import settings_of, traffic_of, write_prediction
from pytest_serve_chaos.faults.registry import FaultRegistry
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.model import ClusterDescription, Component, Identity, Role, Topology
from pytest_serve_chaos.predicted import Prediction
from pytest_serve_chaos.prediction import settings as names
from pytest_serve_chaos.prediction.chance import SURE, at_most
from pytest_serve_chaos.prediction.comparison import against, comparison
from pytest_serve_chaos.prediction.settings import DEFAULTS, Settings
from pytest_serve_chaos.prediction.situation import Situation, TrafficNow
from pytest_serve_chaos.prediction.words import expected, prediction_lines
from pytest_serve_chaos.report.document import summary_document
from pytest_serve_chaos.report.page.expected import expected_and_seen
from pytest_serve_chaos.report.page.markup import element
from pytest_serve_chaos.report.terminal import explained
from pytest_serve_chaos.results import result_of
from tests.unit.histories import Story, request
from tests.unit.rigs import cluster_with, rig_around
from tools.measured import runs_of
from tools.predictions import Recorded, beyond, from_json

RECORDED = Path(__file__).parents[1] / "data" / "recorded.json"
"""Experiments of real runs on both backends, with both kinds of ingress."""

UNEXPLAINED = {
    "kind-python-head_lost": ["outage"],
    "kind-haproxy-head_lost": ["lost", "outage"],
    "kind-python-the_head_is_lost": ["lost", "outage"],
}
"""What requests cost that hang when the first head of a cluster is replaced: no prediction counts a defect as a loss
that cannot be avoided."""


def place(role: Role, node: str, number: int) -> Component:
    deployment = "app#App" if role == "replica" else None
    replica = f"app#App#{number}" if role == "replica" else None
    return Component(
        role, node, Identity("process", ("boot", str(number), "1")), deployment=deployment, replica=replica
    )


NODES = ("head", "worker-1", "worker-2")
PARTS: list[tuple[Role, str]] = [
    ("head", "head"), ("gcs", "head"), ("controller", "head"), ("worker", "worker-1"), ("worker", "worker-2"),
    *(("proxy", node) for node in NODES), *(("replica", node) for node in NODES[1:] for _ in range(3)),
]  # fmt: skip
TOPOLOGY = Topology(0.0, tuple(place(role, node, number) for number, (role, node) in enumerate(PARTS)))


def described(backend: str = "local", **changes: Any) -> ClusterDescription:
    usual = ClusterDescription(backend, "2.60.0", 2, "redis", "app", "fast", 6, "http://a/")
    return replace(usual, **changes)


def situation(
    fault: str, role: Role, node: str, *, backend: str = "local", version: str = "", **changes: Any
) -> Situation:
    """A head and two workers with three replicas each, under 20 requests a second that take 10 ms."""
    details = {"kubernetes version": version} if version else {}
    ingress = changes.pop("ingress", "python")
    options = changes.pop("options", {})
    spec = changes.pop("spec", ClusterSpec(ingress=ingress))
    cluster = ClusterDescription(
        backend, "2.60.0", 2, "redis", spec.app, spec.profile, 6, "http://a/", details, ingress
    )
    topology = changes.pop("topology", TOPOLOGY)
    return Situation(
        fault=fault,
        how=options.get("how", "kill"),
        options=options,
        victims=topology.of(role, on=node)[:1],
        cluster=cluster,
        topology=topology,
        settings=settings_of(spec, cluster),
        traffic=changes.pop("traffic", TrafficNow(20.0, 0.01, 0.02, 5.0)),
        **changes,
    )


def predicted(fault: str, role: Role, node: str, **changes: Any) -> Prediction:
    rule = BUILT_IN[fault].predict
    assert rule is not None
    return rule(situation(fault, role, node, **changes))


# -- against recorded runs -------------------------------------------------------------------------------------------


def recorded() -> list[Recorded]:
    return [from_json(one) for one in json.loads(RECORDED.read_text(encoding="utf-8"))]


def name_of(one: Recorded) -> str:
    return f"{one.situation.cluster.backend}-{one.situation.cluster.ingress}-{one.experiment}"


@pytest.mark.parametrize("one", [pytest.param(one, id=f"{n}-{name_of(one)}") for n, one in enumerate(recorded())])
def test_what_was_seen_in_real_runs_is_within_what_is_expected(one: Recorded) -> None:
    found = one.comparison
    if found is None:
        assert one.experiment == "app_updated_to_a_version_that_does_not_start"
    else:
        assert sorted(beyond(found)) == sorted(UNEXPLAINED.get(name_of(one), [])), found.text


@pytest.mark.parametrize(("at_once", "waits"), [(2, True), (3, False)])
def test_requests_wait_if_the_other_replicas_cannot_take_all_at_once(at_once: int, waits: bool) -> None:
    """Of six replicas five are left, and 7 requests/s of 2 s each are 14 in flight."""
    now = situation("replica_failure", "replica", "worker-1", traffic=TrafficNow(7.0, 2.0, 2.0, 9.0))
    options = {"max_ongoing_requests": at_once}
    settings = settings_of(ClusterSpec(), now.cluster, options)
    rule = BUILT_IN["replica_failure"].predict
    assert rule is not None
    said = " ".join(rule(replace(now, settings=settings)).unknown)
    expected = (
        f"up to 14 requests are in flight, and what is left of {now.victims[0].deployment} takes 10 at once"
        " (5 replicas, max_ongoing_requests = 2)"
    )
    assert (expected in said) is waits


KEPT = [
    ("head_lost", "head_failure", "head", "head", {}),
    ("controller_lost", "controller_failure", "controller", "head", {}),
    ("replica_lost", "replica_failure", "replica", "worker-1", {}),
    ("health_check_fails[raise]", "health_check_failure", "replica", "worker-1", {"mode": "raise"}),
    ("health_check_fails[hang]", "health_check_failure", "replica", "worker-1", {"mode": "hang"}),
    ("proxy_lost", "proxy_failure", "proxy", "worker-1", {}),
    ("worker_lost", "worker_failure", "worker", "worker-1", {}),
    ("gcs_lost", "gcs_failure", "gcs", "head", {}),
]
"""Experiments of the suite -> the fault, its victim, and what its marker says."""


@pytest.mark.parametrize("backend", ["local", "kind"])
@pytest.mark.parametrize(("experiment", "fault", "role", "node", "options"), KEPT, ids=[one[0] for one in KEPT])
def test_redundancy_was_back_when_it_was_expected_in_all_runs_that_are_kept(
    backend: str, experiment: str, fault: str, role: Role, node: str, options: dict[str, object]
) -> None:
    found = predicted(
        fault, role, node, backend=backend, version="v1.34.2" if backend == "kind" else "", options=options
    )
    seen = [
        one["redundancy_back"]
        for run in runs_of(backend)
        for one in cast("list[dict[str, Any]]", run["experiments"])
        if one["experiment"] == experiment and one["redundancy_back"] is not None
    ]
    assert len(seen) >= 3
    assert all(not against(found, lost=0, outage=0.0, redundancy=back).redundancy_beyond for back in seen), (
        found,
        seen,
    )


def test_there_are_recorded_runs_of_each_fault_that_has_a_rule() -> None:
    without = {"raylet_failure", "child_failure"}  # the suite does not break these
    assert {one.situation.fault for one in recorded()} >= {fault.name for fault in BUILT_IN} - without


# -- rules -----------------------------------------------------------------------------------------------------------


def test_each_fault_of_this_package_has_a_rule() -> None:
    assert [fault.name for fault in BUILT_IN if fault.predict is None] == []


def test_a_longer_period_of_health_checks_makes_a_proxy_come_back_later() -> None:
    fast = predicted("proxy_failure", "proxy", "worker-1")
    slow = predicted("proxy_failure", "proxy", "worker-1", spec=ClusterSpec(profile="guide"))
    assert fast.dominant == "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S = 1, 3 times"
    assert slow.dominant == "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S = 10, 3 times"
    assert (fast.redundancy_least, slow.redundancy_least) == (2.5, 20.5)
    # The guide's own periods: the new proxy was there after some 28 s.
    assert slow.redundancy_most is not None
    assert slow.redundancy_least is not None
    assert slow.redundancy_least < 28 < slow.redundancy_most


def test_behind_a_service_a_dead_proxy_gets_its_share_until_a_probe_fails() -> None:
    local = predicted("proxy_failure", "proxy", "worker-1")
    kind = predicted("proxy_failure", "proxy", "worker-1", backend="kind")
    assert local.lost is not None
    assert local.lost < 1
    assert kind.lost == pytest.approx(20 / 3 * 3, rel=0.1)
    assert kind.dominant == "periodSeconds of KubeRay's readiness probe = 5"
    assert kind.change == "half of it would save up to 2.5 s"  # the second that the endpoint takes to leave stays


@pytest.mark.parametrize(("version", "grace"), [("v1.34.2", 50), ("v1.31.0", 40), ("", 50)])
def test_a_lost_machine_is_in_the_service_for_the_grace_period_of_its_kubernetes(version: str, grace: int) -> None:
    found = predicted("node_failure", "worker", "worker-1", backend="kind", version=version, hold=True)
    assert found.dominant == f"node-monitor-grace-period = {grace}"
    assert found.outage_least == grace - 10
    assert found.outage_most == pytest.approx(grace + 7, abs=0.5)


def test_what_is_in_flight_on_a_replica_is_its_share_times_rate_times_service_time() -> None:
    shares = {f"app#App#{number}": 0.25 for number in range(20)}
    traffic = TrafficNow(rate=5.0, service_time=2.0, slowest=2.4, shares=shares)
    found = predicted("replica_failure", "replica", "worker-1", traffic=traffic)
    assert found.lost == pytest.approx(2.5, abs=0.1)
    assert found.lost_most == 7


def test_the_loss_of_the_only_replica_is_an_outage() -> None:
    others = [c for c in TOPOLOGY.components if c.role != "replica"]
    alone = Topology(0.0, (*others, place("replica", "worker-1", 50)))
    found = predicted("replica_failure", "replica", "worker-1", topology=alone)
    assert found.outage_least == pytest.approx(1.7)
    assert found.lost is not None
    assert found.lost > 30


def test_the_proxy_follows_the_only_replica_of_its_node_to_another_one() -> None:
    others = [c for c in TOPOLOGY.components if c.role != "replica"]
    apart = Topology(0.0, (*others, place("replica", "worker-1", 50), place("replica", "worker-2", 51)))
    found = predicted("replica_failure", "replica", "worker-1", topology=apart)
    assert [step.setting for step in found.steps if "proxy follows" in step.text] == [
        "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S = 5"
    ]
    # Seen in such a cluster: 10.2 s.
    assert found.redundancy_most is not None
    assert found.redundancy_most > 10.2


def test_replicas_of_ones_own_app_start_when_they_like() -> None:
    found = predicted("replica_failure", "replica", "worker-1", spec=ClusterSpec(app="mine:app"))
    assert found.redundancy_most is None
    assert expected(found).startswith("redundancy back after at least 0.5 s")


def test_a_freeze_loses_what_waits_longer_than_its_timeout() -> None:
    found = predicted("proxy_failure", "proxy", "worker-1", options={"how": "freeze"}, lasts=7.0)
    assert found.lost == pytest.approx(20 / 3 * 2)
    assert (found.redundancy_least, found.redundancy_most) == (7.0, 9.0)


def test_a_freeze_that_is_called_dead_ends_nobody_knows_when() -> None:
    found = predicted("proxy_failure", "proxy", "worker-1", options={"how": "freeze"}, lasts=20.0)
    assert (found.redundancy_least, found.redundancy_most) == (20.0, None)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"fault": "gcs_failure", "role": "gcs", "node": "head", "options": {"how": "stop"}},
            # The head has Ray's default, whatever the profile sets on the workers.
            "of the settings, RAY_gcs_rpc_server_reconnect_timeout_s = 60 on the head decides most:"
            " half of it would save up to 30 s",
        ),
        (
            {"fault": "proxy_failure", "role": "proxy", "node": "worker-1", "options": {"how": "freeze"}, "lasts": 7.0},
            "the fault's own duration, for_ = 7, decides most",
        ),
        (
            {"fault": "node_failure", "role": "worker", "node": "worker-1", "backend": "kind", "lasts": 30.0},
            "the fault's own duration, for_ = 30, decides most; of the settings, initialDelaySeconds of KubeRay's"
            " readiness probe = 10 decides most: half of it would save up to 5 s",
        ),
        (
            {"fault": "app_update", "role": "replica", "node": "worker-1"},
            "of the settings, rolling_update_percentage = 0.2 decides most: twice that share would save up to 3.5 s",
        ),
    ],
    ids=["a setting of the head alone", "only the test's", "the test's, and one of Kubernetes", "a share"],
)
def test_what_decides_is_a_setting_that_a_user_has_or_how_long_the_fault_lasts(
    changes: dict[str, Any], line: str
) -> None:
    assert prediction_lines(predicted(**changes))[1] == line


@pytest.mark.parametrize(
    ("fault", "role", "node", "backend"),
    [
        ("head_failure", "head", "head", "local"),
        ("worker_failure", "worker", "worker-1", "local"),
        ("proxy_failure", "proxy", "head", "kind"),
    ],
)
def test_what_no_user_can_set_is_never_recommended(fault: str, role: Role, node: str, backend: str) -> None:
    found = predicted(fault, role, node, backend=backend)
    decides = {step.setting.partition(" = ")[0] for step in found.steps}
    assert decides & names.NOT_TO_BE_SET
    assert found.dominant.partition(" = ")[0] not in names.NOT_TO_BE_SET


def test_without_fault_tolerance_nobody_knows_how_long_nothing_answers() -> None:
    s = situation("head_failure", "head", "head")
    rule = BUILT_IN["head_failure"].predict
    assert rule is not None
    found = rule(replace(s, cluster=replace(s.cluster, gcs="none")))
    assert (found.outage_most, found.redundancy_most, found.lost_most) == (None, None, None)
    assert "an unknown number lost" in expected(found)


def test_what_cannot_be_foreseen_has_no_prediction() -> None:
    child = predicted("child_failure", "replica", "worker-1")
    bad = predicted("app_update", "replica", "worker-1", options={"bad": "constructor"})
    assert prediction_lines(child) == ["no prediction: what an app does without its child process is unknown"]
    assert bad.why_not


def test_an_update_takes_its_rounds_one_after_the_other() -> None:
    s = situation("app_update", "replica", "worker-1")
    rule = BUILT_IN["app_update"].predict
    assert rule is not None
    found = rule(replace(s, victims=TOPOLOGY.of("replica")))
    assert "6 times 1 of 6 replicas" in found.steps[0].text
    assert found.change.startswith("twice that share would save")


# -- settings --------------------------------------------------------------------------------------------------------


def test_a_setting_has_its_value_and_its_source() -> None:
    one = Settings({names.GCS_PERIOD: 500})[names.GCS_PERIOD]
    assert (one.words, one.seconds, one.source) == (
        "RAY_health_check_period_ms = 500",
        0.5,
        "ray_config_def.h (Ray 2.60)",
    )


def test_what_the_environment_and_the_deployment_say_counts() -> None:
    spec = ClusterSpec(app="mine:app", env=((names.PROXY_PERIOD, "4"), (names.PROXY_TIMEOUT, "soon")))
    found = settings_of(spec, described(app=spec.app), {"health_check_period_s": 7, "health_check_timeout_s": None})
    assert [found.seconds(name) for name in (names.PROXY_PERIOD, names.PROXY_TIMEOUT)] == [4, 10]
    assert [found.seconds(name) for name in (names.REPLICA_PERIOD, names.REPLICA_TIMEOUT)] == [7, 30]


def test_what_nobody_looked_at_and_another_ray_are_doubts() -> None:
    spec = ClusterSpec()
    doubts = settings_of(spec, described("kubernetes", ray_version="2.52.0"), external=True).doubts
    assert len(doubts) == 2
    assert "this is 2.52.0" in doubts[0]


def test_the_defaults_are_those_of_the_ray_that_is_installed() -> None:
    ray = importlib.util.find_spec("ray")
    if ray is None or not ray.submodule_search_locations:
        pytest.skip("Ray is not installed")
    root = Path(next(iter(ray.submodule_search_locations)))
    if f'"{names.READ_IN}.' not in (root / "_version.py").read_text():
        pytest.skip("another Ray is installed")
    serve = (root / "serve/_private/constants.py").read_text() + (root / "_private/ray_constants.py").read_text()
    for name, default in DEFAULTS.items():
        constant = default.source.partition(", ")[2] or name
        found = re.search(rf'\b{constant}(?: = |",\s*"?)([\d.]+)', serve)
        if default.source.startswith(("ray/serve", "ray/_private")):
            assert found, constant
            assert float(found[1]) == default.value, name


# -- chance ----------------------------------------------------------------------------------------------------------


@given(st.floats(min_value=0.01, max_value=400.0))
def test_the_bound_is_the_least_that_chance_seldom_exceeds(mean: float) -> None:
    def chance_of_no_more_than(number: int) -> float:
        terms = (n * math.log(mean) - mean - math.lgamma(n + 1) for n in range(number + 1))
        return math.fsum(map(math.exp, terms))

    most = at_most(mean)
    assert chance_of_no_more_than(most) >= SURE - 1e-9
    assert most == 0 or chance_of_no_more_than(most - 1) < SURE + 1e-9


def test_of_nothing_nothing_is_lost() -> None:
    assert at_most(0.0) == 0
    assert at_most(1000.0) == 1074


# -- what becomes of a prediction ------------------------------------------------------------------------------------

ONE_LOST = Prediction("head_failure", 0.1, 1, "in flight", 0.0, 0.3, 5.0, 15.0)


def loss_of_the_head(*predictions: Prediction) -> Story:
    """Of 50 requests a second, all of a second are lost; redundancy is back after 19.8 s."""
    story = Story().lose(0.0, 1.0)
    for prediction in predictions:
        story.add(-0.1, Predicted("expected", prediction=prediction))
    return story


@pytest.mark.parametrize(
    ("lost", "back", "text"),
    [
        (31, 8.0, "seen: 8.0 s, 31 lost in the whole observation, 30 unexplained"),
        (1, 17.5, "seen: 17.5 s (2.5 s later than expected), 1 lost in the whole observation"),
        (0, 2.0, "seen: 2.0 s (3.0 s sooner than expected), 0 lost in the whole observation"),
        (0, None, "seen: redundancy not back, 0 lost in the whole observation"),
    ],
)
def test_a_comparison_says_what_nothing_explains(lost: int, back: float | None, text: str) -> None:
    found = against(ONE_LOST, lost=lost, outage=0.0, redundancy=back)
    assert found.text == (
        "expected: redundancy back after 5 to 15 s, outage up to 0.3 s, at most 1 request lost; " + text
    )


def test_what_nobody_knows_contradicts_nothing() -> None:
    open_end = replace(ONE_LOST, lost=None, lost_most=None, outage_most=None, redundancy_most=None)
    found = against(open_end, lost=400, outage=90.0, redundancy=90.0)
    assert (found.unexplained, found.outage_beyond, found.redundancy_beyond) == (None, None, None)
    assert "unexplained" not in found.text


def test_a_result_has_what_was_expected_beside_what_was_seen_and_its_verdict_is_the_same() -> None:
    with_it = result_of(loss_of_the_head(ONE_LOST).history(), "head_failure")
    without = result_of(loss_of_the_head().history(), "head_failure")
    (line,) = (line for line in explained(with_it) if line.startswith("expected: "))
    assert line.endswith(
        "seen: 19.8 s (4.8 s later than expected), an outage of 1.0 s (0.7 s longer than expected),"
        " 50 lost in the whole observation, 49 unexplained"
    )
    assert with_it.verdict == without.verdict
    assert comparison(without) is None


def late_generator() -> Story:
    """The loss of a head that was asked by a generator that was late for two seconds."""
    story = loss_of_the_head(ONE_LOST)
    story.requests = [replace(r, sent=r.scheduled + 2.0, finished=r.finished + 2.0) for r in story.requests]
    return story


def busy_machine() -> Story:
    """The loss of a head while other processes use most of the machine."""
    story = loss_of_the_head(ONE_LOST)
    for second in range(-9, 60):
        seen = MachineSeen("", seconds=1.0, processors=2, ours=0.4, others=1.5, waiting=0.9, has_cluster=True)
        story.add(float(second), seen)
    return story


@pytest.mark.parametrize(
    "story",
    [late_generator(), busy_machine(), loss_of_the_head(ONE_LOST).event(5.0, "owner_changed", "somebody scaled it")],
    ids=["a late generator", "other processes", "the owner"],
)
def test_where_the_rig_spoilt_the_figures_nothing_is_unexplained_or_longer_than_expected(
    story: Story,
) -> None:
    found = comparison(result_of(story.history(), "head_failure"))
    assert found is not None
    assert found.doubtful
    assert (found.unexplained, found.outage_beyond, found.redundancy_beyond) == (None, None, None)
    assert "expected)" not in found.text
    assert found.text.endswith(
        " lost in the whole observation; not compared, since these figures are not the cluster's alone"
    )


def test_the_page_and_the_line_say_the_same_number_of_losses() -> None:
    """Requests that are lost after the window count for both."""
    story = loss_of_the_head(ONE_LOST).lose(40.0, 40.5)
    history = story.history()
    result = result_of(history, "head_failure")
    found = comparison(result)
    assert found is not None
    assert found.lost is not None
    assert result.lost is not None
    assert found.lost > result.lost
    text = str(element("div", *expected_and_seen(result, [ONE_LOST])))
    assert "requests lost in the whole observation</th>" in text
    assert f"<td>{found.lost}</td>" in text


def test_the_summary_has_the_prediction_and_what_is_beyond_it() -> None:
    history = loss_of_the_head(ONE_LOST).history()
    document = summary_document(history, [result_of(history, "head_failure")])
    (one,) = cast("list[dict[str, Any]]", document["experiments"])
    assert one["predictions"][0]["redundancy_most"] == 15.0
    assert (one["against_prediction"]["lost"], one["against_prediction"]["unexplained"]) == (50, 49)


@pytest.mark.parametrize(
    "story",
    [
        loss_of_the_head(ONE_LOST, ONE_LOST),
        loss_of_the_head(Prediction("child_failure", why_not="nobody knows")),
        loss_of_the_head(ONE_LOST).without("landed"),
    ],
    ids=["two faults", "no prediction", "not landed"],
)
def test_what_cannot_be_compared_is_not(story: Story) -> None:
    history = story.history()
    result = result_of(history, "head_failure")
    assert comparison(result) is None
    (one,) = cast("list[dict[str, Any]]", summary_document(history, [result])["experiments"])
    assert one["against_prediction"] is None


# -- writing it ------------------------------------------------------------------------------------------------------


class OwnWaits:
    """A cluster that lives faster than Ray."""

    waits = Waits()


def rig_of(*faults: Any, lines: list[str] | None = None, fast: bool = False) -> Rig:
    """A rig around a local cluster."""
    offers = (HAS_OWN_WAITS.by(OwnWaits()),) if fast else ()
    there = cluster_with(*offers, description=described(), spec=ClusterSpec())
    watcher = SimpleNamespace(report=SimpleNamespace(serve=None))
    rig = rig_around(there, watcher, progress=(lines if lines is not None else []).append)
    return replace(rig, run=replace(rig.run, faults=FaultRegistry(faults or tuple(BUILT_IN))))


def fault(kind: str = "proxy_failure") -> predicting.Predictable:
    victims = TOPOLOGY.of("proxy", on="worker-1")
    return cast("predicting.Predictable", SimpleNamespace(kind=kind, options={"how": "kill"}, victims=victims))


def test_a_prediction_is_printed_and_written_down() -> None:
    lines: list[str] = []
    rig = rig_of(lines=lines)
    write_prediction(rig, fault(), TOPOLOGY, number=3)
    (event,) = rig.history.events
    assert isinstance(event, Predicted)
    assert (event.prediction.fault, event.injection, event.text) == ("proxy_failure", 3, lines[0])
    assert lines[0].startswith("expected: redundancy back after 2.5 to 8.5 s, ")
    assert lines[1] == (
        "of the settings, RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S = 1, 3 times decides most:"
        " half of it would save up to 1.5 s"
    )


def test_a_prediction_counts_the_traffic_that_runs() -> None:
    rig = rig_of()
    rig.traffic.begin("")
    rig.history.add(TrafficBegan("traffic begins", rate=50.0, timeout=5.0))
    begin = clock.now() - 5.0
    for number in range(200):
        rig.history.add_request(request(begin + number / 50, takes=0.12))
    write_prediction(rig, fault(), TOPOLOGY)
    (event,) = (one for one in rig.history.events if isinstance(one, Predicted))
    assert event.prediction.lost_why == "50/s for 0.12 s each, of which 33 % are on what is lost"
    assert event.prediction.lost == pytest.approx(50 / 3 * (0.12 + 0.05))


def test_a_fault_without_a_rule_has_no_prediction() -> None:
    lines: list[str] = []
    write_prediction(rig_of(lines=lines), fault("of_the_test_itself"), TOPOLOGY)
    assert lines == ["no prediction: the fault has no rule"]


def test_a_rule_of_a_plugin_is_asked_and_may_raise() -> None:
    def rule(_: Situation) -> Prediction:
        raise ZeroDivisionError("of no replicas")

    lines: list[str] = []
    own = replace(BUILT_IN["proxy_failure"], name="pause", predict=rule)
    write_prediction(rig_of(own, lines=lines), fault("pause"), TOPOLOGY)
    assert lines == ["no prediction: its rule raised ZeroDivisionError: of no replicas"]


def test_of_a_cluster_that_is_not_ray_nothing_is_predicted() -> None:
    rig = rig_of(fast=True)
    write_prediction(rig, fault(), TOPOLOGY)
    assert rig.history.events == ()


def test_the_traffic_before_the_fault_says_rate_and_service_time() -> None:
    sent = Story().requests[:200]
    began = TrafficBegan("traffic begins", rate=50.0, timeout=5.0)
    found = traffic_of(sent, began)
    assert (found.rate, found.timeout) == (50.0, 5.0)
    assert found.service_time == pytest.approx(0.008)
    in_stages = traffic_of(sent, replace(began, rate=10.0, stages="10/s for 5s, 50/s"))
    assert in_stages.rate == pytest.approx(50.0)


def test_a_prediction_comes_before_the_fault_in_the_order_of_events() -> None:
    assert events.EVENTS.index(Predicted) < events.EVENTS.index(FaultAsked)
