"""What an injection says of traffic, redundancy and rest, by what is known at the moment of the question."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest

from pytest_serve_chaos import clock, progress
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.base import Cluster
from pytest_serve_chaos.cluster.capabilities import SHOWS_FAILED_STARTS
from pytest_serve_chaos.errors import ExpectationFailed, Inconclusive, NotHealed, NotLanded
from pytest_serve_chaos.events import (
    Event,
    EvidenceSeen,
    FaultAsked,
    FaultLanded,
    MachineSeen,
    Phase,
    PhaseBegan,
    PostRecoveryChecking,
    Remark,
    Rescaled,
    TrafficBegan,
    of_kind,
)
from pytest_serve_chaos.faults import landing, settling
from pytest_serve_chaos.faults.fault import Strike, ended
from pytest_serve_chaos.faults.injection import Injection
from pytest_serve_chaos.model import UNFINISHED, Component, Evidence, Identity, Request, Role, Slowness, Topology
from pytest_serve_chaos.observe import health
from pytest_serve_chaos.observe.handles import HandleCheck
from pytest_serve_chaos.observe.post_recovery import PostRecoveryCheck
from tests.unit.rigs import cluster_with, rig_around

ASKED = 100.0
SLOW = 1.0
RATE = 10


def part(role: Role, node: str, number: int, deployment: str | None = None) -> Component:
    return Component(role, node, Identity("process", (role, str(number))), pid=number, deployment=deployment)


WORKER = part("worker", "worker-1", 1)
REPLICA = part("replica", "worker-1", 2, "app#Ranker")


@dataclass
class Gone:
    """A fault that landed: its victim, and the cluster, said so."""

    victims: tuple[Component, ...] = (WORKER,)
    sick: tuple[Component, ...] = ()
    kind: str = "worker_failure"
    options: Mapping[str, str | float] = field(default_factory=lambda: {"how": "kill"})
    text: str = "SIGKILL to worker-1"
    serves: bool = False
    sign_within: float = 0.0

    def strike(self) -> Strike:
        return Strike(ASKED, (Evidence(ASKED + 0.1, "victim", "its processes are gone"),))

    def sign(self, struck: float) -> Evidence | None:
        assert struck == ASKED + 0.1
        return Evidence(ASKED + 1.0, "cluster", "the GCS says DEAD")

    def heal(self) -> None:
        pass


class Watched:
    """A watcher that sees one topology after the other, and then always the last."""

    def __init__(self, topologies: Iterable[Sequence[Component]] = ((WORKER, REPLICA),)) -> None:
        self.topologies = [Topology(0.0, tuple(parts)) for parts in topologies]
        self.report = SimpleNamespace(at=ASKED + 50.0)
        self.newest = ASKED + 40.0
        self.newcomer = "worker-1"
        self.gone: frozenset[Identity] = frozenset()

    def sample(self) -> Topology:
        return self.topologies.pop(0) if len(self.topologies) > 1 else self.topologies[0]


def injected(
    fault: Gone | None = None,
    watcher: Watched | None = None,
    cluster: Cluster | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Injection:
    rig = rig_around(cluster, watcher or Watched(), progress=progress)
    rig.current.experiment = "it"
    rig.traffic.slowness = Slowness(SLOW, 0.02, 0.05, 0.2)
    injection = Injection(rig, fault or Gone())
    assert injection.landed
    return injection


def request(
    at: float, takes: float = 0.02, *, error: str | None = None, stream: str = "fresh", source: str = ""
) -> Request:
    due = ASKED + at
    return Request(round(at * 1000), stream, due, due, due + takes, 200, error, source=source)


def work(injection: Injection) -> None:
    """Others' work holds the cluster up since the fault."""
    for second in range(1, 30):
        at = ASKED + second
        busy = MachineSeen("", at=at, seconds=1.0, processors=2, ours=0.5, others=1.5, waiting=0.9, has_cluster=True)
        injection.rig.history.add(busy)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The moment, which only sleep moves on."""
    moment = [ASKED]

    def sleep(seconds: float) -> None:
        assert seconds >= 0.0
        moment[0] += seconds

    monkeypatch.setattr(clock, "now", lambda: moment[0])
    monkeypatch.setattr("time.sleep", sleep)
    return moment


@pytest.fixture
def traffic_back(monkeypatch: pytest.MonkeyPatch) -> TrafficBack:
    return TrafficBack(monkeypatch)


@dataclass
class TrafficBack:
    """Asks at a moment, in seconds from the fault, what is known of traffic."""

    monkeypatch: pytest.MonkeyPatch
    slowness: Slowness | None = None
    of_apps: Mapping[str, Slowness] = field(default_factory=dict)

    def __call__(
        self, now: float, requests: Iterable[Request], pending: Iterable[Request] = (), *, source: str = ""
    ) -> float | str:
        injection = injected()
        injection.rig.traffic.source = source
        injection.rig.traffic.slowness = self.slowness or injection.rig.traffic.slowness
        injection.rig.traffic.of_apps = self.of_apps
        self.monkeypatch.setattr(clock, "now", lambda: ASKED + now)
        for one in sorted(requests, key=lambda request: request.finished):
            injection.rig.history.add_request(one)
        for one in pending:
            injection.rig.history.open_request(one)
        back = injection.traffic_back_now()
        return back.seen if isinstance(back, NotYet) else back


def good(begin: float, end: float) -> list[Request]:
    return [request(begin + number / RATE) for number in range(round((end - begin) * RATE))]


def lost(begin: float, end: float, takes: float = 0.02) -> list[Request]:
    return [request(begin + number / RATE, takes, error="HTTP 503") for number in range(round((end - begin) * RATE))]


# -- traffic


def test_without_an_outage_traffic_is_back_at_once_when_a_good_second_has_shown_it(traffic_back: TrafficBack) -> None:
    assert traffic_back(1.0, good(-5, 0.9)) == "good answers for 0.8 s only"
    assert traffic_back(1.2, good(-5, 1.15)) == 0.0
    assert traffic_back(0.1, [*good(-5, 0.0), request(0.0)]) == "good answers for 0.0 s only"
    assert traffic_back(1.1, [*good(-5, 1.0), request(1.0)]) == 0.0


def test_traffic_is_back_at_the_end_of_the_last_outage(traffic_back: TrafficBack) -> None:
    known = [*good(-5, 0.5), *lost(0.5, 3.0)]
    assert traffic_back(3.0, known) == "requests are lost or late since 0.5 s after the fault"
    assert traffic_back(3.6, [*known, *good(3.0, 3.6)]) == "good answers for 0.5 s only"
    assert traffic_back(4.2, [*known, *good(3.0, 4.2)]) == pytest.approx(3.0)
    again = [*known, *good(3.0, 4.5), *lost(4.5, 5.0)]
    assert traffic_back(5.0, again) == "requests are lost or late since 4.5 s after the fault"
    assert traffic_back(6.5, [*again, *good(5.0, 6.5)]) == pytest.approx(5.0)
    assert traffic_back(3.5, [*known, request(3.0, takes=0.5)]) == "good answers for 0.0 s only"


def test_what_ended_long_before_the_fault_says_nothing(traffic_back: TrafficBack) -> None:
    assert traffic_back(2.0, [*lost(-30, -15), *good(-5, 2.0)]) == 0.0


def test_of_other_traffic_and_of_persistent_connections_nothing_is_asked(traffic_back: TrafficBack) -> None:
    others = [request(0.5, source="other"), request(0.5, stream="kept:0")]
    assert traffic_back(2.0, others) == "no requests"
    assert traffic_back(2.0, [*good(-5, 2.0), request(1.9, error="ReadError", stream="kept:0")]) == 0.0
    assert traffic_back(2.0, [*good(-5, 2.0), request(1.9, error="ReadError", source="other")]) == 0.0


def test_of_all_traffic_by_hand_the_first_alone_is_asked_about(traffic_back: TrafficBack) -> None:
    def of(number: int, requests: Iterable[Request]) -> list[Request]:
        return [replace(one, source=f"traffic-{number}") for one in requests]

    others = [*lost(0.5, 2.0), *of(1, lost(0.5, 2.0)), *of(3, lost(0.5, 2.0))]
    assert traffic_back(2.0, others, source="traffic-2") == "no requests"
    assert traffic_back(2.0, [*others, *of(2, good(-5, 2.0))], source="traffic-2") == 0.0


def test_traffic_that_ended_before_the_fault_is_none(traffic_back: TrafficBack) -> None:
    assert traffic_back(2.0, good(-5, -1)) == "no requests"
    hangs = request(-0.5, error=UNFINISHED)
    assert traffic_back(3.0, good(-5, -1), [hangs]) == "requests are in flight since the fault"


def test_a_request_in_flight_hides_what_came_after_it_until_it_has_waited_too_long(traffic_back: TrafficBack) -> None:
    waiting = request(0.5, error=UNFINISHED)
    first = request(0.0, error=UNFINISHED)
    assert traffic_back(0.9, good(-5, 0.0), [first]) == "requests are in flight since the fault"
    known = [*good(-5, 0.5), *good(0.6, 3.0)]
    assert traffic_back(1.4, known, [waiting]) == "good answers for 0.4 s only"
    assert traffic_back(1.5, known, [waiting]) == "good answers for 0.4 s only", "as long as it may wait"
    assert traffic_back(1.6, known, [waiting]) == pytest.approx(0.6), "it is away, and the others are back"
    assert traffic_back(3.0, good(-5, 0.5), [waiting]) == "requests are lost or late since 0.5 s after the fault"


@pytest.mark.parametrize(("uneven", "back"), [(False, False), (True, True)])
def test_a_gap_that_chance_makes_is_no_outage_live_either(uneven: bool, back: bool, traffic_back: TrafficBack) -> None:
    """No answer comes for 0.95 s, at 10 requests a second: longer than 7 spacings, less than 7 + ln n of them."""
    traffic_back.slowness = Slowness(1.0, 0.3, 0.6, 0.1, uneven=uneven)
    waits = [request(2.0 + k / RATE, takes=max(0.02, 0.95 - k / RATE)) for k in range(10)]
    assert (traffic_back(6.0, [*good(-5, 2.0), *waits, *good(3.0, 6.0)]) == 0.0) is back


def several_apps(**requests: Iterable[Request]) -> list[Request]:
    return [replace(one, app=app) for app, own in requests.items() for one in own]


def test_traffic_is_back_when_that_of_each_app_is(traffic_back: TrafficBack) -> None:
    """A slow app: of all together nobody waits too long before 5 s, which hides that the quick one has become slow."""
    traffic_back.slowness = Slowness(5.0, 0.02, 3.0, 0.2)
    traffic_back.of_apps = {"quick": Slowness(1.0, 0.02, 0.05, 0.2), "slow": Slowness(5.0, 3.0, 3.0, 0.2)}
    slow = [request(at / 2, takes=3.0) for at in range(-20, 12)]
    waits = [request(at, takes=2.0) for at in (0.5, 1.0, 1.5)]
    known = several_apps(quick=[*good(-5, 0.5), *waits, *good(2.0, 6.0)], slow=slow)
    assert traffic_back(9.0, known) == pytest.approx(2.0)
    assert traffic_back(9.0, several_apps(quick=good(-5, 6.0), slow=slow)) == 0.0
    assert traffic_back(9.0, several_apps(quick=good(-5, -1), slow=slow)) == "app quick: no requests"
    assert traffic_back(9.0, several_apps(quick=good(-5, -1), slow=slow[:10])) == "app quick: no requests"
    assert traffic_back(9.0, []) == "no requests"


def test_where_requests_are_far_apart_three_good_ones_end_an_outage(traffic_back: TrafficBack) -> None:
    """As afterwards: of every second request that is lost, at one a second, no good second tells."""
    before = [request(at) for at in (-4, -3, -2, -1, 0)]
    known = [*before, request(1, error="HTTP 503"), request(2), request(3)]
    assert traffic_back(3.5, known) == "good answers for 1.0 s only"
    assert traffic_back(5.5, [*known, request(4), request(5)]) == pytest.approx(2.0)


def test_without_traffic_nothing_can_come_back() -> None:
    injection = injected()
    for earlier in ([], good(-5, -1)):
        for one in earlier:
            injection.rig.history.add_request(one)
        with pytest.raises(Inconclusive, match="there is no traffic to come back"):
            injection.wait_traffic_back(0.0)


@pytest.mark.parametrize(
    "seen", ["good answers for 0.4 s only", "requests are in flight since the fault", "requests are lost or late"]
)
def test_traffic_that_is_not_back_in_time_fails(seen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    injection = injected()
    monkeypatch.setattr(injection, "traffic_back_now", lambda: NotYet(seen))
    with pytest.raises(ExpectationFailed, match=rf"traffic is not back: .*last seen: {seen}"):
        injection.wait_traffic_back(0.0)
    monkeypatch.setattr(injection, "traffic_back_now", lambda: 2.5)
    assert injection.wait_traffic_back() == 2.5


# -- redundancy


def test_redundancy_is_what_the_shape_lacks_and_the_sick_that_live_on(monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = Watched()
    monkeypatch.setattr(health, "lacks", lambda topology, *_: ["no proxy on head"] if topology.components else [])
    sick = injected(Gone(sick=(REPLICA,)), watcher)
    assert sick.missing() == [f"{REPLICA.name} (PID 2) is not replaced", "no proxy on head"]
    watcher.topologies = [Topology(0.0, ())]
    assert sick.missing() == []


@pytest.mark.parametrize(
    ("report", "newest", "missing"),
    [
        (ASKED - 1, 0.0, ["Ray and Serve have said nothing since the fault"]),
        (ASKED, 0.0, []),
        (ASKED + 2, ASKED + 3, ["Ray and Serve have said nothing since worker-1 came"]),
        (ASKED + 3, ASKED + 3, []),
    ],
)
def test_a_report_must_be_newer_than_the_fault_and_than_all_that_came(
    monkeypatch: pytest.MonkeyPatch, report: float, newest: float, missing: list[str]
) -> None:
    watcher = Watched()
    watcher.report.at, watcher.newest = report, newest
    monkeypatch.setattr(health, "lacks", lambda *_: [])
    assert injected(watcher=watcher).missing() == missing


def test_redundancy_that_is_back_is_an_event_with_its_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    injection = injected()
    monkeypatch.setattr(injection, "missing", list)
    monkeypatch.setattr(clock, "now", lambda: ASKED + 7.5)
    assert injection.wait_redundancy_back() == 7.5
    assert injection.rig.history.events[-1].text == "redundancy is back 7.5 s after the fault"
    monkeypatch.setattr(injection, "missing", lambda: ["no proxy on head", "2 of 3 nodes"])
    with pytest.raises(ExpectationFailed, match="no proxy on head; 2 of 3 nodes"):
        injection.wait_redundancy_back(0.0)
    assert injection.rig.history.events[-1].kind == "redundancy_missing"


def test_somebody_who_waits_is_told_how_long_ago_the_fault_was(
    monkeypatch: pytest.MonkeyPatch, now: list[float]
) -> None:
    monkeypatch.setattr(progress, "REPORT_EVERY", 0.0)
    said: list[str] = []
    injection = injected(progress=said.append)
    monkeypatch.setattr(injection, "missing", lambda: ["no proxy on head"])
    now[0] = ASKED + 7.0
    with pytest.raises(ExpectationFailed):
        injection.wait_redundancy_back("1s")
    waited = [line for line in said if not line.startswith(("inject: ", "no prediction: "))]
    assert waited[0] == "redundancy is not back 7 s after the fault: no proxy on head"


# -- a machine on which others work


@pytest.mark.parametrize("wait", ["traffic", "redundancy", "rest"])
def test_what_does_not_come_in_time_while_others_work_shows_nothing(
    wait: str, monkeypatch: pytest.MonkeyPatch, now: list[float]
) -> None:
    injection = injected()
    work(injection)
    monkeypatch.setattr(injection, "traffic_back_now", lambda: NotYet("requests are lost"))
    monkeypatch.setattr(injection, "missing", lambda: ["no proxy on head"])
    restless = (Topology(0.0, (part("worker", "worker-1", number),)) for number in range(1000))
    monkeypatch.setattr(injection.rig.watcher, "sample", lambda: next(restless))
    with pytest.raises(Inconclusive, match=r"other processes used 1.5 of 2 processors .* and not the cluster"):
        WAITS[wait](injection)


def test_a_start_that_ray_gave_up_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    link = SimpleNamespace(failed_starts=lambda since: ("`ray start` gave worker-1 up",) if since == ASKED else ())
    injection = injected(cluster=cluster_with(SHOWS_FAILED_STARTS.by(link)))
    monkeypatch.setattr(injection, "missing", lambda: ["2 of 3 nodes"])
    with pytest.raises(ExpectationFailed, match=r"2 of 3 nodes.*; `ray start` gave worker-1 up"):
        injection.wait_redundancy_back(0.0)
    assert [e.text for e in of_kind(Remark, injection.rig.history.events)] == ["`ray start` gave worker-1 up"]


# -- how long a wait is

WAITS: dict[str, Callable[[Injection], float]] = {
    "traffic": Injection.wait_traffic_back,
    "redundancy": Injection.wait_redundancy_back,
    "rest": Injection.wait_at_rest,
}


@pytest.mark.parametrize(("wait", "lasts"), [("traffic", 30), ("redundancy", 120), ("rest", 60)])
def test_a_wait_lasts_as_long_as_the_reference_says(
    wait: str, lasts: int, monkeypatch: pytest.MonkeyPatch, now: list[float]
) -> None:
    injection = injected()
    monkeypatch.setattr(injection, "traffic_back_now", lambda: NotYet("requests are lost"))
    monkeypatch.setattr(injection, "missing", lambda: ["no proxy on head"])
    restless = (Topology(0.0, (part("worker", "worker-1", number),)) for number in range(1000))
    monkeypatch.setattr(injection.rig.watcher, "sample", lambda: next(restless))
    with pytest.raises(ExpectationFailed, match=f"waited {lasts} s for"):
        WAITS[wait](injection)
    assert now == [ASKED + lasts]


@pytest.mark.parametrize("wait", ["traffic", "redundancy"])
def test_what_is_back_is_seen_within_a_second(wait: str, monkeypatch: pytest.MonkeyPatch, now: list[float]) -> None:
    injection = injected()
    monkeypatch.setattr(injection, "traffic_back_now", lambda: 0.0 if now[0] > ASKED else NotYet("requests are lost"))
    monkeypatch.setattr(injection, "missing", lambda: [] if now[0] > ASKED else ["no proxy on head"])
    WAITS[wait](injection)
    assert ASKED < now[0] < ASKED + 1.0


# -- rest


def test_rest_is_when_nothing_has_come_or_gone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([100.0, 100.0, 101.0, 103.0, 105.0, 106.9, 107.0])
    now = [100.0]

    def sample_at(seconds: float) -> None:
        now[0] = next(moments, now[0])

    injection = injected(watcher=Watched([(WORKER, REPLICA), (WORKER, REPLICA), (WORKER,), (WORKER,)]))
    monkeypatch.setattr(clock, "now", lambda: now[0])
    monkeypatch.setattr("time.sleep", sample_at)
    assert injection.wait_at_rest(60.0) == pytest.approx(0.0)
    assert now[0] >= 104.0


def test_a_cluster_that_never_rests_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    injection = injected(watcher=Watched([(WORKER, REPLICA), (WORKER, REPLICA), (WORKER,)]))
    with pytest.raises(ExpectationFailed, match=r"something changed \d"):
        injection.wait_at_rest(0.0)


# -- successors


@pytest.mark.usefixtures("now")
def test_a_successor_is_a_new_one_in_the_victims_place() -> None:
    another = part("replica", "worker-2", 7, "app#Ranker")
    elsewhere = part("worker", "worker-2", 8)
    of_another_app = part("replica", "worker-1", 9, "app#Other")
    for victim, came, missing in (
        (REPLICA, another, False),
        (REPLICA, of_another_app, True),
        (WORKER, elsewhere, True),
        (WORKER, part("worker", "worker-1", 10), False),
        (PROXY, part("proxy", "worker-1", 11), True),
        (PROXY, part("proxy", "head", 12), False),
    ):
        watcher = Watched([(WORKER, REPLICA), (WORKER, REPLICA, came)])
        assert injected(Gone(victims=(victim,)), watcher).still_missing_after("1s") is missing


def test_a_successor_is_looked_for_until_the_end(monkeypatch: pytest.MonkeyPatch, now: list[float]) -> None:
    successor = part("replica", "worker-1", 7, "app#Ranker")
    injection = injected(Gone(victims=(REPLICA,)))
    came = ASKED + 0.5
    monkeypatch.setattr(injection.rig.watcher, "sample", lambda: Topology(0.0, (successor,) if now[0] >= came else ()))
    assert injection.still_missing_after("250ms")
    now[0] = ASKED
    assert not injection.still_missing_after("500ms")
    assert now == [came]


def test_a_controller_has_its_successor_on_any_node() -> None:
    before, after = part("controller", "head", 1), part("controller", "worker-1", 2)
    assert not injected(Gone(victims=(before,)), Watched([(before,), (after,)])).still_missing_after("300ms")


@pytest.mark.usefixtures("now")
def test_who_was_there_before_succeeds_nobody() -> None:
    sibling = part("replica", "worker-1", 5, "app#Ranker")
    watcher = Watched([(REPLICA, sibling), (sibling,)])
    assert injected(Gone(victims=(REPLICA,)), watcher).still_missing_after("1s")


@pytest.mark.usefixtures("now")
@pytest.mark.parametrize(("came", "missing"), [(1, True), (2, False)])
def test_a_replica_that_comes_because_serve_scales_up_succeeds_nobody(came: int, missing: bool) -> None:
    new = tuple(part("replica", "worker-1", 7 + n, "app#Ranker") for n in range(came))
    injection = injected(Gone(victims=(REPLICA,)), Watched([(REPLICA,), new]))
    injection.rig.log.add(Rescaled("one more", at=injection.before.at, what="app#Ranker", before=1, now=2))
    assert injection.still_missing_after("1s") is missing


def test_of_nobody_there_is_no_successor() -> None:
    with pytest.raises(Inconclusive, match="it is unknown what the fault hit"):
        injected(Gone(victims=())).still_missing_after("1s")


# -- the moment


def test_a_victim_has_ended_with_its_last_own_sign() -> None:
    signs = [Evidence(1.0, "victim", "stopped"), Evidence(3.0, "victim", "gone"), Evidence(9.0, "cluster", "DEAD")]
    assert ended(signs) == 3.0
    assert ended(signs[2:]) is None


# -- the post-recovery checks

PROXY = part("proxy", "head", 3)


@dataclass
class Checks:
    """Runs the checks of an injection with results that a test gives, 30 s after the fault."""

    monkeypatch: pytest.MonkeyPatch

    def proxies(self, result: PostRecoveryCheck, *, busy: bool = False) -> Injection:
        """An injection whose check of proxies comes to that."""
        injection = injected()
        self.monkeypatch.setattr(health, "proxy_nodes", lambda *_: frozenset({"head"}))
        self.monkeypatch.setattr(settling, "settle", lambda *_, **__: result)
        if busy:
            work(injection)
        self.monkeypatch.setattr(clock, "now", lambda: ASKED + 30.0)
        return injection

    def handles(self, result: HandleCheck) -> tuple[Injection, list[frozenset[str]]]:
        """An injection whose check of handles comes to that, and the deployments that it is asked about."""
        asked: list[frozenset[str]] = []

        def check(*_: object, answering: frozenset[str], **__: object) -> HandleCheck:
            asked.append(answering)
            return result

        injection = injected()
        self.monkeypatch.setattr(settling, "check_handles", check)
        self.monkeypatch.setattr(clock, "now", lambda: ASKED + 30.0)
        return injection, asked


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Checks:
    return Checks(monkeypatch)


def last_events(injection: Injection, after: str = "landed") -> list[tuple[str, str]]:
    """Kind and text of what was written since then."""
    events = [(e.kind, e.text) for e in injection.rig.history.events if not isinstance(e, MachineSeen)]
    return events[next(n for n, (kind, _) in enumerate(events) if kind == after) + 1 :]


def test_a_check_that_is_passed_is_an_event_with_its_seconds(checks: Checks) -> None:
    injection = checks.proxies(PostRecoveryCheck(asked=3, seconds=1.2))
    assert injection.wait_settled() == 30.0
    text = "a new route was served by all 3 proxies within 1.2 s"
    assert last_events(injection) == [
        ("checking", "the post-recovery check of proxies begins"),
        ("checking", "the post-recovery check of proxies ends"),
        ("settled", text),
    ]
    begins, ends = of_kind(PostRecoveryChecking, injection.rig.history.events)
    assert (begins.begins, begins.replaces, ends.begins) == (True, False, False)
    assert not injection.rig.soundness.tainted


def test_a_stale_proxy_fails_whatever_the_machine_did_and_taints_the_cluster(checks: Checks) -> None:
    stale = PostRecoveryCheck(stale=(PROXY,), asked=3, problem="no proxy on worker-2", unknown="who knows")
    injection = checks.proxies(stale, busy=True)
    with pytest.raises(ExpectationFailed, match="1 of 3 proxies do not hear the controller"):
        injection.wait_settled()
    kinds = [kind for kind, _ in last_events(injection)]
    assert kinds == ["checking", "checking", "proxy_deaf", "unsettled"]
    assert injection.rig.soundness.tainted


@pytest.mark.parametrize(
    ("result", "busy", "error", "kind", "tainted"),
    [
        (PostRecoveryCheck(unknown="no names"), False, Inconclusive, "note", False),
        (PostRecoveryCheck(problem="no answer"), True, Inconclusive, "untold", True),
        (PostRecoveryCheck(problem="no answer"), False, ExpectationFailed, "unsettled", True),
        (PostRecoveryCheck(problem="stale servers", unknown="no names"), False, ExpectationFailed, "unsettled", True),
    ],
    ids=["unknown", "busy", "problem", "problem and unknown"],
)
def test_what_a_check_of_proxies_that_is_not_passed_says(
    checks: Checks, result: PostRecoveryCheck, busy: bool, error: type[Exception], kind: str, tainted: bool
) -> None:
    injection = checks.proxies(result, busy=busy)
    with pytest.raises(error, match=result.text):
        injection.wait_settled()
    assert last_events(injection)[-1][0] == kind
    assert bool(injection.rig.soundness.tainted) is tainted


def test_the_check_of_handles_knows_who_answered_well(checks: Checks) -> None:
    injection, asked = checks.handles(HandleCheck(children=("app#Child",)))
    for replica, error in (("app#Parent#1", None), ("app#Wrong#1", "HTTP 500")):
        injection.rig.history.add_request(replace(request(0.1, error=error), replica=replica))
    assert injection.wait_children_reached() == 30.0
    assert asked == [frozenset({"app#Parent"})]
    assert last_events(injection)[-1] == ("settled", "every parent reached the new replica of app#Child")
    begins = of_kind(PostRecoveryChecking, injection.rig.history.events)[0]
    assert begins.replaces is True


@pytest.mark.parametrize(
    ("result", "kind", "error", "tainted"),
    [
        (HandleCheck(not_called=("app#Child",)), "note", None, False),
        (HandleCheck(), "checking", None, False),
        (HandleCheck(unknown="no log"), "checking", Inconclusive, False),
        (
            HandleCheck(children=("app#Child",), stale=(REPLICA,), unknown="no log"),
            "unsettled",
            ExpectationFailed,
            True,
        ),
        (HandleCheck(problem="no successor", unknown="no log"), "unsettled", ExpectationFailed, True),
    ],
    ids=["not called", "no handles", "unknown", "stale", "problem"],
)
def test_what_a_check_of_handles_says(
    checks: Checks, result: HandleCheck, kind: str, error: type[Exception] | None, tainted: bool
) -> None:
    injection, _ = checks.handles(result)
    if error is None:
        injection.wait_children_reached()
    else:
        with pytest.raises(error):
            injection.wait_children_reached()
    assert last_events(injection)[-1][0] == kind
    assert bool(injection.rig.soundness.tainted) is tainted


@pytest.mark.parametrize(("timeout", "lasts"), [((), 60), (("90s",), 90)], ids=["usual", "longer"])
def test_healing_may_take_so_long_once_it_is_time(
    timeout: tuple[str, ...], lasts: int, monkeypatch: pytest.MonkeyPatch, now: list[float]
) -> None:
    monkeypatch.setattr("threading.Timer", lambda *_: SimpleNamespace(start=lambda: None))
    injection = Injection(injected().rig, Gone(), hold_for=20.0)
    with pytest.raises(NotHealed):
        injection.wait_healed(*timeout)
    assert now == [ASKED + 20.0 + lasts]


# -- injecting


def test_a_hold_ends_that_long_after_the_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    class Timer:
        daemon = False

        def __init__(self, seconds: float, _: object) -> None:
            waits.append(seconds)

        def start(self) -> None:
            assert self.daemon, "it must not keep the process alive"

    monkeypatch.setattr("threading.Timer", Timer)
    for now in (ASKED + 4.0, ASKED + 60.0):
        monkeypatch.setattr(clock, "now", lambda now=now: now)
        there = injected().rig
        Injection(there, Gone(), hold_for=20.0)
    assert waits == [16.0, 0.0]


def test_each_injection_of_a_rig_has_a_number_and_all_of_an_experiment_one_topology_before() -> None:
    first = injected()
    second = Injection(first.rig, Gone())
    assert (first.number, second.number) == (1, 2)
    asked = of_kind(FaultAsked, first.rig.history.events)
    assert [(event.fault, event.injection, event.must_land) for event in asked] == [
        ("worker_failure", 1, True),
        ("worker_failure", 2, True),
    ]
    assert [event.text for event in first.rig.history.events if event.kind == "topology"] == ["before"]


@pytest.mark.parametrize("event", [PhaseBegan.of(Phase.INJECT), TrafficBegan("traffic begins")])
def test_nothing_else_that_was_written_stands_for_the_topology_before(event: Event) -> None:
    rig = injected().rig
    rig.current.experiment = "another"
    rig.log.add(event)
    Injection(rig, Gone())
    assert [event.text for event in rig.history.of("another") if event.kind == "topology"] == ["before"]


def test_what_landed_is_told_by_the_first_and_the_last_sign() -> None:
    class SlowlyGone(Gone):
        def strike(self) -> Strike:
            signs = [Evidence(ASKED + at, "victim", text) for at, text in ((0.1, "stopped"), (5.0, "gone"))]
            return Strike(ASKED, signs, hit=ASKED + 5.0)

    injection = injected(SlowlyGone())
    (landed,) = of_kind(FaultLanded, injection.rig.history.events)
    assert landed.text == "landed: stopped; the GCS says DEAD"
    assert (landed.at, landed.victims, landed.served) == (ASKED + 0.1, (WORKER.identity,), None)
    (hit,) = (event for event in injection.rig.history.events if event.kind == "hit")
    assert (hit.at, hit.text) == (ASKED + 5.0, "ended: SIGKILL to worker-1")
    assert [e.side for e in of_kind(EvidenceSeen, injection.rig.history.events)] == [
        "victim",
        "victim",
        "cluster",
    ]


def test_without_a_sign_of_the_victims_side_nothing_has_landed() -> None:
    class Silent(Gone):
        def strike(self) -> Strike:
            return Strike(ASKED, (Evidence(ASKED + 0.1, "cluster", "the GCS says DEAD"),))

    rig = injected().rig
    injection = Injection(rig, Silent(), must_land=False)
    assert not injection.landed
    assert rig.history.events[-1].text == "the fault is not proved: there is no sign of it from the victim's side"


def test_without_a_sign_in_the_cluster_nothing_has_landed() -> None:
    class Unseen(Gone):
        def sign(self, _: float) -> None:
            return None

    rig = injected().rig
    with pytest.raises(NotLanded) as error:
        Injection(rig, Unseen())
    assert error.value.checked == ("its processes are gone",)
    injection = Injection(rig, Unseen(), must_land=False)
    assert (injection.landed, len(injection.evidence)) == (False, 1)
    assert rig.history.events[-1].text == (
        "the fault is not proved: waited 0 s for a sign of the fault in the cluster; last seen: no sign yet"
    )


def test_the_clusters_sign_is_awaited_and_seen_soon(now: list[float]) -> None:
    class SeenLate(Gone):
        def sign(self, struck: float) -> Evidence | None:
            return super().sign(struck) if now[0] > ASKED else None

    assert injected(SeenLate(sign_within=5.0)).landed_at == ASKED + 0.1
    assert ASKED < now[0] < ASKED + 1.0


def test_how_many_answered_before_is_on_record_and_whether_those_were_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = injected().rig
    monkeypatch.setattr(landing, "answers_of", lambda _, victims, *, since: len(victims) + 40)
    for probed, remarks in (
        (False, []),
        (True, ["only probes on persistent connections are known to have reached proxy on head"]),
    ):
        monkeypatch.setattr(landing, "only_probed", lambda *_, since, probed=probed: probed)
        Injection(rig, Gone(victims=(WORKER, PROXY), serves=True))
        assert of_kind(FaultLanded, rig.history.events)[-1].served == 42
        assert [event.text for event in of_kind(Remark, rig.history.events)] == remarks


@pytest.mark.parametrize(
    "after", [(WORKER,), (WORKER, REPLICA, PROXY), (WORKER, PROXY)], ids=["gone", "come", "gone and come"]
)
def test_a_change_late_in_a_quiet_time_starts_it_again(
    after: tuple[Component, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [ASKED]
    monkeypatch.setattr(clock, "now", lambda: now[0])
    monkeypatch.setattr("time.sleep", lambda _: now.__setitem__(0, now[0] + 3.0))
    everyone = (WORKER, REPLICA)
    injection = injected(watcher=Watched([everyone, everyone, everyone, after, after, after]))
    assert injection.wait_at_rest(60.0) == 3.0
    assert now[0] == ASKED + 9.0


def test_four_seconds_without_a_change_are_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [ASKED]
    monkeypatch.setattr(clock, "now", lambda: now[0])
    monkeypatch.setattr("time.sleep", lambda _: now.__setitem__(0, now[0] + 2.0))
    assert injected().wait_at_rest(60.0) == 0.0
    assert now[0] == ASKED + 4.0


# -- who changed


def test_who_was_kept_and_who_replaced_is_asked_of_each_selector_and_place() -> None:
    sibling, successor = part("replica", "worker-2", 3, "app#Ranker"), part("replica", "worker-1", 4, "app#Ranker")
    watcher = Watched([(WORKER, REPLICA, sibling)])
    injection = injected(Gone(victims=(REPLICA,)), watcher)
    watcher.topologies = [Topology(0.0, (WORKER, successor, sibling))]
    assert injection.replaced("replicas", on="worker-1")
    assert injection.replaced("replicas", on="victims")
    assert not injection.replaced("replicas")
    assert not injection.replaced("replica@worker-1", "replica@worker-2")
    assert injection.kept("replicas", on="worker-2")
    assert injection.kept("workers", "replica@others")
    assert not injection.kept("replicas")
    assert not injection.kept("workers", "replicas")
    watcher.gone = frozenset({sibling.identity})
    assert not injection.kept("replicas", on="worker-2")


def test_of_nobody_nothing_is_compared() -> None:
    for question in (injected().kept, injected().replaced):
        with pytest.raises(Inconclusive, match=r"there was no proxy before the fault; .*nothing to compare"):
            question("workers", "proxies")
        with pytest.raises(Inconclusive, match=r"there was no replica@head before the fault"):
            question("replicas", on="head")


def test_of_no_selector_nothing_is_compared() -> None:
    for question in (injected().kept, injected().replaced):
        with pytest.raises(Inconclusive, match="no selector"):
            question()
