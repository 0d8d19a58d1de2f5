"""An external RayService: faults break it as far as its owner allows, and nothing else changes it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from signal import SIGCONT, SIGKILL, SIGSTOP
from typing import Literal
from urllib.parse import urlsplit

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.base import Progress
from pytest_serve_chaos.cluster.capabilities import Endpoint
from pytest_serve_chaos.cluster.kuberay import names, rights
from pytest_serve_chaos.cluster.kuberay.api import KubeApi
from pytest_serve_chaos.cluster.kuberay.drain import EVICTED_WITHIN, cordon, evict_all, reopen
from pytest_serve_chaos.cluster.kuberay.existing_rayservice import FoundRayService
from pytest_serve_chaos.cluster.kuberay.external_policy import DRAIN, Terms
from pytest_serve_chaos.cluster.kuberay.log_stream import LogAccess
from pytest_serve_chaos.cluster.kuberay.lost_machines import TakenMachines
from pytest_serve_chaos.cluster.kuberay.pod_faults import BreakableRayService
from pytest_serve_chaos.cluster.kuberay.pod_watch import PodWatch
from pytest_serve_chaos.cluster.kuberay.probe import Probe, ask, new_request_id
from pytest_serve_chaos.cluster.kuberay.process_watch import ProcessWatch
from pytest_serve_chaos.cluster.kuberay.records import listed, mapped, text
from pytest_serve_chaos.cluster.kuberay.undo_entries import Ledger, Record
from pytest_serve_chaos.cluster.policy import Touch, touch_pod
from pytest_serve_chaos.cluster.rest import Dashboard
from pytest_serve_chaos.cluster.serve_config import applications, first_route, serve_port
from pytest_serve_chaos.errors import CommandFailed, NoSuchTarget, ObservationError, Unsupported, WaitTimeout
from pytest_serve_chaos.model import HEAD, ClusterDescription, Component, Evidence, Identity, Json, Loss

_REQUESTS = 24
"""To one proxy, to learn which replicas it knows: of three replicas one is missed once in 17 000 times."""
_LOGGED_WITHIN = 3.0
_DRAIN = "drain"
_OPENED_WITHIN = 45.0
"""Seconds to uncordon a drained node at the end, if healing could not; after that the user has to do it by hand."""


class BorrowedRayService(BreakableRayService):
    """A RayService that exists.

    Args:
        found: What it is.
        api: The Kubernetes API in its namespace; its guard lets nothing else be changed.
        dashboard: The dashboard of its head.
        description: What it is, for reports; has the address for traffic.
        probe: The request that traffic sends to it.
        lacking: The rights that this user does not have.
        allow: What may be broken in addition to pods: ``node``.
        targets: ``app#Deployment`` -> wanted replicas, as Serve said at the beginning.
        on_break: Called with a pod's name before something in it is stopped or flagged, so that it is on record;
            returns what takes it off the record.
        on_cordon: Called with a node's name before it is cordoned, so that its undoing is on record.
        on_uncordon: Called with that name when there is nothing to undo any more.
        on_close: Called when the cluster is closed.
        progress: Prints a line about a drained node that is not uncordoned.
        operator_namespace: Where KubeRay's operator is, and can be seen; None: perhaps in the RayService's namespace.
    """

    def __init__(
        self,
        found: FoundRayService,
        *,
        api: KubeApi,
        dashboard: Dashboard,
        description: ClusterDescription,
        probe: Probe,
        lacking: Collection[rights.Right],
        allow: Collection[str],
        targets: Mapping[str, int],
        on_break: Record = lambda _: lambda: None,
        on_cordon: Callable[[str], None] = lambda _: None,
        on_uncordon: Callable[[str], None] = lambda _: None,
        on_close: Callable[[], None] | None = None,
        progress: Progress = lambda _: None,
        operator_namespace: str | None = None,
    ) -> None:
        may_run = not set(rights.RUN) & set(lacking)
        super().__init__(
            found.spec,
            api=api,
            ray_service=found.name,
            ray_cluster=found.ray_cluster,
            dashboard=dashboard,
            serve_config=found.serve_config,
            description=description,
            pods=None if rights.WATCH in lacking else PodWatch(api),
            processes=ProcessWatch(api) if may_run else None,
            logs=LogAccess(output=rights.LOGS not in lacking, files=may_run, operator_namespace=operator_namespace),
            on_close=on_close,
        )
        self._found = found
        self._probe = probe
        self._last_targets = targets
        self._terms = Terms(found.spec, frozenset(lacking), allow, self._targets, self._has_flags)
        self._broken = Ledger(on_break)
        self._on_cordon = on_cordon
        self._on_uncordon = on_uncordon
        self._progress = progress
        self._asked_for: Collection[str] = ()
        self._drained = TakenMachines()

    # -- what may be done -------------------------------------------------------------------------------------

    def why_not(self, touch: Touch, asked_for: Collection[str]) -> str:
        """Why a fault cannot, or must not, be injected into this cluster; "" if it can."""
        return self._terms.why_not(touch, asked_for)

    def admit(self, touch: Touch, asked_for: Collection[str]) -> None:
        """Lets a fault pass, or refuses it.

        Raises:
            Unsupported: It cannot, or must not, be injected into this cluster.
        """
        self._asked_for = asked_for
        reason = self.why_not(touch, asked_for)
        if reason:
            raise Unsupported(reason)

    def kill_node(self, name: str, *, how: Literal["kill", "stop"], hold: bool) -> Sequence[Evidence]:
        """As elsewhere, if the policy allows it: a caller that has the cluster itself can do no more than a fault.

        Raises:
            Unsupported: It must not be done to this cluster.
        """
        self._refuse_to_lose(name, how, hold=hold)
        return super().kill_node(name, how=how, hold=hold)

    def _refuse_to_lose(self, node: str, how: str, *, hold: bool = False) -> None:
        # As Serve said last: an injection has asked it just now, and to ask again would take from its timing.
        policy = replace(self._terms, targets=lambda: self._last_targets)
        loses: tuple[Loss, ...] = ("head", "Ray node") if node == HEAD else ("worker", "Ray node", "replica")
        reason = policy.why_not(touch_pod(how, hold=hold, loses=loses), self._asked_for)
        if reason:
            raise Unsupported(reason)

    def _targets(self) -> Mapping[str, int]:
        """Those of now; where Serve does not say, or says that it has none, those that it said last.

        Without an answer nobody could tell the only replica from one of many, and it would be broken.
        """
        with contextlib.suppress(ObservationError):
            self._last_targets = self._dashboard.serve().targets or self._last_targets
        return self._last_targets

    def _has_flags(self) -> bool:
        selector = f"{names.RAY_CLUSTER}={self._ray_cluster},{names.RAY_NODE_TYPE}=worker"
        return any(_reads_flags(pod) for pod in self._api.raw_pods(selector))

    def apply_serve_config(self, config: Mapping[str, Json]) -> None:
        """Refuses: the config is its owner's.

        Raises:
            Unsupported: Always.
        """
        del config
        raise Unsupported("the plugin does not change the Serve config of an external RayService")

    # -- looking ----------------------------------------------------------------------------------------------

    def proxy_endpoint(self, proxy: Component) -> Endpoint:
        """The way to that proxy's pod through the API server, with the path to which the user's traffic goes."""
        way = self._api.access()
        pod = self._pod_of(proxy).name
        port = serve_port(self._serve_config)
        url = f"{way.server}/api/v1/namespaces/{self._api.namespace}/pods/{pod}:{port}/proxy"
        return Endpoint(url + path_in_serve(self.url, self._serve_config), way.headers(), way.ssl_context)

    def who_answers(self, proxy: Component) -> frozenset[str]:
        """Sends requests to one proxy alone, and reads who answered from the answers, or else from access logs.

        Returns:
            The replicas' ids; none where neither tells.
        """
        endpoint, request_id, begun = self.proxy_endpoint(proxy), new_request_id(), clock.now()
        named = {ask(endpoint, self._probe, request_id) for _ in range(_REQUESTS)} - {""}
        if named:
            return frozenset(name.rpartition("#")[2] for name in named)

        def logged() -> frozenset[str] | NotYet:
            return self._who_logged(request_id, begun) or NotYet("no replica has logged the request")

        try:
            return clock.wait_until("an access log", logged, timeout=_LOGGED_WITHIN, interval=1.0)
        except WaitTimeout:
            return frozenset()

    def _who_logged(self, request_id: str, since: float) -> frozenset[str]:
        files = ["serve/replica_*"]
        lines = self._logs.read(files, since=since - 1.0, lines=1000, expression=re.escape(request_id))
        return frozenset(found[1] for line in lines if (found := re.search(r"replica_\S*_(\w+)\.log: ", line)))

    def _redis_items(self) -> Sequence[Mapping[str, Json]]:
        """The pods behind the Service that the RayService names as its Redis."""
        host = self._found.redis.partition(":")[0]
        service, _, rest = host.partition(".")
        namespace = rest.partition(".")[0] or self._api.namespace
        if not service:
            return ()
        try:
            item = self._api.call("read_namespaced_service", service, namespace, what=f"Service {service}")
            selector = mapped(mapped(item.get("spec")).get("selector"))
            wanted = ",".join(f"{key}={value}" for key, value in selector.items())
            return self._api.raw_pods(wanted, namespace=namespace) if wanted else ()
        except (CommandFailed, ObservationError):
            return ()  # somewhere else, or not for us to see

    # -- in pods, on record -----------------------------------------------------------------------------------

    def signal_process(self, identity: Identity, signal: int) -> None:
        """As elsewhere; what is stopped is on record until it goes on, or is gone."""
        if signal == SIGSTOP and identity.kind == "process":
            self._broken.begin(str(identity), self._pod_with(identity).name)
        try:
            super().signal_process(identity, signal)
        except NoSuchTarget:
            self._broken.end(str(identity))
            raise
        if signal in (SIGCONT, SIGKILL):
            self._broken.end(str(identity))

    def freeze_node(self, name: str) -> Sequence[Evidence]:
        """As elsewhere, where the policy allows it; it is on record until it is thawed.

        Raises:
            Unsupported: It must not be done to this cluster.
        """
        self._refuse_to_lose(name, "freeze")
        self._broken.begin(name, self._running_pod(name).name)
        return super().freeze_node(name)

    def thaw_node(self, name: str) -> None:
        """As elsewhere."""
        super().thaw_node(name)
        self._broken.end(name)

    def set_health_flag(self, replica: Component, mode: Literal["raise", "hang"]) -> None:
        """As elsewhere; the flag is on record until it is taken away."""
        flag = f"flag of {replica.identity}"
        self._broken.begin(flag, self._pod_with(replica.identity).name)
        try:
            super().set_health_flag(replica, mode)
        except Unsupported:
            self._broken.end(flag)
            raise

    def clear_health_flag(self, replica: Component) -> None:
        """As elsewhere."""
        super().clear_health_flag(replica)
        self._broken.end(f"flag of {replica.identity}")

    # -- nodes ------------------------------------------------------------------------------------------------

    def drain_machine(self, name: str) -> Sequence[Evidence]:
        """Cordons the Kubernetes node under a Ray node and evicts this RayService's pods from it; waits for their end.

        Raises:
            Unsupported: The user did not allow it, or has no right to it, or too much of the RayService is on it.
            NoSuchTarget: The Ray node is not running, or its Kubernetes node is cordoned already, by somebody else.
            CommandFailed: It was refused.
            WaitTimeout: A PodDisruptionBudget did not allow it in time, or they did not go in their grace period.
        """
        # Before anything is on record: what was never cordoned must not be uncordoned by a later run.
        forbidden = self._terms.forbidden(DRAIN)
        if forbidden:
            raise Unsupported(forbidden)
        machine = self._running_pod(name).node
        item = self._api.call("read_node", machine, what=f"node {machine}")
        if mapped(item.get("spec")).get("unschedulable"):
            raise NoSuchTarget(f"{machine} is cordoned already, so the plugin does not drain it")
        pods = [(n, pod) for n, pod in self._named_pods() if pod.node == machine and self._live(pod)]
        too_much = self._terms.taken_along(name, [n for n, _ in pods])
        if too_much:
            raise Unsupported(too_much)
        watches = [self._removal(n, pod) for n, pod in pods]
        self._on_cordon(machine)
        self._drained.take(_DRAIN, name, machine)
        cordon(self._api, machine)
        evict_all(self._api, [pod for _, pod in pods], within=EVICTED_WITHIN)
        return [sign for watch in watches for sign in watch.evidence(by_force=False)]

    def reopen_machine(self, name: str) -> None:
        """Uncordons the node, unless somebody else has cordoned it meanwhile."""
        self._drained.give_back(_DRAIN, name, self._open)

    def _open(self, machine: str) -> None:
        left = reopen(self._api, machine)
        if left:
            self._progress(f"kubernetes: {left}")
        self._on_uncordon(machine)

    def close(self) -> None:
        """As elsewhere, and lets pods onto the nodes that could not be opened when their drain was healed.

        Raises:
            WaitTimeout: One cannot be opened now either.
        """
        try:
            self._open_what_is_cordoned()
        finally:
            super().close()

    def _open_what_is_cordoned(self) -> None:
        def opened() -> bool | NotYet:
            try:
                self._drained.give_all_back(_DRAIN, self._open)
            except CommandFailed as error:
                return NotYet(error.what)
            return True

        left = ", ".join(self._drained.left(_DRAIN))
        clock.wait_until(
            f"the cordon of {left} to be removed", opened, timeout=_OPENED_WITHIN, interval=2.0,
            fix=[f"run `serve-chaos undo`, or `kubectl uncordon` those of {left} that are still cordoned"],
        )  # fmt: skip


def path_in_serve(url: str, config: Mapping[str, Json]) -> str:
    """The path at a proxy that the user's URL stands for: its own, or the first app's route where a way in changed it.

    Args:
        url: Where the user's traffic goes.
        config: The Serve config.
    """
    parts = urlsplit(url)
    path = parts.path or "/"
    routes = [str(app.get("route_prefix") or "/") for app in applications(config)]
    known = any(path == route or path.startswith(route.rstrip("/") + "/") for route in routes)
    found = path if known else first_route(config)
    return found + (f"?{parts.query}" if parts.query else "")


def _reads_flags(pod: Mapping[str, Json]) -> bool:
    containers = listed(mapped(pod.get("spec")).get("containers"))
    return any(text(v, "name") == names.FLAGS_VARIABLE for c in containers for v in listed(c.get("env")))
