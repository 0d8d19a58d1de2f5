"""By which symptoms an experiment looks like a defect that is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from pytest_serve_chaos.analysis.known_defects import (
    KNOWN,
    Seen,
    empty_replica_set,
    errors_on_stop,
    matching,
    replaced_in_recovery,
    second_hang,
    service_lags,
    silent_replicas,
    stale_proxies,
    update_goes_on,
    workers_restart,
    zombie_workers,
)
from pytest_serve_chaos.analysis.record import read_record
from pytest_serve_chaos.events import ComponentCame, ComponentGone, FaultAsked
from pytest_serve_chaos.model import NOT_READY, ClusterDescription, Component, Topology
from tests.unit.histories import Story, cluster, component, deaf_controller

KIND = ClusterDescription("kind", "2.60.0", 2, "redis 7.0", "app:app", "fast", 4, "http://127.0.0.1:1/")


def broken(fault: str, text: str, *, after: Topology | None = None) -> Story:
    """An experiment with that fault, in which no request was lost yet."""
    story = Story(fault, after=after or cluster()).without("asked")
    return story.add(0.0, FaultAsked(text, fault=fault, injection=1))


def seen(story: Story, description: ClusterDescription | None = KIND) -> Seen:
    record = read_record(story.history(), story.experiment)
    lost = tuple(request for request in record.fresh if request.lost)
    return Seen(record.events, lost, record.end, description)


def came(story: Story, at: float, what: Component) -> Story:
    return story.add(at, ComponentCame("there", component=what))


def gone(story: Story, at: float, what: Component) -> Story:
    return story.add(at, ComponentGone("gone", component=what))


def new_controller(story: Story, at: float = 5.0) -> Story:
    return came(story, at, component("controller", "head", incarnation=2))


def head(text: str = "SIGKILL to all processes of head") -> Story:
    return broken("head_failure", text)


def zombies() -> Topology:
    parts = [replace(c, state=NOT_READY) if c.role == "worker" else c for c in cluster().components]
    return replace(cluster(), components=tuple(parts))


CASES: dict[str, tuple[Callable[[Seen], str], Story, str]] = {
    "stale proxies": (
        stale_proxies,
        deaf_controller(),
        "proxy on head, proxy on worker-1, proxy on worker-2 did not get a new route",
    ),
    "a silent replica": (
        silent_replicas,
        head().lose(0.3, 0.4),
        "5 requests due within a second of the fault timed out, and no replica went",
    ),
    "a second hang": (
        second_hang,
        new_controller(head()).lose(6.0, 6.1),
        "5 requests timed out around the start of the new controller, and no replica went",
    ),
    "workers that restart": (
        workers_restart,
        gone(head(), 9.0, component("worker", "worker-1")),
        "worker-1 went, and the fault hit only the head",
    ),
    "workers that are never ready": (
        zombie_workers,
        broken("head_failure", "SIGKILL", after=zombies()).event(60.0, "redundancy_missing", "worker-1 is not back"),
        "running and not ready at the end: worker-1, worker-2",
    ),
    "errors in place of a drain": (
        errors_on_stop,
        broken("worker_failure", "deletion of the pod of worker-1").lose(1.0, 1.1, error="HTTP 500"),
        "5 HTTP 500 after the node was asked to stop",
    ),
    "an empty set of replicas": (
        empty_replica_set,
        new_controller(broken("controller_failure", "SIGKILL to the controller")).lose(6.0, 6.1, error="HTTP 503"),
        "5 HTTP 503 after the new controller was there, and no replica went",
    ),
    "a Service that lags": (
        service_lags,
        head("forced deletion of the pod of head").lose(1.0, 1.1, error="ConnectError"),
        "5 ConnectError after the head went",
    ),
    "replicas that only waited": (
        replaced_in_recovery,
        gone(new_controller(head()), 36.0, component("replica", "worker-1")),
        "1 replica went 20 s or more after the new controller was there",
    ),
    "an update that goes on": (
        update_goes_on,
        gone(
            gone(
                broken("app_update", "a new version of the app is deployed, whose health check fails"),
                5.0,
                component("replica", "worker-1"),
            ),
            9.0,
            component("replica", "worker-2"),
        ),
        "2 replicas of the version that works went",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_known_defect_is_found_by_its_symptoms(name: str) -> None:
    matches, story, by = CASES[name]
    assert matches(seen(story)) == by
    assert by in [match.by for match in matching(seen(story))]


@pytest.mark.parametrize("name", CASES)
def test_a_loss_of_the_head_that_costs_nothing_looks_like_no_defect(name: str) -> None:
    matches, _, _ = CASES[name]
    assert matches(seen(new_controller(head()))) == ""


def test_all_symptoms_of_the_registry_are_tested() -> None:
    assert {defect.matches for defect in KNOWN} == {matches for matches, _, _ in CASES.values()}


@pytest.mark.parametrize(
    ("story", "matches"),
    [
        (gone(head().lose(0.3, 0.4), 1.0, component("replica", "worker-1")), silent_replicas),
        (head("SIGSTOP to all processes of head").lose(0.3, 0.4), silent_replicas),
        (broken("worker_failure", "forced deletion of the pod").lose(1.0, 1.1, error="HTTP 500"), errors_on_stop),
        (gone(head(), 9.0, component("head", "head")), workers_restart),
    ],
)
def test_what_has_another_reason_is_no_symptom(story: Story, matches: Callable[[Seen], str]) -> None:
    assert matches(seen(story)) == ""


def test_a_head_without_fault_tolerance_takes_its_workers_along() -> None:
    story = gone(head(), 9.0, component("worker", "worker-1"))
    assert workers_restart(seen(story, replace(KIND, gcs="none"))) == ""


@pytest.mark.parametrize(
    ("version", "shown"), [("2.43.0", False), ("2.44.0", True), ("2.60.1", True), ("2.61.0", False)]
)
def test_a_version_that_does_not_have_a_defect_does_not_look_like_it(version: str, shown: bool) -> None:
    found = matching(seen(deaf_controller(), replace(KIND, ray_version=version)))
    assert ("ray#63784" in [match.defect.issue for match in found]) is shown


@pytest.mark.parametrize("description", [None, replace(KIND, ray_version="3.0.0.dev0"), replace(KIND, ray_version="?")])
def test_an_odd_version_is_no_error(description: ClusterDescription | None) -> None:
    matching(seen(deaf_controller(), description))


def test_each_defect_says_where_it_is_described() -> None:
    assert all(defect.issue or defect.anchor for defect in KNOWN)
    assert KNOWN[0].url == "https://github.com/ray-project/ray/issues/63784"
