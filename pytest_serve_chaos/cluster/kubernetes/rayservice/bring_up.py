"""Waiting until a RayService serves, and saying what it waits for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.asking import way_to
from pytest_serve_chaos.cluster.base import Progress
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.records import listed, mapped, ray_clusters_of, text
from pytest_serve_chaos.cluster.kubernetes.client.waits import newest_warnings, wait_for
from pytest_serve_chaos.cluster.kubernetes.rayservice.probe import Probe
from pytest_serve_chaos.cluster.rest import Dashboard, GivenUp
from pytest_serve_chaos.masking import masked
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.traffic.request import WRONG_ANSWER, Message, Outcome, RequestSpec
from pytest_serve_chaos.traffic.transports.http import send_once

T = TypeVar("T")

_NOT_THERE = (502, 503, 504)
"""What a proxy answers where it has nobody to ask."""
_WARM_WITHIN = 3.0
"""Seconds in which an app that answers may begin to answer well; it is not waited for longer."""


class BringUp:
    """Waits for one RayService, phase by phase. An API server or a head that does not answer is waited for, too.

    Args:
        api: The Kubernetes API, in the RayService's namespace.
        ray_service: The RayService's name.
        progress: Prints a line about each phase, and now and then what a long one waits for.
        complaints: What the operator complains about, a line each.
        timeout: Seconds for each phase.
        probe: What the traffic will ask.
    """

    def __init__(
        self,
        api: KubeApi,
        ray_service: str,
        *,
        progress: Progress,
        complaints: Callable[[], Sequence[str]],
        timeout: float,
        probe: Probe | None = None,
    ) -> None:
        self._api = api
        self._ray_service = ray_service
        self._progress = progress
        self._complaints = complaints
        self._timeout = timeout
        self._probe = probe or Probe()

    def ray_cluster(self) -> str:
        """Waits for the RayCluster that KubeRay makes for the RayService, and returns its name."""

        def probe() -> str | NotYet:
            item = self._api.ray_service(self._ray_service)
            return serving(item) or NotYet(_conditions(mapped(item.get("status"))))

        return self._wait("KubeRay to make a RayCluster", probe)

    def pods(self, ray_cluster: str, number: int) -> None:
        """Waits until the containers of that many Ray pods run."""

        def probe() -> bool | NotYet:
            pods = self._api.pods(f"{names.RAY_CLUSTER}={ray_cluster},{names.RAY_NODES}")
            running = [pod for pod in pods if pod.main is not None and pod.main.running]
            return len(running) >= number or NotYet("; ".join(pod.summary for pod in pods) or "no pods")

        self._wait(f"{number} Ray pods to run", probe)

    def serve(self, dashboard: Dashboard) -> None:
        """Waits until Serve says that every app runs with all its replicas.

        Raises:
            ClusterStartError: Serve has given an app up.
        """
        given_up = GivenUp()

        def probe() -> bool | NotYet:
            status = dashboard.serve()
            given_up.check(status)
            running = [replica for replica in status.replicas if replica.state == "RUNNING"]
            wanted = sum(status.targets.values())
            if status.apps and set(status.apps.values()) == {"RUNNING"} and len(running) >= wanted:
                return True
            apps = [f"{app} {state} {status.messages.get(app, '')}".strip() for app, state in status.apps.items()]
            return NotYet(f"{len(running)} of {wanted} replicas; " + ("; ".join(apps) or "no apps"))

        self._wait("Serve to run its apps", probe)

    def head(self, ray_cluster: str, dashboard: Dashboard) -> None:
        """Waits until the head of a RayCluster answers, by its state API and by Serve's REST, whatever runs on it."""

        def probe() -> bool | NotYet:
            pods = self._api.pods(f"{names.RAY_CLUSTER}={ray_cluster},{names.RAY_NODE_TYPE}=head")
            alive = {row.address for row in dashboard.nodes() if row.state == "ALIVE"}
            dashboard.serve()
            # By address: a GCS remembers the nodes of a run that had its namespace before.
            return any(pod.ip in alive for pod in pods) or NotYet(f"the GCS has {sorted(alive)} as ALIVE nodes")

        self._wait(f"the head of {ray_cluster} to answer", probe)

    def ready(self) -> None:
        """Waits until KubeRay says that the RayService is Ready."""

        def probe() -> bool | NotYet:
            status = mapped(self._api.ray_service(self._ray_service).get("status"))
            ready = any(
                c.get("type") == "Ready" and c.get("status") == "True" for c in listed(status.get("conditions"))
            )
            return ready or NotYet(_conditions(status))

        self._wait("the RayService to be Ready", probe)

    def traffic(self, url: str, config: Mapping[str, Json] | None = None) -> None:
        """Waits until each app answers the request that the traffic will send to it.

        An answer that is not good also shows that requests reach the app. The start waits for a better one for a moment
        only: tests may send other requests, and an app that is broken is better reported by them.

        Args:
            url: Where the proxies are; without a config, where the app answers.
            config: The Serve config, whose apps are asked.
        """
        way = way_to(self._probe.asking, config or {}, home=url, url=None if config else url)
        for message in way.messages.one_of_each_app:
            self._answers(self._probe.to(way.url), message)

    def _answers(self, spec: RequestSpec, message: Message) -> None:
        url, answered = masked(spec.url_of(message)), Answered()

        def probe() -> bool | NotYet:
            outcome = send_once(spec, message)
            return answered.look(outcome) or NotYet(answered.seen)

        self._wait(f"{url} to answer", probe)
        if answered.seen:
            asked = f"{message.method} {url}"
            self._progress(f"kuberay: requests reach the app, and it does not answer {asked} well: {answered.seen}")

    def _wait(self, what: str, probe: Callable[[], T | NotYet]) -> T:
        return wait_for(what, probe, timeout=self._timeout, progress=self._progress, why=self._why)

    def _why(self) -> Sequence[str]:
        return [*newest_warnings(self._api, self._api.namespace), *self._complaints()]


class Answered:
    """Whether requests reach an app, judged by one request after the other.

    Attributes:
        seen: What became of the last request; "" if it was answered well.
    """

    def __init__(self) -> None:
        self.seen = ""
        self._since: float | None = None

    def look(self, outcome: Outcome) -> bool:
        """Whether requests reach the app, given the outcome of one more."""
        self.seen = outcome.error or ""
        if outcome.status is None or outcome.status in _NOT_THERE:
            self._since = None
            return False
        if outcome.status < 500 and outcome.error != WRONG_ANSWER:
            return True
        self._since = outcome.finished if self._since is None else self._since
        return clock.now() - self._since >= _WARM_WITHIN


def serving(item: Mapping[str, Json]) -> str:
    """The RayCluster that serves, as a RayService's status has it, or that is to where none does yet; "" if none is."""
    active, pending = ray_clusters_of(item)
    return active or pending


def _conditions(status: Mapping[str, Json]) -> str:
    conditions = listed(status.get("conditions"))
    said = [f"{text(c, 'type')}={text(c, 'status')} ({text(c, 'reason')} {text(c, 'message')})" for c in conditions]
    return "; ".join(said) or "no status yet"
