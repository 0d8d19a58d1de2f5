"""The steps of an experiment that decide by what, and until when, it is judged."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.errors import NotHealed
from pytest_serve_chaos.events import Demanded, NotStarted, RedundancyBack, RedundancyMissing, Remark, of_kind
from pytest_serve_chaos.experiment import Experiment
from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.faults.injection import Injection
from pytest_serve_chaos.load import JudgedParts, Load, Traffic
from pytest_serve_chaos.model import Expectations, PartName, Request, Slowness, Topology
from pytest_serve_chaos.traffic.request_kind import RequestKind
from tests.unit.histories import component
from tests.unit.rigs import cluster_with, rig_around

FAULT = 1000.0


def experiment(load: Load | None = None) -> Experiment:
    watcher = SimpleNamespace(topology=Topology(0.0, ()), belongs_to=lambda _: None, dead=())
    rig = rig_around(watcher=watcher)
    rig.current.experiment = "it"
    return Experiment(rig, load or Load(), BUILT_IN["head_failure"].choose({}))


def test_the_parts_are_judged_by_themselves_also_where_answers_take_seconds() -> None:
    there = experiment()
    parts = JudgedParts(("a", "b"), ("chat",), ("a", "b"), (), there.load.schedule)
    there._parts = parts
    there.rig.traffic.slowness = Slowness(5.0, 1.5, 1.6, 0.2)
    assert there._widen(Expectations(window=20.0)).window == 22.0
    (demanded,) = there.rig.log.of(Demanded)
    assert (demanded.apps, demanded.names, demanded.about) == (("a", "b"), ("chat",), parts.about)


APPS = {"applications": [{"name": name, "route_prefix": f"/{name}"} for name in ("often", "rare")]}


def of_two_apps(monkeypatch: pytest.MonkeyPatch, load: Load) -> Experiment:
    """An experiment on two apps, of which one gets 19 of 20 requests. It ends before anything is broken."""
    cluster = cluster_with(url="http://127.0.0.1:1/often", serve_config=APPS, spec=ClusterSpec())
    kinds = (RequestKind(app="often", weight=19), RequestKind(app="rare", weight=1))
    there = experiment(replace(load, requests=kinds))
    object.__setattr__(there.rig, "cluster", cluster)
    object.__setattr__(there.rig, "serve_config", APPS)
    monkeypatch.setattr(there, "_experiment", lambda expected: None)
    monkeypatch.setattr("pytest_serve_chaos.experiment.restore", lambda rig: "")
    monkeypatch.setattr(there, "_can_be_judged", lambda expected: not [*there._not_shown(expected)])
    return there


@pytest.mark.parametrize(
    ("demands", "often", "rare"),
    [({}, 2.0, 4.0), ({"longest_outage": "5s"}, 5.0, 5.0), ({"longest_outage": None}, None, None)],
)
def test_what_an_app_is_allowed_by_default_is_by_its_own_requests(
    demands: dict[str, object], often: float | None, rare: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = of_two_apps(monkeypatch, Load(rate=10))
    defaults = replace(Expectations(), longest_outage=2.0)
    monkeypatch.setattr(type(there), "_defaults", defaults)
    there._measure(demands, ())
    demanded = of_kind(Demanded, there.rig.history.events)[0]
    assert demanded.of(PartName("app", "often")).longest_outage == often
    assert demanded.of(PartName("app", "rare")).longest_outage == (None if rare is None else pytest.approx(rare))
    assert demanded.expectations.longest_outage == often
    assert demanded.expectations.window == pytest.approx(602.0, abs=3.0), "300 requests of the app with the fewest"
    remarks = [event.text for event in there.rig.history.events if isinstance(event, Remark)]
    said = "app rare: outages of 4 s are allowed, because its requests are up to 2 s apart"
    assert remarks == ([said] if not demands else [])


def test_what_an_outage_may_last_by_default_is_shown_in_all_of_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of Poisson arrivals a longer window has a longer gap, and the window grows to that of 3000 requests."""
    there = experiment(Load(rate=5, arrivals="poisson"))
    monkeypatch.setattr(type(there), "_defaults", Expectations())
    there._parts = JudgedParts((), (), (), (), there.load.schedule)
    expected = there._expectations({"availability": 0.999})
    assert expected.window > 600
    assert expected.longest_outage == pytest.approx(2 * there.load.schedule.spacing(expected.window))


def test_a_demand_that_the_requests_of_one_app_cannot_show_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    there = of_two_apps(monkeypatch, Load(rate=10))
    there._of_parts = there._parts.demands(Expectations(), {"longest_outage": "2s"}, 0.0)
    (reason,) = there._not_shown(there._expectations({"longest_outage": "2s"}))
    assert reason.startswith("app rare: requests that are 2 s apart cannot show longest_outage=2 s")


