"""The Redis of a RayService file: found through the Service that the RayService names, and moved out of harm's way."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, cast

from pytest_serve_chaos.cluster.kubernetes.client.records import inner, listed, mapped, name_of, text
from pytest_serve_chaos.cluster.kubernetes.install.file_rules import ray_container
from pytest_serve_chaos.cluster.kubernetes.rayservice.redis import RedisStore
from pytest_serve_chaos.cluster.kubernetes.rayservice.redis_kind import (
    SENTINEL_PORT,
    listening,
    mode_of_pod,
    tls_arguments,
)
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.manifests import Manifest
from pytest_serve_chaos.model import Json

if TYPE_CHECKING:
    from pytest_serve_chaos.cluster.kubernetes.install.rayservice_file import OwnFile

_ADDRESS = re.compile(r"(?:.*@)?(?P<host>[^@:]+)(?::(?P<port>\d+))?$")
_PORT = 6379
_DOMAIN = "cluster.local"
"""The domain of a kind cluster."""
_OF_A_SET = re.compile(r"(?P<workload>.+)-(?P<ordinal>\d+)$")


@dataclass(frozen=True, slots=True)
class OwnRedis:
    """What a file says of the Redis under the GCS.

    Attributes:
        address: What the RayService calls it, ``host:port``; "" where it names none.
        service: Its Service in the file, None where there is none.
        workload: The Deployment or StatefulSet behind that Service, likewise.
        store: How it is held and asked; None where it is not in the file.
        host: The address without port, user, and what only names the namespace; "" where it names none.
    """

    address: str = field(default="", repr=False)
    service: Manifest | None = field(default=None, repr=False)
    workload: Manifest | None = field(default=None, repr=False)
    store: RedisStore | None = None
    host: str = ""

    def address_in(self, namespace: str) -> str:
        """The address for pods of that namespace, in which Redis is: as it is, unless it names another one.

        The same goes for the domain of another cluster, which nobody can resolve in a kind cluster.
        """
        found = _ADDRESS.match(self.address)
        if found is None or not self.host or found["host"] == self.host:
            return self.address
        rest = found["host"][len(self.host) + 1 :].rstrip(".")
        if rest in (namespace, f"{namespace}.svc", f"{namespace}.svc.{_DOMAIN}"):
            return self.address
        return self.address.replace(found["host"], self.host, 1)


def find_redis(own: OwnFile) -> OwnRedis:
    """Finds the Redis of a file's RayService.

    Raises:
        SettingsError: It can only be in the cluster, and is not in the file.
    """
    address = own.found.redis
    found = _ADDRESS.match(address)
    if own.spec.gcs != "redis" or found is None:
        return OwnRedis(address)
    labels = found["host"].split(".")
    service, host = _service(own, labels)
    if service is None:
        _refuse_lost(own, labels)
        return OwnRedis(address)
    workload = _workload(own, service)
    if workload is None:
        return OwnRedis(address, service, host=host)
    store = _store(own, service, workload, int(found["port"] or _PORT))
    return OwnRedis(address, service, workload, store, host)


def lost_redis(own: OwnFile) -> tuple[str, str]:
    """Why the RayService cannot find its Redis, and the way out; "" where nothing is known against it."""
    found = _ADDRESS.match(own.found.redis)
    if own.found.gcs == "redis" and found is not None:
        labels = found["host"].split(".")
        try:
            service, _ = _service(own, labels)
            if service is None:
                _refuse_lost(own, labels)
            else:
                _check_port(service, int(found["port"] or _PORT))
        except SettingsError as error:
            seen = f" (seen: {'; '.join(error.checked)})" if error.checked else ""
            return f"{error.what}{seen}", ", ".join(error.fix)
    return "", ""


def _service(own: OwnFile, labels: list[str]) -> tuple[Manifest | None, str]:
    """The Service of a host name, and that name without the namespace.

    A name is that of the Service, or that of a pod of a StatefulSet and then its Service: ``redis-0.redis-headless``.
    """
    services = {name_of(item): item for item in own.of_kind("Service")}
    if labels[0] in services:
        return services[labels[0]], labels[0]
    pod = _OF_A_SET.match(labels[0])
    if pod is None or len(labels) < 2 or labels[1] not in services:
        return None, ""
    service = services[labels[1]]
    workload = _workload(own, service)
    if workload is not None:
        _check_pod(own, labels, pod, workload)
    return service, ".".join(labels[:2])


def _check_pod(own: OwnFile, labels: list[str], pod: re.Match[str], workload: Manifest) -> None:
    """Whether the StatefulSet behind the Service gives a pod that name."""
    spec = mapped(workload.get("spec"))
    replicas = spec.get("replicas", 1)
    kind, name = str(workload["kind"]), name_of(workload)
    is_there = int(pod["ordinal"]) < replicas if isinstance(replicas, int) else True
    wrong = [
        *([f"its pods are those of a {kind}, which have no names in the DNS"] if kind != "StatefulSet" else []),
        *([f"the StatefulSet is called {name}"] if pod["workload"] != name else []),
        *(
            [f"its serviceName is {text(spec, 'serviceName') or 'not set'}"]
            if text(spec, "serviceName") != labels[1]
            else []
        ),
        *([] if is_there else [f"it has {replicas} pods"]),
    ]
    if wrong:
        raise SettingsError(
            f"the RayService looks for Redis in the pod {labels[0]} of the Service {labels[1]}, and there is none",
            checked=wrong,
            fix=["correct redisAddress, or the StatefulSet", f"or give the Service alone: {labels[1]}"],
        )


def _check_port(service: Manifest, port: int) -> None:
    """Whether the Service has the port of the address; one without an address of its own leads to all of its pods'."""
    spec = mapped(service.get("spec"))
    ports = [item.get("port") for item in listed(spec.get("ports"))]
    if ports and port not in ports and text(spec, "clusterIP") != "None":
        raise SettingsError(
            f"the RayService looks for Redis at port {port} of the Service {name_of(service)}, which does not have it",
            checked=[f"its ports: {', '.join(map(str, ports))}"],
            fix=["correct the port of redisAddress, or that of the Service"],
        )


