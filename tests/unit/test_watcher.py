"""What came and what went, as it is written down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import cast

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.base import Cluster
from pytest_serve_chaos.cluster.rest import ActorRow, NodeRow, ServeStatus
from pytest_serve_chaos.errors import ObservationError
from pytest_serve_chaos.events import (
    ComponentCame,
    ComponentGone,
    Event,
    Moment,
    Rescaled,
    ServeSaid,
    TopologySeen,
    of_kind,
)
from pytest_serve_chaos.history import History
from pytest_serve_chaos.json_records import event_from_json, event_to_json
from pytest_serve_chaos.model import Component, Identity, Json, Topology
from pytest_serve_chaos.observe import watcher as watcher_module
from pytest_serve_chaos.observe.observer import Observer, Report
from pytest_serve_chaos.observe.shape import shape_of
from pytest_serve_chaos.observe.watcher import Watcher


def worker(uid: str, machine: str | None, pid: int | None = None) -> Component:
    return Component("worker", "worker-1", Identity("container", (uid, "c", "0")), pid, machine=machine)


def data_of(event: Event) -> dict[str, Json]:
    """What belongs to an event in the file."""
    data = event_to_json(event)["data"]
    assert isinstance(data, dict)
    return data


def events(before: Component, after: Component) -> list[Event]:
    """What is written when one sample has the first, and the next one the second."""
    samples = iter([Topology(0.0, (before,)), Topology(1.0, (after,))])
    watcher = Watcher(cast("Observer", SimpleNamespace(look=lambda: next(samples))), history := History())
    watcher.sample()
    return list(history.events)


def changes(before: Component, after: Component) -> list[ComponentGone | ComponentCame]:
    """What went and what came."""
    return [event for event in events(before, after) if isinstance(event, (ComponentGone, ComponentCame))]


def test_a_worker_that_is_replaced_is_said_to_be_on_another_machine() -> None:
    went, came = changes(worker("a", "kind-worker"), worker("b", "kind-worker3"))
    assert (went.text, went.component.machine) == ("worker-1 is gone (on kind-worker)", "kind-worker")
    assert (came.text, came.component.machine) == ("worker-1 is there (on kind-worker3)", "kind-worker3")


def test_a_process_has_its_pid_and_no_machine() -> None:
    _, came = changes(worker("a", None, 113), worker("b", None, 114))
    assert (came.text, came.component.machine) == ("worker-1 is there (PID 114)", None)


def test_what_has_no_machine_of_its_own_says_nothing_of_one() -> None:
    replica = Component("replica", "worker-1", Identity("process", ("boot", "7", "1")), 7, deployment="app#Pid")
    _, came = changes(worker("a", "kind-worker"), replica)
    assert "machine" not in data_of(came)


def test_a_machine_is_neither_identity_nor_shape() -> None:
    here, there = worker("a", "kind-worker"), worker("a", "kind-worker3")
    assert changes(here, there) == []
    assert shape_of(Topology(0.0, (here,))) == shape_of(Topology(0.0, (there,)))


def proxy(pid: int, haproxy: int | None) -> Component:
    serving = None if haproxy is None else Identity("process", ("boot", str(haproxy), "1"))
    return Component("proxy", "worker-1", Identity("process", ("boot", str(pid), "1")), pid, serving=serving)


def test_a_reload_of_haproxy_is_neither_an_end_nor_a_beginning() -> None:
    (reloaded,) = events(proxy(7, 20), proxy(7, 21))
    assert reloaded == event_from_json(event_to_json(reloaded))
    assert (reloaded.kind, reloaded.text) == ("reloaded", "HAProxy of the proxy on worker-1 was reloaded (PID 21)")


@pytest.mark.parametrize("after", [proxy(7, 20), proxy(8, 21)])
def test_the_same_haproxy_and_another_proxy_are_no_reload(after: Component) -> None:
    assert [event.kind for event in events(proxy(7, 20), after)] == ([] if after.pid == 7 else ["gone", "came"])


def test_serves_own_proxy_is_never_reloaded() -> None:
    assert events(proxy(7, None), proxy(7, None)) == []


def test_a_topology_from_before_there_were_machines_can_be_read() -> None:
    topology = Topology(0.0, (worker("a", "kind-worker"),))
    written = event_to_json(TopologySeen.of(topology, Moment.BEFORE))
    assert event_from_json(written) == TopologySeen.of(topology, Moment.BEFORE)
    (component,) = cast("list[dict[str, Json]]", cast("dict[str, Json]", written["data"])["components"])
    del component["machine"]
    assert event_from_json(written) == TopologySeen.of(Topology(0.0, (worker("a", None),)), Moment.BEFORE)


class Odd:
    """An observer whose looks or questions fail in ways that nobody foresaw, one after the other.

    Attributes:
        asked: How often Ray and Serve were asked.
    """

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.looks: list[Exception] = []
        self.asked = 0
        self.report = Report()

    def look(self) -> Topology:
        if self.looks:
            raise self.looks.pop(0)
        return Topology(0.0, ())

    def refresh(self) -> Report:
        self.asked += 1
        return Report(error=self.errors.pop(0) if self.errors else None)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher_module, "_LOOK_EVERY", 0.01)


def wait_for(what: Callable[[], bool]) -> None:
    clock.wait_until("it", lambda: what() or NotYet("no"), timeout=10.0, interval=0.01)


@pytest.mark.usefixtures("quick")
def test_no_odd_answer_ends_the_questions_and_each_is_noted_once() -> None:
    null = "'NoneType' object has no attribute 'get'"
    odd = Odd(AttributeError(null), AttributeError(null), ValueError("many"), ObservationError("no head"))
    watcher = Watcher(cast("Observer", odd), history := History(), ask_every=0.0)
    watcher.start()
    wait_for(lambda: odd.asked > 5)
    watcher.stop()
    assert [event.text for event in history.events] == [
        f"the watch met an unforeseen error and goes on: AttributeError: {null}",
        "the watch met an unforeseen error and goes on: ValueError: many",
    ]
    assert watcher.trouble == ""


@pytest.mark.usefixtures("quick")
def test_no_odd_process_table_ends_the_looks() -> None:
    odd = Odd()
    watcher = Watcher(cast("Observer", odd), history := History(), ask_every=0.0)
    odd.looks = [IndexError("a line of /proc was cut"), ObservationError("no answer")]
    watcher.start()
    wait_for(lambda: not odd.looks)
    wait_for(lambda: watcher.trouble == "")
    watcher.stop()
    assert [e.text for e in history.events] == [
        "the watch met an unforeseen error and goes on: IndexError: a line of /proc was cut"
    ]


@pytest.mark.usefixtures("quick")
def test_the_trouble_says_why_ray_and_serve_are_silent() -> None:
    odd = Odd(*[ObservationError("GET /api/v0/nodes: no head")] * 10_000)
    watcher = Watcher(cast("Observer", odd), history := History(), ask_every=0.0)
    watcher.start()
    wait_for(lambda: watcher.trouble == "GET /api/v0/nodes: no head")
    watcher.stop()
    assert history.events == ()


class Head:
    """The dashboard of a cluster whose Serve gives an answer that the code was not written for."""

    def nodes(self) -> tuple[NodeRow, ...]:
        return (NodeRow("n1", "10.0.0.1", "ALIVE", True),)

    def actors(self) -> tuple[ActorRow, ...]:
        return ()

    def serve(self) -> ServeStatus:
        raise AttributeError("'NoneType' object has no attribute 'get'")


def test_whatever_goes_wrong_with_serve_it_did_not_answer_and_the_state_api_did() -> None:
    report = Observer(cast("Cluster", SimpleNamespace(dashboard=Head()))).refresh()
    assert (report.serve, report.actors, list(report.nodes or ())) == (None, (), ["n1"])
    assert isinstance(report.error, AttributeError)


def test_a_watcher_knows_when_the_newest_component_came() -> None:
    samples = iter([Topology(0.0, (worker("a", None, 1),)), Topology(1.0, ()), Topology(2.0, (worker("b", None, 2),))])
    watcher = Watcher(cast("Observer", SimpleNamespace(look=lambda: next(samples))), History())
    watcher.sample()
    assert (watcher.newest, watcher.newcomer) == (0.0, ""), "one that was there at first, or went, has not come"
    before = clock.now()
    watcher.sample()
    assert before <= watcher.newest <= clock.now()
    assert watcher.newcomer == "worker-1 (PID 2)"


# -- what autoscalers want ---------------------------------------------------------------------------------------------


class Scaling:
    """An observer of a cluster that scales: each question has the next of these answers."""

    def __init__(self, *reports: Report) -> None:
        self.reports = list(reports)

    def look(self) -> Topology:
        return Topology(0.0, ())

    def refresh(self) -> Report:
        return self.reports.pop(0)


def wants(replicas: int | None, *, fixed: int = 2, workers: int | None = None) -> Report:
    """What Serve and Ray want; None: Serve answers that it has no applications."""
    targets = {} if replicas is None else {"app#App": replicas, "app#Fixed": fixed, "serve_chaos_canary_1#Canary": 1}
    scales: Mapping[str, Json] = {"autoscaling_config": {"min_replicas": 1, "max_replicas": 8}}
    options: dict[str, Mapping[str, Json]] = {"app#App": scales, "serve_chaos_canary_1#Canary": scales}
    serve = ServeStatus({}, targets, {}, {}, (), {}, None, options=options if targets else {})
    return Report(1.0, serve=serve, workers=workers)


def test_what_an_autoscaler_wants_otherwise_than_before_is_written_down() -> None:
    reports = [wants(2, workers=3), wants(2, fixed=5, workers=3), wants(4, workers=3), wants(1, workers=2)]
    watcher = Watcher(cast("Observer", Scaling(*reports)), history := History())
    watcher.belongs_to("it")
    for _ in range(4):
        watcher.ask()
    assert [(e.what, e.before, e.now, e.experiment) for e in of_kind(Rescaled, history.events)] == [
        ("app#App", 2, 4, "it"),
        ("workers", 3, 2, "it"),
        ("app#App", 4, 1, "it"),
    ]


def test_trouble_with_the_controller_is_no_scaling() -> None:
    """Serve says then that it has no applications, or nothing."""
    watcher = Watcher(
        cast("Observer", Scaling(wants(4), wants(None), Report(), wants(4), wants(3))), history := History()
    )
    for _ in range(5):
        watcher.ask()
    assert [(e.before, e.now) for e in of_kind(Rescaled, history.events)] == [(4, 3)]


def said(app: str, proxy: str, *, at: float = 1.0) -> Report:
    """What Serve says of an app, its deployment and the proxy of a node."""
    apps, deployments, proxies = {"shop": app} if app else {}, {"shop#Cart": "HEALTHY"} if app else {}, {"n1": proxy}
    return Report(at, serve=ServeStatus(apps, {}, deployments, {}, (), proxies, None))


def test_what_serve_says_is_written_down_where_it_changes() -> None:
    reports = iter(
        [said("RUNNING", "HEALTHY"), said("RUNNING", "HEALTHY"), Report(7.0), Report(8.0), said("", "HEALTHY")]
    )
    observer = SimpleNamespace(
        look=lambda: Topology(0.0, ()), refresh=lambda: next(reports), node_name={"n1": "worker-1"}.__getitem__
    )
    watcher = Watcher(cast("Observer", observer), history := History())
    watcher.belongs_to("head_lost")
    for _ in range(5):
        watcher.ask()
    first, silent, later = of_kind(ServeSaid, history.events)
    everything = {"Serve": "answers", "app shop": "RUNNING", "deployment shop#Cart": "HEALTHY"}
    assert first.statuses == {**everything, "proxy on worker-1": "HEALTHY"}
    assert (silent.statuses, silent.at) == ({"Serve": "does not answer"}, 7.0), "since it was asked in vain"
    assert later.statuses == {"Serve": "answers", "app shop": "", "deployment shop#Cart": ""}
    assert event_from_json(event_to_json(later)) == later


def test_each_experiment_begins_with_all_that_serve_says() -> None:
    observer = SimpleNamespace(
        look=lambda: Topology(0.0, ()), refresh=lambda: said("RUNNING", "HEALTHY"), node_name=str
    )
    watcher = Watcher(cast("Observer", observer), history := History())
    for name in ("first", "", "second"):
        watcher.belongs_to(name)
        watcher.ask()
    assert [event.experiment for event in of_kind(ServeSaid, history.events)] == ["first", "second"]
    assert len({str(event.statuses) for event in of_kind(ServeSaid, history.events)}) == 1
