"""What is known of the traffic on a cluster while it runs: when it was steady, what is slow, and who serves it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_serve_chaos import clock
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import Component, Slowness
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

    def __init__(self, history: History, numbers: Iterator[int] | None = None) -> None:
        self._steady_since = 0.0
        self.source = ""
        self._streams: dict[str, _Stream] = {}
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
        if not self._running:
            return list(candidates)
        since = self.steady_since
        found = _named(self._history, candidates, since, self.source) or _named(self._history, candidates, since, None)
        asked = [c for c in candidates if c.role != "replica" or (c.deployment or "").partition("#")[0] in self.shares]
        return found or asked or list(candidates)


def _named(history: History, candidates: Sequence[Component], since: float, source: str | None) -> list[Component]:
    """Those of the candidates that good answers name."""
    good = [r for r in history.requests_since(since, source) if not r.lost]
    named = {name for r in good for name in (*r.replicas, r.path)}
    return [c for c in candidates if (c.replica if c.role == "replica" else c.name) in named]
