"""What KubeRay and this plugin refuse of a RayService, found before it is applied.

KubeRay says some of it in a condition of the RayService, minutes after everything was made, and some of it only in its
log. Its own rules are in ray-operator/controllers/ray/utils/validation.go (1.6.2).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TypeAlias

from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.records import inner, listed, mapped, name_of, text
from pytest_serve_chaos.cluster.serve_check import findings
from pytest_serve_chaos.cluster.storage import KIND, PATH, ROCKSDB
from pytest_serve_chaos.cluster.yaml_lines import Path
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.model import Json

_LONGEST_NAME = 47
_GCS_PATH = "/data/gcs"
"""Where KubeRay mounts the volume of the GCS's RocksDB."""
SERVE_PORT = 8000
"""To which our Services lead."""
ALL_ADDRESSES = "0.0.0.0"
"""The host of proxies that can be reached from outside of their pods."""
_ONLY_INSIDE = re.compile(r"localhost|127\..*|::1")
_NAME = r"[a-z]([-a-z0-9]*[a-z0-9])?"
_UPGRADES = ("None", "NewCluster", "NewClusterWithIncrementalUpgrade")

_Problem: TypeAlias = tuple[Path, str, str]
"""Where it is in the object, what is wrong, and how to fix it."""
_CLUSTER: Path = ("spec", "rayClusterConfig")
_OPTIONS: Path = (*_CLUSTER, "gcsFaultToleranceOptions")
_HEAD: Path = (*_CLUSTER, "headGroupSpec")
_CONTAINER: Path = ("template", "spec", "containers", 0)
"""The Ray container of a group."""


def check(ray_service: Mapping[str, Json], source: str) -> None:
    """Checks a RayService.

    Args:
        ray_service: The object.
        source: Where it comes from, for the message.

    Raises:
        SettingsError: KubeRay or Kubernetes would refuse it. The message has every reason, and how to fix each.
    """
    _refuse(f"{source}: the RayService {name_of(ray_service)} cannot run", problems(ray_service))


def problems(ray_service: Mapping[str, Json]) -> list[_Problem]:
    """What KubeRay or Kubernetes would refuse of a RayService: where, what, and the way out."""
    cluster = inner(ray_service, "spec", "rayClusterConfig")
    found = [*_name(ray_service), *_kinds_of_values(ray_service, cluster), *_pods(cluster)]
    if not found:  # the others look into the containers
        annotations = inner(ray_service, "metadata", "annotations")
        found += [*_fault_tolerance(cluster, annotations), *_texts(cluster), *_beyond_us(ray_service, cluster)]
    return found


def check_serve_config(config: Mapping[str, Json], source: str) -> None:
    """Checks a Serve config: of what is wrong with it KubeRay reports nothing but in its log.

    Args:
        config: What is in `serveConfigV2`.
        source: Where it comes from, for the message.

    Raises:
        SettingsError: Serve would refuse it, or KubeRay's Services would not reach its proxies.
    """
    rules = [(one.path, one.what, one.fix) for one in findings(config, None)]
    _refuse(f"{source}: the Serve config cannot be deployed", [*rules, *of_serve_config(config)])


def _refuse(what: str, problems: Sequence[_Problem]) -> None:
    if problems:
        first, *others = [said for _, said, _ in problems]
        raise SettingsError(f"{what}: {first}", checked=others, fix=["; ".join(fix for _, _, fix in problems)])


def groups(cluster: Mapping[str, Json]) -> dict[str, dict[str, Json]]:
    """The head group and the groups of workers, by the names under which messages know them."""
    workers = {f"workerGroupSpecs {text(g, 'groupName')}": g for g in listed(cluster.get("workerGroupSpecs"))}
    return {"headGroupSpec": mapped(cluster.get("headGroupSpec")), **workers}


def _places(cluster: Mapping[str, Json]) -> Iterator[tuple[Path, str, dict[str, Json]]]:
    """The same, each with its path."""
    for number, (where, group) in enumerate(groups(cluster).items(), -1):
        yield (_HEAD if number < 0 else (*_CLUSTER, "workerGroupSpecs", number)), where, group


def ray_container(group: Mapping[str, Json]) -> dict[str, Json]:
    """The container that KubeRay takes for Ray's: the first."""
    return next(iter(listed(inner(group, "template", "spec").get("containers"))), {})


def _name(ray_service: Mapping[str, Json]) -> Iterator[_Problem]:
    name = name_of(ray_service)
    if len(name) > _LONGEST_NAME or not re.fullmatch(_NAME, name):
        yield (
            ("metadata", "name"),
            f"its name must be a lower-case DNS label of at most {_LONGEST_NAME} characters that begins with a letter",
            "give it another name",
        )


