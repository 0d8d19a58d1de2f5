"""Traffic as tests use it: pointed at the cluster, steady before anything is broken, and judged after."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING

from pytest_serve_chaos import clock
from pytest_serve_chaos.analysis.configuration import Setup
from pytest_serve_chaos.analysis.outages import find_outages
from pytest_serve_chaos.analysis.result import Result, result_of
from pytest_serve_chaos.clock import NotYet, seconds
from pytest_serve_chaos.cluster.capabilities import HasProxyEndpoints
from pytest_serve_chaos.errors import ExpectationFailed, Inconclusive, WaitTimeout
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import Component, Expectations, Json, Request
from pytest_serve_chaos.observe.configuration import setup_now, warnings_about, write_what_holds
from pytest_serve_chaos.steady import wait_steady

if TYPE_CHECKING:
    from pytest_serve_chaos.traffic.client import Answer, RequestSpec
    from pytest_serve_chaos.traffic.generator import Generator
    from pytest_serve_chaos.traffic.kept import KeptLane

STEADY_WITHIN = 60.0


@dataclass(frozen=True, slots=True)
class Load:
    """What to send. `rate` and `kept_rate` in requests per second, `timeout` in seconds.

    Attributes:
        kept_rate: On the kept connection of each proxy; 0 keeps none.
        url: None: the cluster's own.
        check: Whether an answer is right; a wrong one is lost.
    """

    rate: float = 50.0
    kept_rate: float = 2.0
    timeout: float = 5.0
    method: str = "GET"
    headers: Mapping[str, str] | None = None
    body: bytes | None = None
    url: str | None = None
    check: Callable[[Answer], bool] | None = None
    send_lag_limit: float | None = None


class Traffic:
    """Open-loop traffic on the cluster of a rig, as a context manager.

    Entering waits for steady state. With `wait` False it does not, and the traffic runs beside that of the experiment:
    its requests are kept apart and are not judged with the others.
    """

    def __init__(self, rig: Rig, load: Load, *, wait: bool = True) -> None:
        self.rig = rig
        self.load = load
        self._wait = wait
        self.history = rig.history if wait else History()
        self._generator: Generator | None = None
        self._begun = 0.0

    def start(self) -> None:
        """Begins to send, waits for steady state, and warns about what is new in the cluster's configuration.

        Raises:
            Inconclusive: There is no steady state, so nothing should be broken.
        """
        setup = setup_now(self.rig.cluster) if self._wait else None  # before it could make a request late
        self._generator = _generator(self.rig, self.load, self.history)
        self._begun = clock.now()
        if not self._wait:
            self._generator.start()
            return
        self.rig.history.add("phase", "steady", experiment=self.rig.experiment)
        self._generator.start()
        try:
            wait_steady(self.rig, self.load.rate, kept=self.load.kept_rate > 0, timeout=STEADY_WITHIN)
        except WaitTimeout as error:
            self.stop()
            self.rig.history.add("not_started", f"no steady state: {error.last_seen}", experiment=self.rig.experiment)
            if any(event.kind == "asked" for event in self.rig.history.events):
                self.rig.spoilt = f"an earlier fault left it without steady state: {error.last_seen}"
            raise Inconclusive(f"no steady state before the fault: {error.last_seen}", mend=error.mend) from error
        if setup is not None:
            self._warn(setup)

    def _warn(self, setup: Setup) -> None:
        """An app that a test added, or a pod that was moved, can have changed what was said of the cluster at first."""
        rig = self.rig
        found = warnings_about(rig.cluster.description, setup, rig.watcher.topology, rig.watcher.report.serve)
        write_what_holds(rig.history, rig.experiment, found, rig.warned, rig.progress)

    def wait_answered(self) -> None:
        """Waits until no request of before is under way, while others are sent."""
        generator = self._generator
        if generator is None:
            return

        def probe() -> bool | NotYet:
            return not generator.in_flight or NotYet(f"{generator.in_flight} requests under way")

        # Where there is always one under way, those of before have ended with their timeout.
        with contextlib.suppress(WaitTimeout):
            clock.wait_until("the requests under way", probe, timeout=self.load.timeout, interval=0.005)

    def stop(self) -> None:
        """Stops sending and waits for the answers that are due."""
        generator, self._generator = self._generator, None
        if generator is not None:
            generator.stop()

    def __enter__(self) -> Traffic:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def requests(self) -> tuple[Request, ...]:
        """All that have ended, since this traffic began."""
        return self.history.requests_since(self._begun)

    @property
    def lost(self) -> int:
        """How many on fresh connections were lost."""
        return sum(r.lost for r in self.requests if not r.kept)

    def answered_by(self, *, since: float = 0.0) -> frozenset[str]:
        """The replicas that answered requests scheduled since then (monotonic seconds)."""
        return frozenset(r.replica for r in self.requests if r.replica and not r.lost and r.scheduled >= since)

    def longest_outage(self) -> float:
        """Seconds; infinity if one has not ended."""
        outages = find_outages([r for r in self.requests if not r.kept])
        return max((float("inf") if o.end is None else o.end - o.start for o in outages), default=0.0)

    def assert_available(
        self, availability: float, *, longest_outage: float | str | None = None, window: float | str | None = None
    ) -> Result:
        """Demands a share of good answers, and no outage longer than that, from the fault on.

        Args:
            availability: 0 to 1.
            longest_outage: Seconds, or text with a unit.
            window: Over which the availability is judged; None: from the fault to now.

        Raises:
            ExpectationFailed: It was not met.
            Inconclusive: No fault landed, there were too few requests, or the generator was late.
        """
        longest = None if longest_outage is None else seconds(longest_outage, name="longest_outage")
        asked = [e.at for e in self.rig.history.of(self.rig.experiment) if e.kind == "asked"]
        span = max((r.scheduled for r in self.requests), default=0.0) - (asked[0] if asked else self._begun)
        demanded = Expectations(
            availability=availability,
            longest_outage=longest,
            window=max(0.1, math.ceil(10 * span) / 10) if window is None else seconds(window, name="window"),
            traffic_back=None,
            redundancy_back=None,
            settled=False,
            send_lag_limit=self.load.send_lag_limit,
        )
        write_expectations(self.rig, demanded)
        result = result_of(self._whole_history(), self.rig.experiment)
        raise_unless_passed(result)
        return result

    def _whole_history(self) -> History:
        """The run's events with the requests of this traffic."""
        if self.history is self.rig.history:
            return self.history
        whole = History()
        for event in self.rig.history.events:
            whole.add(event.kind, event.text, at=event.at, experiment=event.experiment, data=event.data)
        for request in self.history.requests:
            whole.add_request(request)
        return whole


