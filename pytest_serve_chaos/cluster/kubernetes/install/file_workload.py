"""Makes of a RayService file what is applied on kind, and says in words what was changed and why."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pytest_serve_chaos.analysis.configuration import LOST_WITH_HEAD, RAYSERVICE_FILE
from pytest_serve_chaos.cluster.blind_spots import blind_spots
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.records import inner, listed, mapped, name_of, text
from pytest_serve_chaos.cluster.kubernetes.install import render
from pytest_serve_chaos.cluster.kubernetes.install.file_kinds import OF_THE_CLUSTER
from pytest_serve_chaos.cluster.kubernetes.install.file_needs import without_foreign_places
from pytest_serve_chaos.cluster.kubernetes.install.file_network import with_ways_in
from pytest_serve_chaos.cluster.kubernetes.install.file_objects import FileObject, pods
from pytest_serve_chaos.cluster.kubernetes.install.file_pods import (
    ImageEnvironment,
    PodChanges,
    Say,
    ray_pod,
    redis_pod,
)
from pytest_serve_chaos.cluster.kubernetes.install.file_quotas import FOR_A_NAMESPACE, is_elsewhere, notes
from pytest_serve_chaos.cluster.kubernetes.install.file_redis import OwnRedis, find_redis, note_of
from pytest_serve_chaos.cluster.kubernetes.install.file_rules import ray_container
from pytest_serve_chaos.cluster.kubernetes.install.rayservice_file import OwnFile
from pytest_serve_chaos.cluster.kubernetes.install.workload import Workload
from pytest_serve_chaos.cluster.kubernetes.rayservice.ray_token import wants_token
from pytest_serve_chaos.cluster.local_code import code_of_config, named_by, without_directories
from pytest_serve_chaos.cluster.own_apps import OWN_APPS
from pytest_serve_chaos.cluster.ray_tokens import has_tokens
from pytest_serve_chaos.cluster.serve_config import applications, serve_config_text
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.manifests import Manifest, merge
from pytest_serve_chaos.model import Json

_VERSION = "ray.io/v1"


@dataclass(frozen=True, slots=True)
class OwnRayService:
    """A RayService of the user's own that is to be installed.

    Attributes:
        file: Where it is described.
        ray_image: The image for all Ray containers; None: those of the file.
        redis_image: The image of Redis, likewise.
        directories: Where the code of its apps is looked for.
        ray_version: Which Ray that image has; None: that of its tag.
    """

    file: OwnFile
    ray_image: str | None = None
    redis_image: str | None = None
    directories: tuple[Path, ...] = ()
    ray_version: str | None = None

    @property
    def image_of_head(self) -> str:
        """The image of the head's Ray container."""
        head = inner(self.file.ray_service, "spec", "rayClusterConfig", "headGroupSpec")
        return self.ray_image or text(ray_container(head), "image")


def own_workload(own: OwnRayService, labels: Mapping[str, str], environment: ImageEnvironment) -> Workload:
    """What is applied of it.

    Args:
        own: The RayService and the other objects of its file.
        labels: Labels for all that is made.
        environment: The environment that an image sets, None where Docker does not have that image.

    Raises:
        SettingsError: Its Redis is not in the file, or the code of its app cannot travel.
    """
    told = list(own.file.notes)
    redis = find_redis(own.file)
    if note := note_of(redis):
        told.append(note)
    told += notes([FileObject(item, 0) for item in (*own.file.others, own.file.ray_service)])
    config, local = _serve_config(own, told.append)
    code = {**render.package_code(), **local}
    changes = PodChanges(labels, code, own.ray_image, environment)
    service = _ray_service(own, config, changes, told.append)
    namespace = own.file.namespace
    service = _with_redis_address(service, redis, namespace, told.append)
    service = _in_namespace(service, namespace, labels, told.append)
    given = [*_before(own, redis, environment, told.append)]
    before = (
        *(_in_namespace(item, namespace, labels, told.append) for item in given),
        *_aliases(given, namespace, labels, told.append),
    )
    elsewhere = dict.fromkeys(space for item in given if (space := _namespace(item)) and space != namespace)
    changed = list(dict.fromkeys(told))
    return Workload(
        ray_service=service,
        before=before,
        serve_config=config,
        code=code,
        ray_images=_images([*(inner(g, "template", "spec") for g in _groups(service)), *_pods_of(before, "")]),
        redis_images=_images(_pods_of(before, "redis")),
        redis=redis.store,
        told=tuple(f"{own.file.path.name}: {line}" for line in changed),
        details={RAYSERVICE_FILE: str(own.file.path), "changed": [*changed], **_storage(own.file)},
        serve_service=name_of(inner(service, "spec", "serveService")) or f"{name_of(service)}-serve-svc",
        namespaces=(namespace, *elsewhere),
    )


def _storage(file: OwnFile) -> dict[str, Json]:
    return {LOST_WITH_HEAD: file.found.lost} if file.found.lost else {}


# -- the RayService ----------------------------------------------------------------------------------------------------