def _refuse_lost(own: OwnFile, labels: list[str]) -> None:
    """Refuses a name that can only be in the cluster; one of the internet may be reached."""
    namespaces = {text(mapped(item.get("metadata")), "namespace") for item in (own.ray_service, *own.others)}
    pod = _OF_A_SET.match(labels[0]) if len(labels) > 1 else None
    service = labels[0] if pod is None else labels[1]
    of_the_file = pod is not None and pod["workload"] in map(name_of, own.of_kind("StatefulSet"))
    if len(labels) == 1 or of_the_file or "svc" in labels or labels[-1] in namespaces:
        raise SettingsError(
            f"the file has no Service {service}, at which its RayService looks for Redis",
            checked=[f"Service {name_of(s)}" for s in own.of_kind("Service")] or ["no Service at all"],
            fix=["put Redis into the file: its Service, its Deployment, and the Secret or ConfigMap that it needs"],
        )


def _workload(own: OwnFile, service: Manifest) -> Manifest | None:
    """What runs the pods that the Service selects."""
    selector = inner(service, "spec", "selector")
    for item in own.of_kind("Deployment", "StatefulSet"):
        if selector and selector.items() <= inner(item, "spec", "template", "metadata", "labels").items():
            return item
    return None


def _store(own: OwnFile, service: Manifest, workload: Manifest, port: int) -> RedisStore:
    replicas = mapped(workload.get("spec")).get("replicas", 1)
    user, no_user = _given(own, "redisUsername", "redis-username", "REDIS_USERNAME")
    password, no_password = _given(own, "redisPassword", "redis-password", "REDIS_PASSWORD")
    port = _container_port(service, workload, port)
    template, configs = inner(workload, "spec", "template"), _configs(own, workload)
    pod = mapped(template.get("spec"))
    mode, shown = mode_of_pod(pod, inner(template, "metadata", "labels"), port, configs)
    return RedisStore(
        kind=cast('Literal["Deployment", "StatefulSet"]', workload["kind"]),
        name=name_of(workload),
        replicas=replicas if isinstance(replicas, int) else 1,
        port=port,
        user=user,
        password=password,
        unknown=no_password or no_user,
        tls=tls_arguments(pod, port, configs) if own.found.redis_tls else (),
        mode=mode,
        shown=shown,
        container=text(listening(listed(pod.get("containers")), port), "name"),
    )