def write_expectations(rig: Rig, expectations: Expectations) -> None:
    """Writes to the history what will be judged."""
    data: dict[str, Json] = {}
    for name, value in asdict(expectations).items():
        data[name] = list(value) if isinstance(value, tuple) else value
    rig.history.add("expectations", "what is demanded", experiment=rig.experiment, data=data)


def raise_unless_passed(result: Result) -> None:
    """Raises what the verdict says.

    Raises:
        ExpectationFailed: failed.
        Inconclusive: inconclusive.
    """
    verdict = result.verdict
    if verdict.outcome == "passed":
        return
    kind = ExpectationFailed if verdict.outcome == "failed" else Inconclusive
    first, *others = verdict.reasons
    raise kind("\n  ".join([f"{result.experiment}: {verdict.outcome}: {first}", *others]))


def _generator(rig: Rig, load: Load, history: History) -> Generator:
    from pytest_serve_chaos.traffic.client import RequestSpec
    from pytest_serve_chaos.traffic.generator import Generator

    spec = RequestSpec(
        url=load.url or rig.cluster.url,
        method=load.method,
        headers=dict(load.headers or {}),
        body=load.body,
        timeout=load.timeout,
        check=load.check,
    )
    if not load.kept_rate:
        return Generator(spec, rate=load.rate, history=history)

    if isinstance(rig.cluster, HasProxyEndpoints):
        lanes = [_lane(rig, rig.cluster, proxy, spec) for proxy in rig.watcher.sample().of("proxy")]
        return Generator(spec, rate=load.rate, history=history, kept_rate=load.kept_rate, kept=lanes)

    def name_of(client: tuple[str, int]) -> str | None:
        identity = rig.cluster.proxy_of(client)
        component = None if identity is None else rig.watcher.topology.find(identity)
        return None if component is None else component.name

    proxies = tuple(c.name for c in rig.watcher.sample().of("proxy"))
    return Generator(spec, rate=load.rate, history=history, kept_rate=load.kept_rate, proxies=proxies, proxy_of=name_of)


def _lane(rig: Rig, cluster: HasProxyEndpoints, proxy: Component, spec: RequestSpec) -> KeptLane:
    from pytest_serve_chaos.traffic.kept import KeptLane

    def spec_of() -> RequestSpec | None:
        """What leads to the proxy that goes by that name now: its pod may be another one."""
        there = [c for c in rig.watcher.topology.of("proxy") if c.name == proxy.name]
        # Beside one that is about to go, the newer comes last.
        return _way_to(cluster, there[-1], spec) if there else None

    return KeptLane(proxy.name, _way_to(cluster, proxy, spec), spec_of)


def _way_to(cluster: HasProxyEndpoints, proxy: Component, spec: RequestSpec) -> RequestSpec:
    way = cluster.proxy_endpoint(proxy)
    return replace(spec, url=way.url, headers={**spec.headers, **way.headers}, ssl_context=way.ssl_context)
