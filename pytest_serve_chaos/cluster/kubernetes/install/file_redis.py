"""The Redis of a RayService file: found through the Service that the RayService names, and moved out of harm's way."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

from pytest_serve_chaos.cluster.kubernetes.client.records import inner, listed, mapped, name_of, text
from pytest_serve_chaos.cluster.kubernetes.install.file_rules import ray_container
from pytest_serve_chaos.cluster.kubernetes.install.rayservice_file import OwnFile
from pytest_serve_chaos.cluster.kubernetes.rayservice.redis import RedisStore
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.manifests import Manifest
from pytest_serve_chaos.model import Json

_ADDRESS = re.compile(r"(?:.*@)?(?P<service>[^.:]+)(?:\.(?P<rest>[^:]+))?(?::(?P<port>\d+))?$")


@dataclass(frozen=True, slots=True)
class OwnRedis:
    """What a file says of the Redis under the GCS.

    Attributes:
        address: What the RayService calls it, ``host:port``; "" where it names none.
        service: Its Service in the file, None where there is none.
        workload: The Deployment or StatefulSet behind that Service, likewise.
        store: How it is held and asked; None where it is not in the file.
    """

    address: str = field(default="", repr=False)
    service: Manifest | None = field(default=None, repr=False)
    workload: Manifest | None = field(default=None, repr=False)
    store: RedisStore | None = None

    @property
    def bare_address(self) -> str:
        """The address without a namespace: the Service is in that of the RayService now."""
        found = _ADDRESS.match(self.address)
        if found is None or self.service is None or not found["rest"]:
            return self.address
        return self.address.replace(f"{found['service']}.{found['rest']}", found["service"], 1)


def find_redis(own: OwnFile) -> OwnRedis:
    """Finds the Redis of a file's RayService.

    Raises:
        SettingsError: It can only be in the cluster, and is not in the file.
    """
    address = own.found.redis
    found = _ADDRESS.match(address)
    if own.spec.gcs == "none" or found is None:
        return OwnRedis(address)
    service = next((s for s in own.of_kind("Service") if name_of(s) == found["service"]), None)
    if service is None:
        _refuse_lost(own, found["service"], found["rest"] or "")
        return OwnRedis(address)
    workload = _workload(own, service)
    if workload is None:
        return OwnRedis(address, service)
    return OwnRedis(address, service, workload, _store(own, service, workload, int(found["port"] or 6379)))


def _refuse_lost(own: OwnFile, service: str, rest: str) -> None:
    if not rest or "svc" in rest.split("."):
        raise SettingsError(
            f"{own.path} has no Service {service}, at which its RayService looks for Redis",
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
    return RedisStore(
        kind=cast('Literal["Deployment", "StatefulSet"]', workload["kind"]),
        name=name_of(workload),
        replicas=replicas if isinstance(replicas, int) else 1,
        port=_container_port(service, workload, port),
        user=user,
        password=password,
        unknown=no_password or no_user,
    )


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