def _ray_service(own: OwnRayService, config: Mapping[str, Json], changes: PodChanges, say: Say) -> Manifest:
    item = own.file.ray_service
    if item["apiVersion"] != _VERSION:
        say(f"the RayService is applied as {_VERSION}, not {item['apiVersion']}")
    spec = {**mapped(item.get("spec")), "serveConfigV2": serve_config_text(config)}
    spec["serveService"] = _serve_service(mapped(spec.get("serveService")), say)
    cluster = mapped(spec.get("rayClusterConfig"))
    if cluster.get("enableInTreeAutoscaling"):
        say("there is a node for each worker that the file wants now: the autoscaler finds none for more")
    say("each Ray pod gets a node of its own, PYTHONPATH, and what else the plugin's code needs")
    head = _head(cluster, changes, say)
    workers: list[Json] = [
        _group(group, "worker", changes, say, f"group {text(group, 'groupName')}")
        for group in listed(cluster.get("workerGroupSpecs"))
    ]
    changed = {**cluster, "headGroupSpec": head, "workerGroupSpecs": workers}
    if changes.image:
        version = own.ray_version or render.version_of(changes.image)
        if version is None:
            say(render.without_version(changes.image))
        changed = merge(changed, {"rayVersion": version})
    _check_token(changed)
    return {**item, "apiVersion": _VERSION, "spec": {**spec, "rayClusterConfig": changed}}


def _check_token(cluster: Mapping[str, Json]) -> None:
    """What KubeRay would refuse after minutes, and only in its log."""
    version = text(cluster, "rayVersion")
    known = re.match(r"\d+\.\d+\.", version) is not None
    if wants_token(cluster) and not (known and has_tokens(version)):
        raise SettingsError(
            f"KubeRay takes authOptions with a rayVersion from 2.52.0 on only, and it is {version or 'not set'}",
            fix=["set rayClusterConfig.rayVersion", "or --serve-chaos-ray-version, for another Ray"],
        )


def _serve_service(given: Manifest, say: Say) -> Manifest:
    """What KubeRay makes of its Service for traffic: it leaves it the node port only if it is to have one."""
    if given.get("spec"):
        say("serveService.spec is left out: traffic comes through a node port")
    metadata = {key: value for key, value in mapped(given.get("metadata")).items() if key != "namespace"}
    return {**({"metadata": metadata} if metadata else {}), "spec": {"type": "NodePort"}}


def _head(cluster: Mapping[str, Json], changes: PodChanges, say: Say) -> Manifest:
    head = mapped(cluster.get("headGroupSpec"))
    if "replicas" in head:
        say(f"headGroupSpec.replicas is left out: {_VERSION} does not know it, and there is one head")
    return _group({key: value for key, value in head.items() if key != "replicas"}, "head", changes, say, "the head")


def _group(
    group: Mapping[str, Json], role: Literal["head", "worker"], changes: PodChanges, say: Say, where: str
) -> Manifest:
    return {**group, "template": ray_pod(mapped(group.get("template")), role, changes, say, where)}


def _groups(service: Manifest) -> list[dict[str, Json]]:
    cluster = inner(service, "spec", "rayClusterConfig")
    return [mapped(cluster.get("headGroupSpec")), *listed(cluster.get("workerGroupSpecs"))]


def _with_redis_address(service: Manifest, redis: OwnRedis, namespace: str, say: Say) -> Manifest:
    """The address without the name of another namespace than that of the RayService, in which Redis is here."""
    old, new = redis.address, redis.address_in(namespace)
    if old == new:
        return service
    say(f"Redis is called {new} and not {old}: its Service is in the namespace {namespace}")
    cluster = inner(service, "spec", "rayClusterConfig")
    if cluster.get("gcsFaultToleranceOptions") is not None:
        address = text(inner(cluster, "gcsFaultToleranceOptions"), "redisAddress").replace(old, new)
        return merge(service, {"spec": {"rayClusterConfig": {"gcsFaultToleranceOptions": {"redisAddress": address}}}})
    head = mapped(cluster.get("headGroupSpec"))
    _, *others = listed(inner(head, "template", "spec").get("containers"))
    ray = ray_container(head)
    variables: list[Json] = [
        merge(v, {"value": text(v, "value").replace(old, new)}) if text(v, "name") == "RAY_REDIS_ADDRESS" else v
        for v in listed(ray.get("env"))
    ]
    containers: list[Json] = [merge(ray, {"env": variables}), *others]
    pod: Manifest = {"headGroupSpec": {"template": {"spec": {"containers": containers}}}}
    return merge(service, {"spec": {"rayClusterConfig": pod}})


# -- its app -----------------------------------------------------------------------------------------------------------


def _serve_config(own: OwnRayService, say: Say) -> tuple[dict[str, Json], dict[str, str]]:
    """The Serve config, and the code of those of its apps that are on this machine."""
    config = own.file.found.serve_config
    local = code_of_config(config, own.directories)
    apps: list[Json] = []
    for app in applications(config):
        import_path = text(app, "import_path")
        app, note = without_directories(app, own.directories)
        if note:
            say(note)
        for path in [path for path in (import_path, *named_by(app)) if path in local]:
            what = "app " if path == import_path else ""
            say(f"{what}{path}: its code travels to the pods: {local[path]}")
        if import_path in local or import_path.startswith(OWN_APPS):
            app = _with_local_code(app, say)
        apps.append(app)
    code = {path: source for one in local.values() for path, source in one.modules.items()}
    for line in blind_spots(config):
        say(line)
    return {**config, "applications": apps}, code


