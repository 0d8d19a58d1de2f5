"""Traffic as tests use it: pointed at the cluster, steady before anything is broken, and judged after."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from pytest_serve_chaos import clock
from pytest_serve_chaos.analysis.configuration import Setup
from pytest_serve_chaos.analysis.demands import can_show, with_demands
from pytest_serve_chaos.analysis.outages import find_outages
from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.analysis.steady_state import LEAST_REQUESTS, slowness_of
from pytest_serve_chaos.checks.base import Check
from pytest_serve_chaos.checks.own import spec_of
from pytest_serve_chaos.clock import NotYet, seconds
from pytest_serve_chaos.cluster.asking import Asking, Way, routes_of, way_to
from pytest_serve_chaos.errors import ExpectationFailed, Inconclusive, SettingsError, WaitTimeout
from pytest_serve_chaos.events import (
    CheckDone,
    Demanded,
    FaultAsked,
    Judged,
    NotStarted,
    Phase,
    PhaseBegan,
    StagesBegan,
    SteadyConfirmed,
    TrafficBegan,
    has,
)
from pytest_serve_chaos.faults.admission import look_at_its_owner
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.generators import generator_for
from pytest_serve_chaos.history import ExperimentLog
from pytest_serve_chaos.judged_time import JudgedTime
from pytest_serve_chaos.model import (
    UNFINISHED,
    Checked,
    Expectations,
    PartDemands,
    PartName,
    Request,
    Slowness,
)
from pytest_serve_chaos.observe.configuration import setup_now, warnings_about, write_what_holds
from pytest_serve_chaos.results import result_of
from pytest_serve_chaos.schedule import Pattern, Schedule
from pytest_serve_chaos.steady import Sent, replicas_to_reach, steady_within, wait_steady
from pytest_serve_chaos.traffic.request_kind import RequestKind
from pytest_serve_chaos.traffic.sources import RequestSource

if TYPE_CHECKING:
    from pytest_serve_chaos.traffic.generator import Generator
    from pytest_serve_chaos.traffic.request import Answer
    from pytest_serve_chaos.traffic.transports.base import Transport

_DURATIONS = ("timeout", "slow_after", "send_lag_limit", "watch_for")

_TO_END = 1.0
"""Seconds beyond its timeout in which a request has ended."""

_BY_HAND = Expectations(traffic_back=None, redundancy_back=None, settled=False, spread=False)
"""What a test by hand does not ask for is not demanded; losses on persistent connections always are."""


@dataclass(frozen=True, slots=True)
class Load:
    """What to send. `rate` and `persistent_rate` in requests per second, `timeout` in seconds.

    Attributes:
        rate: On connections of their own; or stages, ``"20/s for 30s, 100/s for 30s"``, which begin in steady state.
        persistent_rate: On the persistent connection to each proxy; 0: there are no persistent connections.
        url: None: the cluster's own.
        path: Of the requests, with the route of their app. None: that route. "": the `url` as it is.
        requests: The kinds of requests; what they do not say is as these fields say.
        apps: The names of the apps that are asked. None: all that have a route.
        slow_after: An answer later than this counts as away, unless the test says otherwise, in seconds.
        check: Whether an answer is right; a wrong one is lost.
        transport: How requests are sent. None: by HTTP.
        watch_for: Seconds for which processes are watched after recovery, unless the test says otherwise.
        arrivals: Whether requests are evenly spaced (``constant``), or come by chance (``poisson``).
        seed: Of what comes by chance, and of which kind of request is sent when.

    Raises:
        SettingsError: The rate is not one, and not a list of stages; or there are no such arrivals.
    """

    rate: float | str = 50.0
    persistent_rate: float = 2.0
    timeout: float = 5.0
    method: str = "GET"
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    body: bytes | None = field(default=None, repr=False)
    url: str | None = field(default=None, repr=False)
    path: str | None = field(default=None, repr=False)
    requests: tuple[RequestKind, ...] = field(default=(), repr=False)
    apps: tuple[str, ...] = ()
    seed: int = 0
    check: Callable[[Answer], bool] | None = None
    slow_after: float | None = None
    send_lag_limit: float | None = None
    watch_for: float | None = None
    transport: Transport | None = None
    arrivals: Pattern = "constant"

    def __post_init__(self) -> None:
        Schedule.of(self.rate, self.arrivals)

    @property
    def schedule(self) -> Schedule:
        """When requests are due."""
        return Schedule.of(self.rate, self.arrivals)

    def way(self, rig: Rig) -> Way:
        """Where its requests go on that cluster, and what they say there.

        Raises:
            SettingsError: There is no such app, or none at a path.
        """
        asking = Asking(
            self.method, self.headers or {}, self.body, self.path or None, self.requests, self.apps, self.seed
        )
        cluster = rig.cluster
        config, usual = cluster.serve_config, rig.serve_config
        exact = self.path == ""
        return way_to(asking, config, home=cluster.url, url=self.url, exact=exact, usual=usual)

    def judged(self, rig: Rig) -> JudgedParts:
        """Which apps and which names of requests are judged by themselves on that cluster.

        Raises:
            SettingsError: There is no such app, or none at a path.
        """
        messages = self.way(rig).messages
        apps = messages.apps if len(messages.apps) > 1 else ()
        names = messages.names if len(messages.kinds) > 1 else ()
        asked = routes_of(rig.serve_config).keys() | set(messages.apps)
        silent = tuple(app for app in asked if app not in messages.apps) if messages.apps else ()
        own = {PartName("app", app): self._schedule_of(messages, app) for app in apps}
        own |= {PartName("name", name): self._schedule_of(messages, name=name) for name in names}
        rarest = min((own[PartName("app", app)] for app in apps), key=lambda one: one.first, default=self.schedule)
        return JudgedParts(apps, names, messages.apps, tuple(sorted(silent)), rarest, own)

    def _schedule_of(self, messages: RequestSource, app: str = "", *, name: str = "") -> Schedule:
        """When the requests to that app, or of that name, are due."""
        share = messages.share_of(app, name=name)
        return self.schedule.of_share(share, gap=share * messages.longest_gap(app, name=name))

    def applied_to(self, expected: Expectations) -> Expectations:
        """The expectations with what the settings say of all traffic; what the test itself demands comes first."""
        slow_after = self.slow_after if expected.slow_after is None else expected.slow_after
        watch_for = self.watch_for if expected.watch_for is None else expected.watch_for
        if watch_for == 0 and expected.leaks is not None:  # turned off for the run, and yet demanded by the test
            watch_for = None
        return replace(expected, slow_after=slow_after, watch_for=watch_for, send_lag_limit=self.send_lag_limit)


def with_changes(load: Load, changes: Mapping[str, object]) -> Load:
    """The load with what a test says of it: ``app`` is one name or several, the rest is called as in `Load`.

    Durations may have units, as everywhere: ``timeout="500ms"``.

    A test that says where or what to send takes the place of the requests of the settings: with a ``url``, everything
    goes to that very URL.

    Raises:
        SettingsError: There is no such thing to change, or its value cannot be used.
    """
    valid = sorted({"app", *(field.name for field in fields(Load))} - {"apps"})
    unknown = sorted(set(changes) - set(valid))
    if unknown:
        raise SettingsError(f"traffic has no {unknown[0]!r}", fix=[f"it has {', '.join(valid)}"])
    values = dict(changes)
    if "requests" in values:
        values["requests"] = _kinds(values["requests"])
    elif not {"path", "method", "body", "url"}.isdisjoint(values):
        values["requests"] = ()
    if "app" in values:
        values["apps"] = _names(values.pop("app"))
    elif "url" in values and "path" not in values and not values["requests"]:
        values |= {"path": "", "apps": ()}
    if values.get("path"):
        RequestKind(path=cast("str", values["path"]))
    for name in _DURATIONS:
        if values.get(name) is not None:
            values[name] = clock.seconds(cast("float | str", values[name]), name=name)
    return replace(load, **cast("dict[str, Any]", values))


def _kinds(value: object) -> tuple[RequestKind, ...]:
    found = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    for one in found:
        if not isinstance(one, RequestKind):
            raise SettingsError(
                f"requests: {one!r:.60} is not a RequestKind",
                fix=["give a list: requests=[RequestKind(path='/rank', method='POST', body={'k': 3})]"],
            )
    return found


def _names(value: object) -> tuple[str, ...]:
    found = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, (list, tuple)) else ()
    if value is not None and not (found and all(isinstance(one, str) and one for one in found)):
        raise SettingsError(f"app: {value!r:.60} is not the name of an app", fix=["give one name, or a list of names"])
    return found


@dataclass(frozen=True, slots=True)
class JudgedParts:
    """What is judged by itself in addition to all requests together.

    Attributes:
        apps: The apps that are asked, if there are several.
        names: The names of the requests, if there are several kinds.
        asked: All apps that are asked.
        silent: The apps that have a route and get no requests.
        schedule: Of the requests of the app that gets the fewest.
        own: Of the requests of each part.
    """

    apps: tuple[str, ...]
    names: tuple[str, ...]
    asked: tuple[str, ...]
    silent: tuple[str, ...]
    schedule: Schedule
    own: Mapping[PartName, Schedule] = field(default_factory=dict)

    @property
    def rarest(self) -> str:
        """The app that gets the fewest requests, if several are asked; "" if not."""
        return min(self.apps, key=lambda app: self.shares.get(app, 1.0), default="")

    @property
    def shares(self) -> Mapping[str, float]:
        """The share of the requests that each app gets, if several are asked."""
        apps = {part.name: own.first for part, own in self.own.items() if part.kind == "app"}
        return {app: rate / sum(apps.values()) for app, rate in apps.items()}

    def demands(self, defaults: Expectations, demands: Mapping[str, object], since: float) -> tuple[PartDemands, ...]:
        """What is demanded of each part by default: what its own requests can show.

        Args:
            defaults: What is demanded of a traffic of many requests.
            demands: What the user demands otherwise, of each part alike.
            since: When the fault comes, in seconds since the stages began.
        """
        shown = {part: with_demands(can_show(defaults, own, since), demands) for part, own in self.own.items()}
        return tuple(PartDemands(part, one.longest_outage, one.traffic_back) for part, one in shown.items())

    @property
    def about(self) -> str:
        """Which apps the verdict is about, if the Serve config has several; "" if not."""
        if not self.apps and not self.silent:
            return ""
        about = f"this is about the app{'s' if self.apps else ''} {', '.join(self.asked)}"
        return about + (f"; no requests were sent to {', '.join(self.silent)}" if self.silent else "")


class Traffic:
    """Open-loop traffic on the cluster of a rig, as a context manager.

    Entering waits for steady state. Each traffic has records of its own: what one stream loses is never counted in the
    figures of another.

    Args:
        rig: The cluster under test, and what is recorded about it.
        load: The requests that are sent.
        wait: Whether to wait for steady state.
        source: The name under which its requests are recorded; None gives it one of its own.
        on_result: Called with each result that `assert_available` comes to, whatever it says.
    """

    def __init__(
        self,
        rig: Rig,
        load: Load,
        *,
        wait: bool = True,
        source: str | None = None,
        on_result: Callable[[Result], None] = lambda _: None,
    ) -> None:
        self.rig = rig
        self.load = load
        self.source = rig.traffic.new_source() if source is None else source
        self._wait = wait
        self._on_result = on_result
        self._generator: Generator | None = None
        self._begun = 0.0
        self._usual = _Usual()
        self._stages_begun: float | None = None
        self._parts: JudgedParts | None = None

    def start(self) -> None:
        """Begins to send, waits for steady state, and warns about what is new in the cluster's configuration.

        Raises:
            Inconclusive: There is no steady state, so nothing should be broken.
        """
        rig, load = self.rig, self.load
        setup = setup_now(rig.cluster) if self._wait else None  # before it could make a request late
        proxies = frozenset(c.name for c in rig.watcher.sample().of("proxy"))
        # As the config is now: a test may remove an app before it asks for the verdict.
        way, self._parts = load.way(rig), load.judged(rig)
        generator = self._generator = generator_for(rig, load, self.source, way)
        self._begun = clock.now()
        if self.source:
            rig.current.begin_by_hand()
        rig.traffic.begin(self.source, way.at_proxy)
        rig.log.add(_began(self.source, load))
        if setup is not None:
            rig.log.add(PhaseBegan.of(Phase.STEADY))
        generator.start()
        if setup is not None:
            try:
                steady = _wait_steady(rig, load, self.source, proxies, self._parts)
            except WaitTimeout as error:
                self.stop(drain=0.0)  # nothing is judged, so nobody waits for requests that hang
                raise _no_steady_state(rig, error) from error
            self._usual = _Usual.of(steady, self._ended(), load, self._parts.apps)
            if rig.traffic.source == self.source:
                rig.traffic.slowness, rig.traffic.of_apps = self._usual.of_all, self._usual.of_apps
            _warn(rig, setup)
        self._stages_begun = _begin_stages(rig, load.schedule, self.source, generator)

    @property
    def elapsed(self) -> float:
        """Seconds since steady state, when the stages began; 0.0 before. Without steady state, since traffic began."""
        return 0.0 if self._stages_begun is None else clock.now() - self._stages_begun

    def wait_until(self, at: float | str) -> None:
        """Waits until steady state was that many seconds ago, while requests are sent: ``traffic.wait_until("35s")``.

        The stages count from the same moment, so this is how a test puts a fault into one of them.

        Args:
            at: Seconds, or text with a unit.
        """
        left = seconds(at, name="at") - self.elapsed
        if self.running:
            _wait_till(clock.now() + left, f"{at} after steady state", every=0.05)

    def wait_answered(self) -> None:
        """Waits until each request of before has ended, for as long as one may take at most, while others are sent."""
        if self._generator is None:
            return
        now = clock.now()

        def probe() -> bool | NotYet:
            left = [r for r in self.rig.history.pending(self.source) if r.scheduled <= now]
            return not left or NotYet(f"{len(left)} requests in flight")

        # One that is left then has not ended within its timeout.
        with contextlib.suppress(WaitTimeout):
            clock.wait_until("the requests in flight", probe, timeout=self.load.timeout + _TO_END, interval=0.005)

    def stop(self, *, drain: float | None = None) -> None:
        """Stops sending and waits for the answers that are due.

        Args:
            drain: Seconds to wait for them; what takes longer is recorded as unfinished. None: as long as they take.
        """
        generator, self._generator = self._generator, None
        if generator is not None:
            self.rig.traffic.end(self.source)
            generator.stop(drain)

    @property
    def running(self) -> bool:
        """Whether requests are being sent."""
        return self._generator is not None

    def __enter__(self) -> Traffic:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def requests(self) -> tuple[Request, ...]:
        """All that have ended, since this traffic began; of hours of traffic that is a lot of memory."""
        return tuple(self._ended())

    def _ended(self) -> Iterator[Request]:
        return self.rig.history.requests_between(self._begun, math.inf, source=self.source)

    @property
    def lost(self) -> int:
        """How many on fresh connections were lost."""
        return sum(r.lost for r in self._ended() if not r.kept)

    def answered_by(self, *, since: float = 0.0) -> frozenset[str]:
        """The replicas that answered requests scheduled since then (monotonic seconds)."""
        ended = self.rig.history.requests_between(max(since, self._begun), math.inf, source=self.source)
        return frozenset(r.replica for r in ended if r.replica and not r.lost)

    def longest_outage(self) -> float:
        """Seconds in which requests, of one app, were lost or waited too long; infinity if an outage has not ended."""
        seen = self.rig.history.requests_since(self._begun, source=self.source, with_pending=True)
        fresh = [request for request in seen if not request.kept]
        if not self._usual.of_apps:
            return _longest_outage(fresh, self._usual.of_all)
        of_apps = self._usual.of_apps.items()
        return max(_longest_outage([r for r in fresh if r.app == app], slowness) for app, slowness in of_apps)

    def assert_available(
        self,
        availability: float,
        *,
        longest_outage: float | str | None = None,
        slow_after: float | str | None = None,
        window: float | str | None = None,
    ) -> Result:
        """Demands a share of good answers, and no outage longer than that, of this traffic.

        It counts from the first fault that was asked for while this traffic was sent; each fault since then must have
        landed. While traffic runs, it waits until the window is over. Requests in flight are waited for, and count as
        what becomes of them.

        Args:
            availability: More than 0, and at most 1.
            longest_outage: Seconds, or text with a unit.
            slow_after: An answer later than this counts as away. None: what the setting says, or what the latency
                before the fault suggests.
            window: Over which the availability is judged, from the fault on. None: 20 s, or as long as the traffic
                lasted if that is less, or as long as it takes to have enough requests if that is more.

        Raises:
            ExpectationFailed: It was not met.
            Inconclusive: No fault landed, there were too few requests, or the generator was late.
            SettingsError: A value cannot be demanded.
            WatchEnded: A thread that watches the cluster has ended.
        """
        demands: dict[str, object] = {"availability": availability, "longest_outage": longest_outage}
        if slow_after is not None:
            demands["slow_after"] = slow_after
        if window is not None:
            demands["window"] = window
        demanded = with_demands(_BY_HAND, demands)
        schedule = self.load.schedule if self._parts is None else self._parts.schedule
        time = JudgedTime(self.rig.log, self._begun, self._stages_begun, schedule, self._usual.of_all.usual)
        if self.running:
            usual = window is None
            needed = time.usual_window(demanded, self.rig.waits.judged_for) if usual else demanded.window
            _wait_for_requests(self.rig, time, needed)
        until = clock.now()
        self.wait_answered()
        if window is None:
            due = (r.scheduled for r in self._ended() if not r.kept and r.scheduled <= until)
            demanded = replace(demanded, window=time.window(demanded, max(due, default=0.0)))
        demanded = self.load.applied_to(demanded)
        autoscaled = self.rig.health.shape.autoscaled
        write_expectations(
            self.rig.log, demanded, autoscaled=autoscaled, source=self.source, at=until, parts=self._parts
        )
        self.rig.check_watches()
        look_at_its_owner(self.rig)
        result = result_of(self.rig.history, self.rig.current.experiment)
        self.rig.log.add(Judged(result.outcome))
        self._on_result(result)
        raise_unless_passed(result)
        return result


@dataclass(frozen=True, slots=True)
class _Usual:
    """How slow the answers of a traffic are in steady state: all, and those of each app if several are asked."""

    of_all: Slowness = field(default_factory=Slowness)
    of_apps: Mapping[str, Slowness] = field(default_factory=dict)

    @classmethod
    def of(cls, steady: Sequence[Request], ended: Iterable[Request], load: Load, apps: Iterable[str]) -> _Usual:
        """By the requests in steady state; where these are few, by all that have ended since the traffic began."""
        all_fresh = [request for request in ended if not request.kept]
        expected = load.applied_to(Expectations())

        def slowness(app: str = "") -> Slowness:
            own = [request for request in steady if app in ("", request.app)]
            if len(own) < LEAST_REQUESTS:
                own = [request for request in all_fresh if app in ("", request.app)][-LEAST_REQUESTS:]
            return slowness_of(own, expected, uneven=not load.schedule.even)

        return cls(slowness(), {app: slowness(app) for app in apps})


def _wait_steady(rig: Rig, load: Load, source: str, proxies: frozenset[str], parts: JudgedParts) -> tuple[Request, ...]:
    """Waits for steady state, and writes that it is there."""
    # The stages wait for steady state, so the rate is that of the first.
    sent = Sent(
        source,
        load.schedule.first,
        load.timeout,
        kept=load.persistent_rate > 0,
        proxies=proxies,
        waits=rig.waits,
        apps=parts.apps,
    )
    replicas = replicas_to_reach(rig.watcher.topology, rig.traffic.shares)
    steady = wait_steady(rig, sent, timeout=steady_within(sent, replicas, least=rig.waits.steady_within))
    rig.log.add(SteadyConfirmed("steady since then", at=min(r.scheduled for r in steady)))
    return steady


def _no_steady_state(rig: Rig, error: WaitTimeout) -> Inconclusive:
    """Writes that there is none; an earlier fault may be why."""
    rig.log.add(NotStarted(f"no steady state: {error.last_seen}"))
    if has(FaultAsked, rig.history.events):
        rig.soundness.taint(f"an earlier fault left it without steady state: {error.last_seen}")
    return Inconclusive(f"no steady state before the fault: {error.last_seen}", fix=error.fix)


def _warn(rig: Rig, setup: Setup) -> None:
    """Checks the configuration again: a test may have added an app, and a pod may have moved."""
    watcher = rig.watcher
    found = warnings_about(rig.cluster.description, setup, watcher.topology, watcher.report.serve, rig.run.faults)
    write_what_holds(rig.log, found, rig.run.warned, rig.progress)


def _begin_stages(rig: Rig, schedule: Schedule, source: str, generator: Generator) -> float:
    """From now on the stages count; returns that moment."""
    begun = clock.now()
    generator.begin_stages(begun)
    if len(schedule.stages) > 1:
        rig.log.add(StagesBegan(f"stages begin: {schedule.words}", at=begun, source=source))
    return begun


def _wait_for_requests(rig: Rig, time: JudgedTime, needed: float) -> None:
    """Waits until traffic has run for so many seconds since the fault, if there was one."""
    asked = time.asked
    if asked is None:
        return
    end = asked + needed
    if clock.now() < end:
        rig.progress(f"{end - clock.now():.0f} s more of traffic are needed to judge it")
    _wait_till(end, "enough requests", every=0.1)


def _longest_outage(fresh: Iterable[Request], slowness: Slowness) -> float:
    known = [r for r in fresh if not (r.error == UNFINISHED and r.latency <= slowness.after)]
    outages = find_outages(known, slowness=slowness)
    return max((math.inf if o.end is None else o.end - o.start for o in outages), default=0.0)


def _wait_till(end: float, what: str, *, every: float) -> None:
    """Waits until that moment (monotonic seconds), and looks every so many seconds."""

    def there() -> bool | NotYet:
        left = end - clock.now()
        return left <= 0 or NotYet(f"{left:.1f} s are left")

    clock.wait_until(what, there, timeout=max(0.0, end - clock.now()), interval=every)


def _began(source: str, load: Load) -> TrafficBegan:
    schedule = load.schedule
    return TrafficBegan(
        "traffic begins",
        source=source,
        rate=schedule.first,
        stages=str(schedule) if len(schedule.stages) > 1 else "",
        arrivals=schedule.arrivals,
        timeout=load.timeout,
    )


def write_expectations(
    log: ExperimentLog,
    expectations: Expectations,
    *,
    autoscaled: Iterable[str],
    source: str = "",
    at: float | None = None,
    checks: Sequence[Check] = (),
    parts: JudgedParts | None = None,
    of_parts: Iterable[PartDemands] = (),
) -> None:
    """Writes to the history what will be judged, and by which traffic: of one by hand, by its requests until then."""
    demanded = Demanded(
        "what is demanded",
        at=clock.now() if at is None else at,
        expectations=expectations,
        source=source,
        autoscaled=tuple(sorted(autoscaled)),
        checks=tuple(spec_of(check) for check in checks),
        apps=() if parts is None else parts.apps,
        names=() if parts is None else parts.names,
        about="" if parts is None else parts.about,
        of_parts=tuple(of_parts),
    )
    log.add(demanded)


def write_checked(log: ExperimentLog, checks: Iterable[Checked]) -> None:
    """Writes to the history what the checks have found that the test brought."""
    for checked in checks:
        text = "; ".join((*checked.missed, *checked.unknown)) or "met"
        log.add(CheckDone(f"{checked.check}: {text}", found=checked))


def raise_unless_passed(result: Result) -> None:
    """Raises what the verdict says.

    Raises:
        ExpectationFailed: failed.
        Inconclusive: inconclusive, or only measured.
    """
    verdict = result.verdict
    if verdict.outcome == "passed":
        return
    kind = ExpectationFailed if verdict.outcome == "failed" else Inconclusive
    first, *others = verdict.reasons or ("nothing was demanded of the requests, so nothing is shown",)
    raise kind("\n  ".join([f"{result.experiment}: {verdict.outcome}: {first}", *others]))
