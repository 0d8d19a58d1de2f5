"""What pods say of how a cluster is set up: where Redis is, whether it persists, how workers drain, what restarted.

For reports, what it runs on: Kubernetes' version, and the images of KubeRay's operator and of Redis.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from pytest_serve_chaos import clock
from pytest_serve_chaos.analysis.configuration import DRAIN_TIMEOUT, GRACE_PERIOD, STOP_HOOK, Room, Setup
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.records import (
    Pod,
    inner,
    listed,
    mapped,
    name_of,
    seconds,
    text,
)
from pytest_serve_chaos.cluster.kubernetes.logs.operator import SELECTOR
from pytest_serve_chaos.cluster.kubernetes.rayservice.gcs_storage import DURABLE
from pytest_serve_chaos.cluster.kubernetes.rayservice.pods import RayPods
from pytest_serve_chaos.cluster.kubernetes.rayservice.redis_kind import RedisMode
from pytest_serve_chaos.cluster.kubernetes.rayservice.room import limits_of, room
from pytest_serve_chaos.cluster.profiles import drain_timeout, reconnect_timeout
from pytest_serve_chaos.errors import ObservationError
from pytest_serve_chaos.model import Json

BACK_OFF_FORGOTTEN = 600.0
"""Seconds without an end after which the kubelet starts a container at once again.