def _with_local_code(app: Mapping[str, Json], say: Say) -> dict[str, Json]:
    given = mapped(app.get("runtime_env"))
    if given.get("working_dir"):
        say(f"app {text(app, 'import_path')}: runtime_env.working_dir {given['working_dir']} is left out")
    runtime = merge(given, {"working_dir": None})
    path = text(mapped(runtime.get("env_vars")), "PYTHONPATH")
    if path:
        runtime = merge(runtime, {"env_vars": {"PYTHONPATH": render.python_path(path)}})
    return {**{k: v for k, v in app.items() if k != "runtime_env"}, **({"runtime_env": runtime} if runtime else {})}


# -- all else ----------------------------------------------------------------------------------------------------------


def _before(own: OwnRayService, redis: OwnRedis, environment: ImageEnvironment, say: Say) -> Iterator[Manifest]:
    if redis.address and redis.store is None:
        say(
            f"no Deployment or StatefulSet of the file runs the Redis at {redis.address}, so the plugin leaves it alone"
        )
    for item in own.file.others:
        if item["kind"] == "Namespace":
            continue  # all that are needed are made
        if item["kind"] in FOR_A_NAMESPACE and is_elsewhere(item, own.file.ray_service):
            say(
                f"{item['kind']} {name_of(item)} is left out: it is for the namespace {_namespace(item)}, and here all"
                f" objects are in {own.file.namespace}"
            )
            continue
        if item["kind"] == "NetworkPolicy":
            item = with_ways_in(item, own.file.ray_service, say)
        if item is redis.workload:
            where = f"{item['kind']} {name_of(item)}"
            pod = redis_pod(inner(item, "spec", "template"), own.redis_image, environment, say, where)
            yield {**item, "spec": {**mapped(item.get("spec")), "template": pod}}
            continue
        if _pods_of([item], ""):
            say(f"the pods of {item['kind']} {name_of(item)} are on the nodes of Ray, and are lost with them")
        yield _anywhere(item, say)


def _anywhere(item: Manifest, say: Say) -> Manifest:
    """The object whose pods may be on any node, as kind has not those that they were for."""
    for pod in pods([FileObject(item, 0)]):
        spec, told = without_foreign_places(pod.spec)
        for line in told:
            say(f"{item['kind']} {name_of(item)}: {line}")
        if told:
            item = _replaced(item, [str(key) for key in pod.path], spec)
    return item


def _replaced(item: Mapping[str, Json], path: Sequence[str], value: Manifest) -> Manifest:
    if not path:
        return value
    return {**item, path[0]: _replaced(mapped(item.get(path[0])), path[1:], value)}


def _namespace(item: Mapping[str, Json]) -> str:
    return text(mapped(item.get("metadata")), "namespace")


def _in_namespace(item: Manifest, namespace: str, labels: Mapping[str, str], say: Say) -> Manifest:
    """The object in the namespace of the RayService, where faults find it."""
    if item["kind"] in OF_THE_CLUSTER:
        return merge(item, {"metadata": {"labels": dict(labels)}})
    given = _namespace(item)
    if given and given != namespace:
        say(f"{item['kind']} {name_of(item)} is in the namespace {namespace} and not in {given}")
    return merge(item, {"metadata": {"namespace": namespace, "labels": dict(labels)}})


def _aliases(items: Iterable[Manifest], namespace: str, labels: Mapping[str, str], say: Say) -> Iterator[Manifest]:
    """A name for each Service that was moved, in the namespace in which the file has it, so that it still works."""
    for item in items:
        given, name = _namespace(item), name_of(item)
        if item["kind"] == "Service" and given and given != namespace:
            say(f"the name {name}.{given} leads to the Service {name} in the namespace {namespace}")
            yield {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name, "namespace": given, "labels": dict(labels)},
                "spec": {"type": "ExternalName", "externalName": f"{name}.{namespace}.svc.cluster.local"},
            }


def _pods_of(items: Iterable[Mapping[str, Json]], part: str) -> list[dict[str, Json]]:
    """The specs of the pods that objects make, themselves or of their templates, if they are that part of the run."""
    found: list[dict[str, Json]] = []
    for item in items:
        job = inner(item, "spec", "jobTemplate")
        templates = [item] if item.get("kind") == "Pod" else [inner(i, "spec", "template") for i in (item, job)]
        found += [mapped(t.get("spec")) for t in templates if text(inner(t, "metadata", "labels"), names.PART) == part]
    return [pod for pod in found if pod.get("containers")]


def _images(pods: Iterable[Mapping[str, Json]]) -> tuple[str, ...]:
    containers = [c for pod in pods for key in ("initContainers", "containers") for c in listed(pod.get(key))]
    return tuple(dict.fromkeys(text(container, "image") for container in containers if container.get("image")))