def test_what_persistent_connections_cannot_show_of_one_app_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """All together, 400 requests a second on the connections to two proxies would be enough."""
    there = of_two_apps(monkeypatch, Load(rate=10, persistent_rate=200))
    there.rig.watcher.topology = Topology(0.0, tuple(component("proxy", node) for node in ("head", "worker-1")))  # type: ignore[misc]
    demands = {"availability": 0.999, "persistent_availability": 0.999, "window": "100s", "longest_outage": None}
    there._of_parts = there._parts.demands(Expectations(), demands, 0.0)
    reasons = [reason for reason in there._not_shown(there._expectations(demands)) if "persistent" in reason]
    (reason,) = reasons
    assert reason.startswith("app rare: 2000 requests on persistent connections in a window of 100 s cannot show")


def test_the_outlook_is_that_of_the_app_with_the_fewest_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    there = of_two_apps(monkeypatch, Load(rate=10))
    text = there._outlook(there._expectations({"availability": 0.99})).text
    assert "(99 % takes 300 requests to the app rare, which gets the fewest, 604 s at 0.5/s)" in text


class Heals:
    """An injection that is over so long after the fault."""

    def __init__(self, *, rolls_back: bool, after: float) -> None:
        self.fault = SimpleNamespace(rolls_back=rolls_back)
        self.asked, self.hold_for = FAULT, 20.0
        self._after = after

    def wait_healed(self, timeout: float) -> float:
        if self._after > self.hold_for + timeout:
            raise NotHealed("it was time to heal it, and that did not work")
        return self._after

    def missing(self) -> list[str]:
        return ["the update is not taken back"]


@pytest.mark.parametrize(("after", "healed"), [(100.0, True), (170.0, True), (190.0, False)])
def test_what_the_cluster_takes_back_itself_may_take_as_long_as_redundancy(after: float, healed: bool) -> None:
    there, injection = experiment(), cast("Injection", Heals(rolls_back=True, after=after))
    assert there._healed_by_itself(injection, FAULT + 180.0) is healed
    assert there.rig.log.has(RedundancyMissing) is not healed


def test_what_takes_nothing_of_the_cluster_is_healed_within_a_minute() -> None:
    there = experiment()
    assert there._healed_by_itself(cast("Injection", Heals(rolls_back=False, after=79.0)), FAULT + 180.0)
    with pytest.raises(NotHealed):
        there._healed_by_itself(cast("Injection", Heals(rolls_back=False, after=100.0)), FAULT + 180.0)


@pytest.mark.parametrize(("back", "rate"), [(5.0, 2.0), (15.0, 50.0)], ids=["slow stage", "quick stage"])
def test_replicas_have_got_as_few_requests_as_the_stages_since_redundancy_was_back(
    back: float, rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = experiment(Load(rate="2/s for 10s, 50/s"))
    monkeypatch.setattr(clock, "now", lambda: FAULT + 30.0)  # the stages began with the fault
    there.rig.log.add(RedundancyBack("back", at=FAULT + back))
    assert there._least_since_redundancy(cast("Traffic", SimpleNamespace(elapsed=30.0))) == rate


@pytest.mark.parametrize(("apps", "spacing"), [(("a", "b"), 1.0), ((), 0.1)])
def test_traffic_lasts_two_requests_of_each_app_longer_than_it_may_take_to_come_back(
    apps: tuple[str, ...], spacing: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = experiment(Load(rate=10, persistent_rate=0))
    share = there.load.schedule.of_share(0.1) if apps else there.load.schedule
    there._parts = JudgedParts(apps, (), apps, (), share)
    injection = SimpleNamespace(landed=True, asked=FAULT, traffic_back_now=lambda: NotYet("requests are lost"))
    now = [FAULT]
    monkeypatch.setattr(clock, "now", lambda: now[0])
    monkeypatch.setattr("time.sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    there._wait_window(cast("Injection", injection), Expectations(traffic_back=30.0))
    assert now[0] == pytest.approx(FAULT + 30.0 + 2 * spacing, abs=0.3)


def test_traffic_that_was_away_again_after_it_seemed_to_be_back_is_told() -> None:
    said: list[str] = []
    rig = rig_around(watcher=SimpleNamespace(topology=Topology(0.0, ())), progress=said.append)
    there = Experiment(rig, Load(), BUILT_IN["head_failure"].choose({}))
    way_back = [0.0]
    injection = cast(
        "Injection",
        SimpleNamespace(landed=True, wait_traffic_back=lambda _: way_back[0], traffic_back_now=lambda: way_back[0]),
    )
    there._traffic_back(injection, FAULT)
    there._say_if_away_again(injection)
    way_back[0] = 20.0
    there._say_if_away_again(injection)
    assert said == [
        "traffic is back 0.0 s after the fault",
        "traffic was away again, and is back 20.0 s after the fault",
    ]


@pytest.mark.parametrize(("waits", "begins"), [(0.5, True), (1.5, False)])
def test_what_hangs_before_the_fault_is_not_its_doing(
    waits: float, begins: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = experiment()
    there._at = 5.0
    there.rig.traffic.slowness = Slowness(after=1.0)
    monkeypatch.setattr(clock, "now", lambda: FAULT)
    due = FAULT - waits
    there.rig.history.open_request(Request(1, "fresh", due, due, due))
    traffic = cast("Traffic", SimpleNamespace(wait_until=lambda _: None))
    assert there._wait_for_its_moment(traffic) is begins
    assert there.rig.log.has(NotStarted) is not begins
