"""What must be true before anything is broken, rule by rule."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.base import Cluster
from pytest_serve_chaos.cluster.capabilities import IS_EXTERNAL, IsExternal
from pytest_serve_chaos.cluster.rest import ReplicaRow, ServeStatus
from pytest_serve_chaos.errors import WaitTimeout
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import UNFINISHED, Component, Identity, Json, Request, Role, Topology
from pytest_serve_chaos.observe import health
from pytest_serve_chaos.observe.observer import Report
from pytest_serve_chaos.steady import Sent, steady_within, wait_steady
from tests.unit.rigs import cluster_with, rig_around

RATE = 10.0
SENT = Sent("", RATE, timeout=5.0, kept=True)
BEGUN, NOW = 100.0, 106.0
USUAL = 0.02


def part(role: Role, node: str, number: int, deployment: str | None = None) -> Component:
    name = None if deployment is None else f"{deployment}#{number}"
    return Component(
        role, node, Identity("process", (role, str(number))), pid=number, deployment=deployment, replica=name
    )


PROXIES = (part("proxy", "head", 1), part("proxy", "worker-1", 2))
REPLICAS = (part("replica", "worker-1", 1, "app#Ranker"), part("replica", "worker-2", 2, "app#Ranker"))
NAMES = tuple(str(c.replica) for c in REPLICAS)


@dataclass
class Watched:
    topology: Topology
    report: Report = field(default_factory=Report)
    dead: tuple[str, ...] = ()

    def sample(self) -> Topology:
        return self.topology


class Ask(Protocol):
    def __call__(
        self,
        requests: Sequence[Request],
        *,
        pending: Sequence[Request] = (),
        sent: Sent = SENT,
        parts: Sequence[Component] = (*PROXIES, *REPLICAS),
        cluster: Cluster | None = None,
        lacking: Sequence[str] = (),
        too_many: Sequence[str] = (),
        now: float = NOW,
        report: Report | None = None,
    ) -> tuple[Request, ...]: ...


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Asks once, at `NOW`, whether traffic that began at `BEGUN` is steady."""

    def asked(
        requests: Sequence[Request],
        *,
        pending: Sequence[Request] = (),
        sent: Sent = SENT,
        parts: Sequence[Component] = (*PROXIES, *REPLICAS),
        cluster: Cluster | None = None,
        lacking: Sequence[str] = (),
        too_many: Sequence[str] = (),
        now: float = NOW,
        report: Report | None = None,
    ) -> tuple[Request, ...]:
        times = itertools.chain([BEGUN], itertools.repeat(now))
        history = History()
        monkeypatch.setattr(clock, "now", lambda: next(times))
        monkeypatch.setattr(health, "lacks", lambda *_: [*lacking])
        monkeypatch.setattr(health, "surplus", lambda *_: [*too_many])
        rig = rig_around(cluster, Watched(Topology(now, tuple(parts)), report or Report()), history=history)
        for request in sorted(requests, key=lambda request: request.finished):
            history.add_request(request)
        for request in pending:
            history.open_request(request)
        found = wait_steady(rig, sent, timeout=0.0)
        assert rig.traffic.steady_since == BEGUN
        return found

    return asked


def request(
    at: float, takes: float = USUAL, *, error: str | None = None, stream: str = "fresh", path: str = "proxies",
    replica: str | None = NAMES[0], source: str = "",
) -> Request:  # fmt: skip
    """One that is due that many seconds after the traffic began."""
    due = BEGUN + at
    return Request(round(at * 1000), stream, due, due, due + takes, 200, error, replica, path=path, source=source)


def sound(*, until: float = NOW - BEGUN, takes: Callable[[float], float] = lambda _: USUAL) -> list[Request]:
    """Ten good answers a second from both replicas, and one from each proxy on its persistent connection."""
    moments = [number / RATE for number in range(int(until * RATE))]
    fresh = [request(at, takes(at), replica=NAMES[number % 2]) for number, at in enumerate(moments)]
    kept = [request(0.5, stream=f"kept:{n}", path=proxy.name) for n, proxy in enumerate(PROXIES)]
    return [*fresh, *kept]


def trouble(ask: Ask, *args: Any, **keywords: Any) -> tuple[str, str]:
    """What is not steady, and the advice."""
    with pytest.raises(WaitTimeout) as caught:
        ask(*args, **keywords)
    (advice,) = caught.value.fix
    return caught.value.last_seen, advice


def test_steady_are_the_requests_of_the_last_seconds_on_fresh_connections(ask: Ask) -> None:
    found = ask(sound())
    assert [r.scheduled - BEGUN for r in found] == pytest.approx([2 + n / 10 for n in range(40)])