https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#container-restarts
"""


class PodSetup:
    """How a RayService is set up. Has the capability `KnowsItsSetup`.

    Args:
        api: The Kubernetes API.
        pods: The pods.
        ray_version: ``2.60.0``.
        redis: Returns Redis' pods as plain data, where they are known.
        mode: Returns what these are.
        upgrades: Whether there may be a second RayCluster like the first.
    """

    def __init__(
        self,
        api: KubeApi,
        pods: RayPods,
        ray_version: str,
        redis: Callable[[], Sequence[Mapping[str, Json]]],
        mode: Callable[[Sequence[Mapping[str, Json]]], RedisMode] = lambda _: "",
        *,
        upgrades: bool = False,
    ) -> None:
        self._api = api
        self._pods = pods
        self._ray_version = ray_version
        self._redis = redis
        self._mode = mode
        self._upgrades = upgrades

    def setup(self) -> Setup:
        """What the pods say of it."""
        try:
            named = self._pods.named()
            selector = f"{names.RAY_CLUSTER}={self._pods.ray_cluster},{names.RAY_NODE_TYPE}=worker"
            workers = self._api.raw_pods(selector)
            redis = self._redis()
        except ObservationError:
            return Setup()
        machines = {name: pod.node for name, pod in named if pod.node}
        restarted = started_again(named, clock.wall_time())
        mode = self._mode(redis)
        found = setup_of(machines, workers, redis, self._ray_version, restarted=restarted, mode=mode)
        return replace(found, room=self._room({pod.name: name for name, pod in named if not pod.deleting}))

    def _room(self, names_of: Mapping[str, str]) -> Room:
        """Whether the namespace has room for what a recovery needs; nothing where that cannot be looked at."""
        try:
            limits = limits_of(self._api)
            items = self._api.raw_pods(f"{names.RAY_CLUSTER}={self._pods.ray_cluster}") if limits else ()
        except ObservationError:
            return Room()
        pods = {names_of[name_of(item)]: item for item in items if name_of(item) in names_of}
        return room(limits, pods, several=self._upgrades)


def setup_of(
    machines: Mapping[str, str],
    workers: Sequence[Mapping[str, Json]],
    redis: Sequence[Mapping[str, Json]],
    ray_version: str,
    *,
    restarted: Sequence[str] = (),
    mode: RedisMode = "",
) -> Setup:
    """What pods alone show.

    Args:
        machines: Ray node (``head``) -> Kubernetes node.
        workers: The worker pods, as plain data.
        redis: Redis' pods, likewise; none where it is not known, or not in this cluster.
        ray_version: ``2.60.0``.
        restarted: What `started_again` gave.
        mode: What Redis' pods are. Those of a Sentinel are not Redis, so nothing is known of the one behind it.
    """
    redis = () if mode == "sentinel" else redis
    limits: dict[str, float] = {}
    for pod in workers:
        for what, after in _drain_limits(pod, ray_version).items():
            limits[what] = min(after, limits.get(what, after))
    return Setup(
        redis_persists=any(_persists(pod) for pod in redis) if redis else None,
        redis_mode=mode,
        redis_machine=text(mapped(redis[0].get("spec")), "nodeName") or None if len(redis) == 1 else None,
        machines=machines,
        drain_limits=limits,
        restarted=tuple(restarted),
        reconnect=min(filter(None, (reconnect_timeout(_environment(pod)) for pod in workers)), default=None),
    )


def started_again(pods: Sequence[tuple[str, Pod]], now: datetime) -> tuple[str, ...]:
    """The Ray nodes whose container was started again so recently that the kubelet puts its next start off.

    Args:
        pods: Ray's pods with their names.
        now: The time of day here; where the clock of their machine is ahead of it, their last end is in the future.
    """
    since = now - timedelta(seconds=BACK_OFF_FORGOTTEN)
    return tuple(name for name, pod in pods if not pod.deleting and (e := _last_end(pod)) is not None and e > since)


def _last_end(pod: Pod) -> datetime | None:
    """When its first container ended for the last time before it was, or is to be, started again."""
    try:
        found = datetime.fromisoformat(pod.main.ended.replace("Z", "+00:00")) if pod.main is not None else None
    except ValueError:
        return None
    return None if found is None or found.tzinfo is None else found


def _persists(pod: Mapping[str, Json]) -> bool:
    spec = mapped(pod.get("spec"))
    durable = {text(v, "name") for v in listed(spec.get("volumes")) if any(kind in v for kind in DURABLE)}
    for container in listed(spec.get("containers")):
        mounted = {text(mount, "name") for mount in listed(container.get("volumeMounts"))}
        if mounted & durable and not _saves_nothing(container):
            return True
    return False


def _saves_nothing(container: Mapping[str, Json]) -> bool:
    """Whether its arguments switch off both of the ways in which Redis writes to disk."""
    words = [str(word) for key in ("command", "args") for word in _words(container.get(key))]
    given = dict(itertools.pairwise(words))
    return given.get("--save") in ("", '""') and given.get("--appendonly") == "no"


def _drain_limits(pod: Mapping[str, Json], ray_version: str) -> dict[str, float]:
    """What ends the drain of a worker, and after how many seconds; nothing where that is not known of this Ray."""
    spec = mapped(pod.get("spec"))
    container = next(iter(listed(spec.get("containers"))), {})
    hook = mapped(mapped(mapped(container.get("lifecycle")).get("preStop")).get("exec"))
    limits: dict[str, float] = {}
    if "ray stop" in " ".join(str(word) for word in _words(hook.get("command"))):
        limits[STOP_HOOK] = 0.0  # it ends Ray before SIGTERM is sent, and the drain begins with that
    drain = drain_timeout(_environment(pod), ray_version)
    if drain is None:
        return limits
    limits[DRAIN_TIMEOUT] = drain
    grace = seconds(spec, "terminationGracePeriodSeconds", -1.0)
    return limits if grace < 0 else {**limits, GRACE_PERIOD: grace}


def _environment(pod: Mapping[str, Json]) -> dict[str, str]:
    """The environment of a pod's first container, which is Ray's."""
    container = next(iter(listed(mapped(pod.get("spec")).get("containers"))), {})
    return {text(variable, "name"): text(variable, "value") for variable in listed(container.get("env"))}


def _words(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def versions(api: KubeApi, *, operator_namespace: str | None = None, redis: str | None = None) -> dict[str, Json]:
    """Those that can be seen, by the names that the details of a description have for them.

    Args:
        api: The Kubernetes API, in the RayService's namespace.
        operator_namespace: Where KubeRay's operator is; None: perhaps in that namespace.
        redis: Labels of the Redis pod; None where there is none that is known.
    """
    found: dict[str, Json] = {
        "kubernetes version": _kubernetes(api),
        "operator image": _image(api, SELECTOR, operator_namespace),
        "redis image": "" if redis is None else _image(api, redis, None),
    }
    return {name: what for name, what in found.items() if what}


def _kubernetes(api: KubeApi) -> str:
    try:
        return api.objects.version()
    except ObservationError:
        return ""


def _image(api: KubeApi, selector: str, namespace: str | None) -> str:
    """The image of the first container of such a pod; "" where none can be seen."""
    try:
        pods = api.raw_pods(selector, namespace=namespace)
    except ObservationError:
        return ""
    containers = [container for pod in pods for container in listed(inner(pod, "spec").get("containers"))[:1]]
    return text(containers[-1], "image") if containers else ""
