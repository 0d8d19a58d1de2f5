"""The steps of an experiment that decide by what, and until when, it is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.waits import Waits
from pytest_serve_chaos.course import Course
from pytest_serve_chaos.criteria import Criteria
from pytest_serve_chaos.errors import NotHealed, SettingsError
from pytest_serve_chaos.events import Demanded, NotStarted, RedundancyBack, RedundancyMissing, Remark, of_kind
from pytest_serve_chaos.experiment import Experiment
from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.faults.injection import Injection
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.spec import FaultChoice
from pytest_serve_chaos.load import JudgedParts, Load, Traffic, with_changes
from pytest_serve_chaos.model import Expectations, PartName, Request, Slowness, Topology
from pytest_serve_chaos.recovery import Recovery
from pytest_serve_chaos.traffic.request_kind import RequestKind
from tests.unit.histories import component
from tests.unit.rigs import cluster_with, rig_around

FAULT = 1000.0


def there() -> Rig:
    watcher = SimpleNamespace(topology=Topology(0.0, ()), belongs_to=lambda _: None, dead=())
    rig = rig_around(watcher=watcher)
    rig.current.experiment = "it"
    return rig


def criteria(
    load: Load | None = None,
    *,
    defaults: Expectations | None = None,
    parts: JudgedParts | None = None,
    demands: Mapping[str, object] | None = None,
    at: float = 0.0,
) -> Criteria:
    """Those of the loss of the head, under traffic that goes to one app unless `parts` say otherwise."""
    load = load or Load()
    fault = BUILT_IN["head_failure"].choose({})
    usual = fault.expectations(ClusterSpec()) if defaults is None else defaults
    return Criteria(load, fault, usual, parts or of_one_app(load), demands or {}, at=at)


def of_one_app(load: Load) -> JudgedParts:
    return JudgedParts((), (), (), (), load.schedule)


def test_the_parts_are_judged_by_themselves_also_where_answers_take_seconds() -> None:
    rig = there()
    parts = JudgedParts(("a", "b"), ("chat",), ("a", "b"), (), Load().schedule)
    rig.traffic.slowness = Slowness(5.0, 1.5, 1.6, 0.2)
    assert Course(rig, criteria(parts=parts))._for_slow_answers(Expectations(window=20.0)).window == 22.0
    (demanded,) = rig.log.of(Demanded)
    assert (demanded.apps, demanded.names, demanded.about) == (("a", "b"), ("chat",), parts.about)


APPS = {"applications": [{"name": name, "route_prefix": f"/{name}"} for name in ("often", "rare")]}


def of_two_apps(load: Load) -> tuple[Rig, Load]:
    """Traffic to two apps, of which one gets 19 of 20 requests."""
    cluster = cluster_with(url="http://127.0.0.1:1/often", serve_config=APPS, spec=ClusterSpec())
    kinds = (RequestKind(app="often", weight=19), RequestKind(app="rare", weight=1))
    rig = there()
    object.__setattr__(rig, "cluster", cluster)
    object.__setattr__(rig, "serve_config", APPS)
    return rig, replace(load, requests=kinds)


def criteria_of_two_apps(load: Load, **demands: object) -> Criteria:
    rig, load = of_two_apps(load)
    return criteria(load, parts=load.judged(rig), demands=demands)


@pytest.mark.parametrize(
    ("demands", "often", "rare"),
    [({}, 2.0, 4.0), ({"longest_outage": "5s"}, 5.0, 5.0), ({"longest_outage": None}, None, None)],
)
def test_what_an_app_is_allowed_by_default_is_by_its_own_requests(
    demands: dict[str, object], often: float | None, rare: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig, load = of_two_apps(Load(rate=10))
    monkeypatch.setattr(FaultChoice, "expectations", lambda *_: replace(Expectations(), longest_outage=2.0))
    monkeypatch.setattr(Course, "run", lambda _: None)
    monkeypatch.setattr("pytest_serve_chaos.experiment.restore", lambda _: "")
    Experiment(rig, load, BUILT_IN["head_failure"].choose({})).measure(**demands)
    demanded = of_kind(Demanded, rig.history.events)[0]
    assert demanded.of(PartName("app", "often")).longest_outage == often
    assert demanded.of(PartName("app", "rare")).longest_outage == (None if rare is None else pytest.approx(rare))
    assert demanded.expectations.longest_outage == often
    assert demanded.expectations.window == pytest.approx(602.0, abs=3.0), "300 requests of the app with the fewest"
    remarks = [event.text for event in rig.history.events if isinstance(event, Remark)]
    said = "app rare: outages of 4 s are allowed, because its requests are up to 2 s apart"
    assert remarks == ([said] if not demands else [])


def test_what_an_outage_may_last_by_default_is_shown_in_all_of_the_window() -> None:
    """Of Poisson arrivals a longer window has a longer gap, and the window grows to that of 3000 requests."""
    load = Load(rate=5, arrivals="poisson")
    expected = criteria(load, defaults=Expectations(), demands={"availability": 0.999}).demanded
    assert expected.window > 600
    assert expected.longest_outage == pytest.approx(2 * load.schedule.spacing(expected.window))


def test_a_demand_that_the_requests_of_one_app_cannot_show_is_refused() -> None:
    (reason,) = criteria_of_two_apps(Load(rate=10), longest_outage="2s").not_shown(Topology(0.0, ()))
    assert reason.startswith("app rare: requests that are 2 s apart cannot show longest_outage=2 s")


def test_what_persistent_connections_cannot_show_of_one_app_is_refused() -> None:
    """All together, 400 requests a second on the connections to two proxies would be enough."""
    proxies = Topology(0.0, tuple(component("proxy", node) for node in ("head", "worker-1")))
    demands = {"availability": 0.999, "persistent_availability": 0.999, "window": "100s", "longest_outage": None}
    there = criteria_of_two_apps(Load(rate=10, persistent_rate=200), **demands)
    (reason,) = (reason for reason in there.not_shown(proxies) if "persistent" in reason)
    assert reason.startswith("app rare: 2000 requests on persistent connections in a window of 100 s cannot show")


def test_the_outlook_is_that_of_the_app_with_the_fewest_requests() -> None:
    there = criteria_of_two_apps(Load(rate=10), availability=0.99)
    text = there.outlook(there.demanded, Topology(0.0, ()), Waits()).text
    assert "(99 % takes 300 requests to the app rare, which gets the fewest, 604 s at 0.5/s)" in text


class Heals:
    """An injection that is over so long after the fault."""

    def __init__(self, *, rolls_back: bool, after: float) -> None:
        self.rig = there()
        self.fault = SimpleNamespace(rolls_back=rolls_back)
        self.asked, self.hold_for = FAULT, 20.0
        self._after = after

    def wait_healed(self, timeout: float) -> float:
        if self._after > self.hold_for + timeout:
            raise NotHealed("it was time to heal it, and that did not work")
        return self._after

    def missing(self) -> list[str]:
        return ["the update is not taken back"]


def healed_by_itself(injection: Heals) -> bool:
    return Recovery(cast("Injection", injection), criteria(), Expectations())._healed_by_itself(FAULT + 180.0)


@pytest.mark.parametrize(("after", "healed"), [(100.0, True), (170.0, True), (190.0, False)])
def test_what_the_cluster_takes_back_itself_may_take_as_long_as_redundancy(after: float, healed: bool) -> None:
    injection = Heals(rolls_back=True, after=after)
    assert healed_by_itself(injection) is healed
    assert injection.rig.log.has(RedundancyMissing) is not healed


def test_what_takes_nothing_of_the_cluster_is_healed_within_a_minute() -> None:
    assert healed_by_itself(Heals(rolls_back=False, after=79.0))
    with pytest.raises(NotHealed):
        healed_by_itself(Heals(rolls_back=False, after=100.0))


@pytest.mark.parametrize(("back", "rate"), [(5.0, 2.0), (15.0, 50.0)], ids=["slow stage", "quick stage"])
def test_replicas_have_got_as_few_requests_as_the_stages_since_redundancy_was_back(
    back: float, rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    course = Course(rig := there(), criteria(Load(rate="2/s for 10s, 50/s")))
    monkeypatch.setattr(clock, "now", lambda: FAULT + 30.0)  # the stages began with the fault
    rig.log.add(RedundancyBack("back", at=FAULT + back))
    assert course._least_since_redundancy(cast("Traffic", SimpleNamespace(elapsed=30.0))) == rate


@pytest.mark.parametrize(("apps", "spacing"), [(("a", "b"), 1.0), ((), 0.1)])
def test_traffic_lasts_two_requests_of_each_app_longer_than_it_may_take_to_come_back(
    apps: tuple[str, ...], spacing: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Load(rate=10, persistent_rate=0)
    share = load.schedule.of_share(0.1) if apps else load.schedule
    parts = JudgedParts(apps, (), apps, (), share)
    lost = NotYet("requests are lost")
    injection = SimpleNamespace(rig=there(), landed=True, asked=FAULT, traffic_back_now=lambda: lost)
    now = [FAULT]
    monkeypatch.setattr(clock, "now", lambda: now[0])
    monkeypatch.setattr("time.sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    Recovery(cast("Injection", injection), criteria(load, parts=parts), Expectations(traffic_back=30.0)).wait_window()
    assert now[0] == pytest.approx(FAULT + 30.0 + 2 * spacing, abs=0.3)


def test_traffic_that_was_away_again_after_it_seemed_to_be_back_is_told() -> None:
    said: list[str] = []
    rig = rig_around(watcher=SimpleNamespace(topology=Topology(0.0, ())), progress=said.append)
    way_back = [0.0]
    injection = SimpleNamespace(
        rig=rig, landed=True, wait_traffic_back=lambda _: way_back[0], traffic_back_now=lambda: way_back[0]
    )
    recovery = Recovery(cast("Injection", injection), criteria(), Expectations())
    recovery._traffic_back(FAULT)
    recovery.say_if_away_again()
    way_back[0] = 20.0
    recovery.say_if_away_again()
    assert said == [
        "traffic is back 0.0 s after the fault",
        "traffic was away again, and is back 20.0 s after the fault",
    ]


@pytest.mark.parametrize(("waits", "begins"), [(0.5, True), (1.5, False)])
def test_what_hangs_before_the_fault_is_not_its_doing(
    waits: float, begins: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    course = Course(rig := there(), criteria(at=5.0))
    rig.traffic.slowness = Slowness(after=1.0)
    monkeypatch.setattr(clock, "now", lambda: FAULT)
    due = FAULT - waits
    rig.history.open_request(Request(1, "fresh", due, due, due))
    traffic = cast("Traffic", SimpleNamespace(wait_until=lambda _: None))
    assert course._wait_for_its_moment(traffic) is begins
    assert rig.log.has(NotStarted) is not begins


# -- other traffic -----------------------------------------------------------------------------------------------------


def test_durations_of_other_traffic_may_have_units() -> None:
    load = with_changes(Load(), {"timeout": "500ms", "slow_after": 1, "send_lag_limit": "0.2s", "watch_for": "2m"})

    assert (load.timeout, load.slow_after, load.send_lag_limit, load.watch_for) == (0.5, 1.0, 0.2, 120.0)
    assert with_changes(load, {"watch_for": None}).watch_for is None


def test_what_is_no_duration_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(SettingsError, match="watch_for: 'long' is not a duration"):
        with_changes(Load(), {"watch_for": "long"})
