"""What is known of the traffic on a cluster while it runs: when it was steady, what is slow, and who answers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.base import Cluster
from pytest_serve_chaos.cluster.capabilities import HAS_PROXY_ENDPOINTS
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import Component, Request, Slowness
from pytest_serve_chaos.observe.handles import requests_logged
from pytest_serve_chaos.traffic.request import Message
from pytest_serve_chaos.traffic.sources import RequestSource

_LONG_PAST = 900.0
"""Seconds after which what traffic by hand was answered shows no more who serves it now."""


@dataclass(slots=True)
class _Stream:
    """What is known of one traffic; the attributes are those of `LiveTraffic`."""

    slowness: Slowness = field(default_factory=Slowness)
    of_apps: Mapping[str, Slowness] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    asked: tuple[Message, ...] = ()


class LiveTraffic:
    """The traffic of the test that has the cluster.

    What is judged live is the experiment's own, or else the first of all that runs at a time.

    Args:
        cluster: Where it goes.
        history: Where its requests are.
        numbers: Of the traffic of a run; each is taken once.

    Attributes:
        steady_since: From when on answers count as given before the fault, monotonic seconds. Traffic by hand may go
            on for hours, so there what was answered longer than a quarter of an hour ago does not count.
        slowness: How long requests take in steady state, and what is too long.
        of_apps: The same of each app, if several are asked.
        source: Whose requests are judged live: the experiment's own, or those of the first traffic of a test by hand.
        shares: The share of its requests that each app gets, where that is known.
        asked: What it asks one proxy alone: a message for each app.
    """

    def __init__(self, cluster: Cluster, history: History, numbers: Iterator[int] | None = None) -> None:
        self._steady_since = 0.0
        self.source = ""
        self._streams: dict[str, _Stream] = {}
        self._cluster = cluster
        self._history = history
        self._numbers = itertools.count(1) if numbers is None else numbers
        self._running: list[str] = []

    def new_source(self) -> str:
        """A name for the requests of one traffic, which no other has in this run."""
        return f"traffic-{next(self._numbers)}"

    def begin(self, source: str, at_proxy: RequestSource | None = None) -> None:
        """Notes that traffic begins, and what it sends to one proxy alone. The source of an experiment's is ""."""
        if not self._running or not source:
            self.source = source
        shares = {} if at_proxy is None else {app: at_proxy.share_of(app) for app in at_proxy.apps}
        self._streams[source] = _Stream(shares=shares, asked=() if at_proxy is None else at_proxy.one_of_each_app)
        self._running.append(source)

    def end(self, source: str) -> None:
        """Notes that traffic ends."""
        self._running = [one for one in self._running if one != source]
        if self._running and self.source == source:
            self.source = self._running[0]

    @property
    def steady_since(self) -> float:
        """See the attributes of the class."""
        return max(self._steady_since, clock.now() - _LONG_PAST) if self.source else self._steady_since

    @steady_since.setter
    def steady_since(self, moment: float) -> None:
        self._steady_since = moment

    @property
    def slowness(self) -> Slowness:
        """See the attributes of the class."""
        return self._judged.slowness

    @slowness.setter
    def slowness(self, found: Slowness) -> None:
        self._judged.slowness = found

    @property
    def of_apps(self) -> Mapping[str, Slowness]:
        """See the attributes of the class."""
        return self._judged.of_apps

    @of_apps.setter
    def of_apps(self, found: Mapping[str, Slowness]) -> None:
        self._judged.of_apps = found

    @property
    def shares(self) -> Mapping[str, float]:
        """See the attributes of the class."""
        return self._judged.shares

    @property
    def asked(self) -> tuple[Message, ...]:
        """See the attributes of the class."""
        return self._judged.asked

    @property
    def running(self) -> tuple[str, ...]:
        """The sources of all that runs now."""
        return tuple(self._running)

    @property
    def _judged(self) -> _Stream:
        return self._streams.setdefault(self.source, _Stream())

    def serving(self, candidates: Sequence[Component]) -> list[Component]:
        """Those of the candidates that answers name: of the traffic that is judged live, or else of any that runs.

        Where no answer names any, those of the apps that the judged traffic goes to; all of them where that is unknown.
        """
        found = self._named(candidates, self.source) or self._named(candidates, None)
        asked = [c for c in candidates if c.role != "replica" or (c.deployment or "").partition("#")[0] in self.shares]
        return found or (asked if self._running else []) or list(candidates)

    def _named(self, candidates: Sequence[Component], source: str | None) -> list[Component]:
        good = self._good(self.steady_since, source) if self._running else []
        named = {name for r in good for name in (*r.replicas, r.path)}
        return [c for c in candidates if (c.replica if c.role == "replica" else c.name) in named]

    def answers_of(self, victims: Collection[Component], *, since: float) -> int:
        """How many good answers they gave since then to the traffic that is judged live; see `answers_to`."""
        return self.answers_to(self.source, victims, since=since)

    def answers_to(self, source: str | None, victims: Collection[Component], *, since: float, app: str = "") -> int:
        """How many good answers requests scheduled since then got from these replicas and proxies.

        Where no answer names a replica of a deployment (the child of another), their logs say how many requests they
        had, those of all traffic.

        Args:
            source: Of the traffic whose requests count. None: those of all that was sent.
            victims: The replicas and proxies; others answer nothing.
            since: Monotonic seconds.
            app: To which these requests went, if there are several; "": to any.
        """
        answered = sum(map(_by(victims), (r for r in self._good(since, source) if not app or r.app == app)))
        named = {name.rpartition("#")[0] for r in self._good(self.steady_since, source) for name in r.replicas}
        silent = [
            c
            for c in victims
            if c.role == "replica"
            and c.replica
            and c.deployment not in named
            and app in ("", (c.deployment or "").partition("#")[0])
        ]
        return answered or len(requests_logged(self._cluster, silent, since))

    def only_probed(self, victims: Collection[Component], *, since: float) -> bool:
        """Whether none of the requests that are judged is known to have gone through these, but probes have.

        Where each proxy has an address of its own, persistent connections go to it, wherever the user's URL leads. On a
        shared address they show where that leads to.
        """
        if self._cluster.capability(HAS_PROXY_ENDPOINTS) is None:
            return False
        by_victims = [r for r in self._good(since, self.source) if _by(victims)(r)]
        names = {c.replica for c in victims if c.role == "replica"}
        judged = any(not r.kept and not names.isdisjoint(r.replicas) for r in by_victims)
        return not judged and any(r.kept for r in by_victims)

    def _good(self, since: float, source: str | None) -> list[Request]:
        return [r for r in self._history.requests_since(since, source) if not r.lost]


def _by(victims: Collection[Component]) -> Callable[[Request], bool]:
    """Whether one of these answered a request."""
    names = {c.replica for c in victims if c.role == "replica" and c.replica}
    proxies = {c.name for c in victims if c.role == "proxy"}
    return lambda request: request.path in proxies or not names.isdisjoint(request.replicas)