@pytest.mark.parametrize(
    ("rate", "span", "answers"),
    [(0.4, 10.0, 3), (0.5, 8.0, 3), (1.0, 4.0, 3), (2.0, 4.0, 6), (10.0, 4.0, 30), (400.0, 4.0, 1200)],
)
def test_with_few_requests_it_takes_longer_to_have_some(rate: float, span: float, answers: int) -> None:
    sent = Sent("", rate, timeout=5.0, kept=True)
    assert (sent.span, sent.answers) == (span, answers)


def test_a_sound_app_gets_the_time_that_its_timeout_its_rate_and_its_replicas_take() -> None:
    assert steady_within(SENT, 0, least=60.0) == 69.0
    assert steady_within(SENT, 1, least=60.0) == 69.5
    assert steady_within(SENT, 6, least=60.0) == pytest.approx(69.0 + 6 * (1.791759 + 5) / 10)
    assert steady_within(Sent("", 1.0, 30.0, kept=True), 0, least=1.0) == 35.0


# -- the cluster


def test_what_is_missing_or_too_much_is_named_before_the_traffic_is_looked_at(ask: Ask) -> None:
    seen, advice = trouble(ask, [], lacking=["worker-2 is not ALIVE"], too_many=["7 of 6 replicas"])
    assert seen == "worker-2 is not ALIVE; 7 of 6 replicas"
    assert advice.startswith("nothing was broken: see why the cluster is not whole")


# -- lost, hanging, too few


def test_a_request_that_was_lost_in_the_last_seconds(ask: Ask) -> None:
    lost = [request(4.05, error="HTTP 500"), request(4.1, error="ReadTimeout")]
    seen, advice = trouble(ask, [*sound(), *lost])
    assert seen == "2 of 42 requests lost in the last seconds, the last with ReadTimeout"
    assert "`--serve-chaos-path`, `-method`, `-headers`, `-body` and `-requests` say what is sent" in advice


def test_a_loss_counts_from_when_it_was_seen(ask: Ask) -> None:
    assert ask([*sound(), request(0.1, 1.8, error="ReadTimeout")]), "before the last seconds"
    seen, _ = trouble(ask, [*sound(), request(0.1, 2.0, error="ReadTimeout")])
    assert seen.startswith("1 of 41 requests lost")


def test_a_loss_on_a_persistent_connection_counts_too(ask: Ask) -> None:
    seen, _ = trouble(ask, [*sound(), request(5.0, error="ReadError", stream="kept:0", path=PROXIES[0].name)])
    assert seen.endswith("the last with ReadError")


def test_what_another_traffic_sent_is_not_looked_at(ask: Ask) -> None:
    other = [request(5.0, error="HTTP 500", source="other"), *(request(at / 10, source="other") for at in range(60))]
    assert len(ask([*sound(), *other])) == 40
    seen, _ = trouble(ask, other)
    assert seen.startswith("0 of 30 good answers")
    mine = Sent("m", RATE, timeout=5.0, kept=True)
    others = [request(5.0, error="HTTP 500", source=source) for source in ("a", "z")]
    assert ask([*(replace(r, source="m") for r in sound()), *others], sent=mine)


def hangs_since(at: float) -> Request:
    return request(at, error=UNFINISHED)


@pytest.mark.parametrize(
    ("since", "usual", "hangs"),
    [(4.95, USUAL, True), (5.0, USUAL, False), (4.5, 0.5, False), (4.4, 0.5, True), (5.9, USUAL, False)],
)
def test_a_request_hangs_that_takes_three_times_as_long_as_others_and_a_second(
    ask: Ask, since: float, usual: float, hangs: bool
) -> None:
    def asked() -> tuple[Request, ...]:
        answered = sound(until=5.5, takes=lambda _: usual)
        return ask(answered, pending=[hangs_since(since), hangs_since(5.8)])

    if not hangs:
        assert asked()
        return
    with pytest.raises(WaitTimeout) as caught:
        asked()
    others = f"others are answered within {usual:.2f} s"
    assert caught.value.last_seen == f"1 requests hang, the oldest for {NOW - BEGUN - since:.1f} s; {others}"
    assert caught.value.fix == ("the app does not answer some of its requests: see its logs",)


def test_requests_must_have_had_the_time_in_which_those_that_hang_are_seen(ask: Ask) -> None:
    answered = [r for r in sound(until=5.0, takes=lambda _: 0.9) if r.kept or r.scheduled >= BEGUN + 1.0]
    seen, advice = trouble(ask, answered)
    assert seen == "only 23 requests have had 2.7 s to be answered; 30 must have, to see whether some hang"
    assert "take longer and longer" in advice
    assert ask(sound(until=5.0, takes=lambda _: 0.9))