def _kinds_of_values(ray_service: Mapping[str, Json], cluster: Mapping[str, Json]) -> Iterator[_Problem]:
    """What all the others rely on, and KubeRay's schema, which is not always at hand, says too."""
    workers, config = cluster.get("workerGroupSpecs"), inner(ray_service, "spec").get("serveConfigV2")
    if not isinstance(workers, list | None):
        what = "workerGroupSpecs is not a list"
        yield (*_CLUSTER, "workerGroupSpecs"), what, "begin each group with '- '"
    if not isinstance(config, str | None):
        what = "serveConfigV2 is not text"
        yield ("spec", "serveConfigV2"), what, "write `serveConfigV2: |` before it: KubeRay takes it as one text"


def _pods(cluster: Mapping[str, Json]) -> Iterator[_Problem]:
    for path, where, group in _places(cluster):
        if not ray_container(group):
            yield path, f"{where} has no container", f"give {where}.template.spec.containers a Ray container"
    twice = [n for n, count in Counter(text(g, "groupName") for g in listed(cluster.get("workerGroupSpecs"))).items()
             if count > 1]  # fmt: skip
    if twice:
        what = f"two groups of workers are called {twice[0]}"
        yield (*_CLUSTER, "workerGroupSpecs"), what, "give each group a name of its own"
    for path, where, group in _places(cluster):
        least, most = group.get("minReplicas"), group.get("maxReplicas")
        if isinstance(least, int) and isinstance(most, int) and least > most:
            what = f"{where} has minReplicas {least} and maxReplicas {most}"
            yield (*path, "minReplicas"), what, "set minReplicas to at most maxReplicas"


def _fault_tolerance(cluster: Mapping[str, Json], annotations: Mapping[str, Json]) -> Iterator[_Problem]:
    head = mapped(cluster.get("headGroupSpec"))
    env = {text(variable, "name") for variable in listed(ray_container(head).get("env"))}
    parameters = mapped(head.get("rayStartParams"))
    options = "gcsFaultToleranceOptions"
    if parameters.get("redis-username") or "REDIS_USERNAME" in env:
        yield _HEAD, "Redis' user is named outside of its options", f"name it in {options}.redisUsername"
    if cluster.get(options) is None:
        yield from _by_annotation(str(annotations.get(names.FT_ENABLED, "")), env)
        return
    yield from _embedded(mapped(cluster.get(options)), head, env)
    if annotations.get(names.FT_ENABLED):
        yield (
            ("metadata", "annotations", names.FT_ENABLED),
            f"the annotation {names.FT_ENABLED} and {options} exclude each other",
            f"remove the annotation {names.FT_ENABLED}",
        )
    if parameters.get("redis-password") or "REDIS_PASSWORD" in env:
        yield (
            _HEAD,
            f"with {options}, the password must not be in rayStartParams or REDIS_PASSWORD",
            f"give it in {options}.redisPassword",
        )
    if "RAY_REDIS_ADDRESS" in env:
        what = f"with {options}, the address must not be in RAY_REDIS_ADDRESS"
        yield (*_HEAD, *_CONTAINER, "env"), what, f"give it in {options}.redisAddress"
    if annotations.get(names.STORAGE_NAMESPACE):
        yield (
            ("metadata", "annotations", names.STORAGE_NAMESPACE),
            f"with {options}, the namespace must not be in the annotation {names.STORAGE_NAMESPACE}",
            f"give it in {options}.externalStorageNamespace",
        )


def _embedded(options: Mapping[str, Json], head: Mapping[str, Json], env: Collection[str]) -> Iterator[_Problem]:
    """The rules of KubeRay 1.7 for the two kinds of storage."""
    backend = options.get("backend", "redis")
    if backend not in ("redis", ROCKSDB):
        yield (*_OPTIONS, "backend"), f"gcsFaultToleranceOptions.backend is {backend}", f"take redis or {ROCKSDB}"
    elif backend == "redis":
        if "storage" in options:
            what = "gcsFaultToleranceOptions.storage goes with backend: rocksdb"
            yield (*_OPTIONS, "storage"), what, "remove it, or say backend: rocksdb"
        if not options.get("redisAddress"):
            what = "gcsFaultToleranceOptions names no Redis"
            yield _OPTIONS, what, "give it redisAddress, or backend: rocksdb (KubeRay 1.7)"
    else:
        of_redis = ("redisAddress", "redisUsername", "redisPassword", "externalStorageNamespace")
        for field in (field for field in of_redis if options.get(field)):
            what = f"gcsFaultToleranceOptions.{field} does not go with backend: {ROCKSDB}"
            yield (*_OPTIONS, field), what, f"remove {field}"
        for name in (name for name in (KIND, PATH) if name in env):
            what = f"with backend: {ROCKSDB}, KubeRay sets {name} itself"
            yield (*_HEAD, *_CONTAINER, "env"), what, f"remove {name} from the head's container"
        if any(text(m, "mountPath") == _GCS_PATH for m in listed(ray_container(head).get("volumeMounts"))):
            what = f"with backend: {ROCKSDB}, KubeRay mounts its volume at {_GCS_PATH}"
            yield (*_HEAD, *_CONTAINER, "volumeMounts"), what, "mount yours elsewhere"


