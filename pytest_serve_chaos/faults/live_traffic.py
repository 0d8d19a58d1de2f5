"""What is known of the traffic on a cluster while it runs: when it was steady, what is slow, and who answers."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence

from pytest_serve_chaos.cluster.base import Cluster
from pytest_serve_chaos.cluster.capabilities import HAS_PROXY_ENDPOINTS
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import Component, Slowness
from pytest_serve_chaos.observe.handles import requests_logged
from pytest_serve_chaos.traffic.request import Message
from pytest_serve_chaos.traffic.sources import RequestSource


class LiveTraffic:
    """The traffic of the test that has the cluster. What is judged live is the first of all that runs at a time.

    Args:
        cluster: Where it goes.
        history: Where its requests are.
        numbers: Of the traffic of a run; each is taken once.

    Attributes:
        steady_since: From when on answers count as given before the fault, monotonic seconds.
        slowness: How long requests take in steady state, and what is too long.
        source: Whose requests are judged live: the experiment's own, or those of the first traffic of a test by hand.
        shares: The share of its requests that each app gets, where that is known.
        asked: What it asks one proxy alone: a message for each app.
    """

    def __init__(self, cluster: Cluster, history: History, numbers: Iterator[int] | None = None) -> None:
        self.steady_since = 0.0
        self.slowness = Slowness()
        self.source = ""
        self.shares: Mapping[str, float] = {}
        self.asked: tuple[Message, ...] = ()
        self._cluster = cluster
        self._history = history
        self._numbers = itertools.count(1) if numbers is None else numbers
        self._running: list[str] = []

    def new_source(self) -> str:
        """A name for the requests of one traffic, which no other has in this run."""
        return f"traffic-{next(self._numbers)}"

    def begin(self, source: str, at_proxy: RequestSource | None = None) -> None:
        """Notes that traffic begins, and what it sends to one proxy alone."""
        if not self._running:
            self.source = source
            self.shares = {} if at_proxy is None else {app: at_proxy.share_of(app) for app in at_proxy.apps}
            self.asked = () if at_proxy is None else at_proxy.one_of_each_app
            self.slowness = Slowness()
        self._running.append(source)

    def end(self, source: str) -> None:
        """Notes that traffic ends."""
        self._running = [one for one in self._running if one != source]

    def serving(self, candidates: Sequence[Component]) -> list[Component]:
        """Those of the candidates that answers of the traffic name.

        Where no answer names any, those of the apps that traffic goes to; all of them where that is unknown.
        """
        good = [r for r in self._history.requests_since(self.steady_since) if not r.lost] if self._running else []
        named = {name for r in good for name in (*r.replicas, r.path)}
        found = [c for c in candidates if (c.replica if c.role == "replica" else c.name) in named]
        asked = [c for c in candidates if c.role != "replica" or (c.deployment or "").partition("#")[0] in self.shares]
        return found or (asked if self._running else []) or list(candidates)

    def answers_of(self, victims: Collection[Component], *, since: float) -> int:
        """How many good answers requests scheduled since then got from these replicas and proxies.

        Where no answer names the replicas (children of a composed app), their logs say how many requests they had.
        """
        replicas = [c for c in victims if c.role == "replica" and c.replica]
        proxies = {c.name for c in victims if c.role == "proxy"}
        names = {c.replica for c in replicas}
        good = [r for r in self._history.requests_since(since) if not r.lost]
        answered = sum(r.path in proxies or not names.isdisjoint(r.replicas) for r in good)
        return answered or len(requests_logged(self._cluster, replicas, since))

    def only_probed(self, victims: Collection[Component], *, since: float) -> bool:
        """Whether none of the requests that are judged is known to have gone through these, but probes have.

        Where each proxy has an address of its own, persistent connections go to it, wherever the user's URL leads. On a
        shared address they show where that leads to.
        """
        good = [r for r in self._history.requests_since(since) if not r.lost]
        if self._cluster.capability(HAS_PROXY_ENDPOINTS) is None:
            return False
        names = {c.replica for c in victims if c.role == "replica"}
        proxies = {c.name for c in victims if c.role == "proxy"}
        judged = any(not r.kept and not names.isdisjoint(r.replicas) for r in good)
        return not judged and any(r.kept and (r.path in proxies or not names.isdisjoint(r.replicas)) for r in good)