def test_where_nothing_was_answered_nothing_hangs_longer_than_others(ask: Ask) -> None:
    seen, _ = trouble(ask, [], pending=[hangs_since(0.5)])
    assert seen == "0 of 30 good answers in the last 4.0 s, 1 requests in flight"


def test_too_few_answers(ask: Ask) -> None:
    enough = [r for r in sound(until=5.0) if r.scheduled >= BEGUN + 1.95 or r.kept]
    assert ask(enough)
    few = [r for r in enough if r.scheduled >= BEGUN + 2.05 or r.kept]
    seen, advice = trouble(ask, few, pending=[hangs_since(5.5), hangs_since(5.6)])
    assert seen == "29 of 30 good answers in the last 4.0 s, 2 requests in flight"
    assert advice.startswith("the app answers fewer than 10 requests a second: lower --serve-chaos-rate")


# -- slow answers


@pytest.mark.parametrize(("rate", "takes"), [(2.0, 1.5), (2.0, 4.9), (1.0, 3.0), (0.5, 4.5), (0.2, 20.0), (10.0, 25.0)])
def test_answers_may_take_any_time_below_the_timeout(ask: Ask, rate: float, takes: float) -> None:
    sent = Sent("", rate, timeout=30.0, kept=True)
    lasted = min(3 * takes, sent.timeout) + sent.span + 2 / rate

    def at(age: float) -> float:
        """Seconds after the traffic began of what was sent so long ago."""
        return lasted + 1 - age

    ages = [number / rate for number in range(int(lasted * rate) + 1)]
    good = [request(at(age), takes, replica=NAMES[n % 2]) for n, age in enumerate(ages) if age >= takes]
    good += [request(at(takes), takes, stream=f"kept:{n}", path=proxy.name) for n, proxy in enumerate(PROXIES)]
    pending = [request(at(age), error=UNFINISHED) for age in ages if age < takes]
    assert len(ask(good, pending=pending, sent=sent, now=BEGUN + lasted + 1)) >= sent.answers


# -- latency


@pytest.mark.parametrize(
    ("before", "latest", "stable"),
    [(0.002, 0.049, True), (0.002, 0.051, False), (0.1, 0.39, True), (0.1, 0.41, False)],
)
def test_a_latency_that_rises(ask: Ask, before: float, latest: float, stable: bool) -> None:
    requests = [
        r for r in sound(takes=lambda at: latest if at > 4.95 else before) if r.finished <= NOW and r.finished > BEGUN
    ]
    if stable:
        assert ask(requests)
        return
    seen, advice = trouble(ask, requests)
    assert seen == f"the latency is not stable: p95 {latest:.2f} s in the last second, {before:.2f} s before"
    assert advice.startswith("the app may not keep up with 10 requests a second")


def test_the_last_second_is_that_before_the_newest_answer(ask: Ask) -> None:
    requests = sound(until=5.5, takes=lambda at: 0.2 if at > 4.45 else USUAL)
    seen, _ = trouble(ask, requests)
    assert seen == "the latency is not stable: p95 0.20 s in the last second, 0.02 s before"


def test_spans_with_a_few_answers_are_not_compared(ask: Ask) -> None:
    seldom = Sent("", 1.0, timeout=5.0, kept=True)
    slower = [request(at, 0.9 if at > 5 else USUAL, replica=NAMES[at % 2]) for at in range(6)]
    kept = [r for r in sound() if r.kept]
    assert ask([*slower, *kept], sent=seldom)
    crowd = [request(2.5 + n / 20, replica=NAMES[n % 2]) for n in range(8)]
    assert ask([*crowd, *(request(5.0 + n / 20, 0.5) for n in range(3)), *kept], sent=seldom)
    assert trouble(ask, [*crowd, *(request(5.0 + n / 20, 0.5) for n in range(4)), *kept], sent=seldom)
    assert trouble(
        ask, [*crowd[:4], *(request(5.0 + n / 20, 0.5, replica=NAMES[1]) for n in range(4)), *kept], sent=seldom
    )
    assert ask([*crowd[:3], *(request(5.0 + n / 20, 0.5, replica=NAMES[1]) for n in range(4)), *kept], sent=seldom)


# -- who was reached


def test_a_proxy_that_was_not_reached(ask: Ask) -> None:
    requests = [r for r in sound() if r.path != PROXIES[1].name]
    seen, advice = trouble(ask, requests)
    assert seen == f"traffic has not reached {PROXIES[1].name}"
    assert "--serve-chaos-persistent-rate=0" in advice
    assert ask(requests, sent=Sent("", RATE, 5.0, kept=False)), "without persistent connections nobody looks"