def _by_annotation(enabled: str, env: Collection[str]) -> Iterator[_Problem]:
    if enabled.lower() == "true":
        if "RAY_REDIS_ADDRESS" not in env:
            yield (
                ("metadata", "annotations", names.FT_ENABLED),
                f"the annotation {names.FT_ENABLED} wants fault tolerance, and no Redis is named",
                "set RAY_REDIS_ADDRESS in the head's container, or take gcsFaultToleranceOptions in its place",
            )
    elif "RAY_REDIS_ADDRESS" in env:
        yield (
            (*_HEAD, *_CONTAINER, "env"),
            "RAY_REDIS_ADDRESS is set, and GCS fault tolerance is not on",
            f'set gcsFaultToleranceOptions, or the annotation {names.FT_ENABLED}: "true"',
        )


def _texts(cluster: Mapping[str, Json]) -> Iterator[_Problem]:
    for path, where, group in _places(cluster):
        given: list[tuple[Path, str, Json]] = [
            (("rayStartParams", key), "rayStartParams." + key, value)
            for key, value in mapped(group.get("rayStartParams")).items()
        ]
        variables = enumerate(listed(ray_container(group).get("env")))
        given += [
            ((*_CONTAINER, "env", number), "the variable " + text(v, "name"), v.get("value", ""))
            for number, v in variables
        ]
        for at, name, value in given:
            if not isinstance(value, str):
                yield (*path, *at), f"{where}: {name} is not text", f"write the value of {name} in quotes"


def _beyond_us(ray_service: Mapping[str, Json], cluster: Mapping[str, Json]) -> Iterator[_Problem]:
    upgrade = text(inner(ray_service, "spec", "upgradeStrategy"), "type")
    if upgrade == _UPGRADES[-1]:
        what = f"upgradeStrategy {upgrade} needs the Gateway API, which kind lacks"
        yield ("spec", "upgradeStrategy", "type"), what, "take None or NewCluster here"
    elif upgrade and upgrade not in _UPGRADES:
        what = f"upgradeStrategy {upgrade} does not exist"
        yield ("spec", "upgradeStrategy", "type"), what, f"take one of {', '.join(_UPGRADES[:-1])}"
    if inner(cluster, "headGroupSpec", "headService", "metadata").get("name"):
        at: Path = (*_HEAD, "headService", "metadata", "name")
        yield at, "headService must have no name", "remove headGroupSpec.headService.metadata.name"
    if cluster.get("suspend") or mapped(ray_service.get("spec")).get("suspend"):
        holder = _CLUSTER if cluster.get("suspend") else ("spec",)
        yield (*holder, "suspend"), "it is suspended", "remove suspend"
    if inner(cluster, "authOptions").get("enableK8sTokenAuth"):
        what = "KubeRay refuses authOptions.enableK8sTokenAuth for a RayService"
        yield (*_CLUSTER, "authOptions", "enableK8sTokenAuth"), what, "remove it"
    ports = [text(port, "name") for port in listed(ray_container(mapped(cluster.get("headGroupSpec"))).get("ports"))]
    if ports and not any(name.startswith("serve") for name in ports):
        yield (
            (*_HEAD, *_CONTAINER, "ports"),
            "headGroupSpec names ports, and none is `serve`",
            "name it: containerPort 8000, name serve",
        )
    for path, where, group in _places(cluster):
        for number, port in enumerate(listed(ray_container(group).get("ports"))):
            if text(port, "name") == "serve" and port.get("containerPort") != SERVE_PORT:
                what = f"{where}: Serve's port is {text(port, 'containerPort')}"
                yield (*path, *_CONTAINER, "ports", number, "containerPort"), what, f"take {SERVE_PORT} here"


def of_serve_config(config: Mapping[str, Json]) -> Iterator[_Problem]:
    """What KubeRay's Services cannot reach: where, what, and the way out."""
    http = inner(config, "http_options")
    if http.get("port", SERVE_PORT) != SERVE_PORT:
        fix = f"take {SERVE_PORT} here, which KubeRay's Services expect"
        yield ("http_options", "port"), "http_options.port is not 8000", fix
    if _ONLY_INSIDE.fullmatch(text(http, "host")):
        what = f"http_options.host is {text(http, 'host')}, where no Service reaches it"
        yield ("http_options", "host"), what, f"take {ALL_ADDRESSES} here"