def _configs(own: OwnFile, workload: Manifest) -> dict[str, str]:
    """The files that the pods mount from the file's ConfigMaps and Secrets, name -> text."""
    volumes = listed(inner(workload, "spec", "template", "spec").get("volumes"))
    used = {("ConfigMap", text(mapped(v.get("configMap")), "name")) for v in volumes}
    used |= {("Secret", text(mapped(v.get("secret")), "secretName")) for v in volumes}
    items = [item for item in own.of_kind("ConfigMap", "Secret") if (str(item["kind"]), name_of(item)) in used]
    parts = [mapped(i.get("stringData" if i["kind"] == "Secret" else "data")) for i in items]
    return {name: str(value) for part in parts for name, value in part.items()}


def note_of(redis: OwnRedis) -> str:
    """What a user should know, before a cluster exists, of what Ray has as its Redis; "" for an ordinary one."""
    store = redis.store
    if store is None:
        is_sentinel = redis.address.endswith(f":{SENTINEL_PORT}")
        return f"{redis.address} is the port of a Sentinel: Ray asks it for the Redis behind it" if is_sentinel else ""
    if store.mode not in ("sentinel", "cluster"):
        return ""
    what = f"what the RayService has as its Redis, {store.kind} {store.name}, is"
    if store.mode == "sentinel":
        return f"{what} a Sentinel ({store.shown}): Ray asks it for the Redis behind it; `redis_failure` is skipped"
    skipped = "; `redis_failure` is skipped" if store.replicas > 1 else ""
    return f"{what} a Redis Cluster ({store.shown}): Ray takes one with a single shard only{skipped}"


def _container_port(service: Manifest, workload: Manifest, port: int) -> int:
    """The port in the container behind a port of the Service."""
    row = next((p for p in listed(inner(service, "spec").get("ports")) if p.get("port") == port), {})
    target = row.get("targetPort", port)
    if isinstance(target, str):
        containers = listed(inner(workload, "spec", "template", "spec").get("containers"))
        named = [p.get("containerPort") for c in containers for p in listed(c.get("ports")) if p.get("name") == target]
        target = next(iter(named), port)
    return target if isinstance(target, int) else port


def _given(own: OwnFile, option: str, parameter: str, variable: str) -> tuple[str, str]:
    """What the RayService tells Ray about Redis, or why that is unknown; the other one is ""."""
    cluster = inner(own.ray_service, "spec", "rayClusterConfig")
    if cluster.get("gcsFaultToleranceOptions") is not None:
        return _value(own, inner(cluster, "gcsFaultToleranceOptions", option))
    head = mapped(cluster.get("headGroupSpec"))
    given = text(mapped(head.get("rayStartParams")), parameter)
    if given and not given.startswith("$"):
        return given, ""
    name = given.strip("${}()") or variable
    return _value(own, next((v for v in listed(ray_container(head).get("env")) if text(v, "name") == name), {}))


def _value(own: OwnFile, given: Mapping[str, Json]) -> tuple[str, str]:
    if "valueFrom" not in given:
        return text(given, "value"), ""
    for reference, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
        where = inner(given, "valueFrom", reference)
        if where:
            return _looked_up(own, kind, text(where, "name"), text(where, "key"))
    return "", f"it comes from {', '.join(inner(given, 'valueFrom'))}"


def _looked_up(own: OwnFile, kind: str, name: str, key: str) -> tuple[str, str]:
    item = next((i for i in own.of_kind(kind) if name_of(i) == name), None)
    if item is None:
        raise SettingsError(
            f"{own.path} has no {kind} {name}, from which its RayService takes the credentials for Redis",
            checked=[f"{i['kind']} {name_of(i)}" for i in own.others],
            fix=[f"put the {kind} {name} into the file"],
        )
    plain = mapped(item.get("stringData" if kind == "Secret" else "data"))
    encoded = mapped(item.get("data"))
    try:
        return (str(plain[key]) if key in plain else base64.b64decode(str(encoded[key]), validate=True).decode()), ""
    except (KeyError, binascii.Error, UnicodeDecodeError):
        return "", f"{kind} {name} has no text at {key}"