def test_a_proxy_whose_only_answer_was_bad_was_not_reached(ask: Ask) -> None:
    bad = request(0.5, error="HTTP 503", stream="kept:1", path=PROXIES[1].name)
    seen, _ = trouble(ask, [*(r for r in sound() if r.path != PROXIES[1].name), bad])
    assert seen == f"traffic has not reached {PROXIES[1].name}"


def test_a_replica_that_answered_nothing(ask: Ask) -> None:
    third = part("replica", "worker-2", 3, "app#Ranker")
    seen, advice = trouble(ask, sound(), parts=(*PROXIES, *REPLICAS, third))
    assert seen == f"1 replicas have not answered: {third.name}"
    assert advice.startswith("send more than 10 requests a second")
    assert ask([*sound(), request(0.2, replica=third.replica)], parts=(*PROXIES, *REPLICAS, third)), "once is enough"


def test_a_proxy_that_came_later_has_no_connection_and_need_not_be_reached(ask: Ask) -> None:
    """So it is where Serve scales up onto a node without replicas while it is not yet steady."""
    later = part("proxy", "worker-2", 9)
    known = replace(SENT, proxies=frozenset(p.name for p in PROXIES))
    assert ask(sound(), sent=known, parts=(*PROXIES, later, *REPLICAS))
    seen, _ = trouble(ask, sound(), parts=(*PROXIES, later, *REPLICAS))
    assert seen == f"traffic has not reached {later.name}"
    without = [r for r in sound() if r.path != PROXIES[1].name]
    seen, _ = trouble(ask, without, sent=known, parts=(*PROXIES, later, *REPLICAS))
    assert seen == f"traffic has not reached {PROXIES[1].name}"


@pytest.mark.parametrize("state", ["STARTING", "STOPPING"])
def test_a_replica_that_serve_scales_need_not_answer_before_it_runs_or_when_it_goes(ask: Ask, state: str) -> None:
    third = part("replica", "worker-2", 3, "app#Ranker")
    parts = (*PROXIES, *REPLICAS, third)

    def said(third_is: str, options: Mapping[str, Json]) -> Report:
        states = [*(("RUNNING", c.pid) for c in REPLICAS), (third_is, third.pid)]
        rows = tuple(ReplicaRow("r", "app", "Ranker", state, None, None, pid) for state, pid in states)
        return Report(NOW, serve=ServeStatus({}, {}, {}, {}, rows, {}, None, options={"app#Ranker": options}))

    scales: Mapping[str, Json] = {"autoscaling_config": {"min_replicas": 2, "max_replicas": 4}}
    assert ask(sound(), parts=parts, report=said(state, scales))
    for report in (said("RUNNING", scales), said(state, {"num_replicas": 3})):
        seen, _ = trouble(ask, sound(), parts=parts, report=report)
        assert seen == f"1 replicas have not answered: {third.name}"


def test_of_a_deployment_that_no_answer_names_nothing_is_expected(ask: Ask) -> None:
    assert ask(sound(), parts=(*PROXIES, *REPLICAS, part("replica", "worker-2", 3, "app#Child")))
    assert ask([*sound(), request(0.2, error="HTTP 500", replica="app#Child#3")], parts=(
        *PROXIES, *REPLICAS, part("replica", "worker-2", 4, "app#Child"),
    ))  # fmt: skip


# -- somebody else's cluster


def test_answers_of_another_cluster(ask: Ask) -> None:
    external = cluster_with(IS_EXTERNAL.by(cast("IsExternal", object())))
    elsewhere = [
        request(n / 10, replica="app#Ranker#9") if not r.kept else r for n, r in enumerate(sound()) if n < 60 or r.kept
    ]
    elsewhere.append(request(5.0, stream="kept:0", path=PROXIES[0].name))
    seen, advice = trouble(ask, elsewhere, cluster=external)
    assert seen == "answers come from replicas that are not of this cluster: see --serve-chaos-url"
    assert advice == "give the address at which the app of this RayService answers"
    assert ask(sound(), cluster=external)
    mixed = [*sound(), request(5.0, replica="app#Ranker#9")]
    assert ask(mixed, cluster=external), "a replica that is replaced has given some of them"
    nameless = [request(n / 10, replica=None) for n in range(60)]
    assert ask([*nameless, *(r for r in sound() if r.kept)], cluster=external, parts=PROXIES)
    seen, _ = trouble(ask, elsewhere, cluster=None)
    assert seen == f"1 replicas have not answered: {REPLICAS[1].name}", "the persistent connections reached the other"
