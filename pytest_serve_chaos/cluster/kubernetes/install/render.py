"""What a run makes of the manifests: pure functions from settings to Kubernetes objects."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from types import MappingProxyType
from typing import Literal, cast

import yaml

from pytest_serve_chaos import manifests, safe_yaml
from pytest_serve_chaos.cluster import yaml_text
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.records import inner, listed, name_of
from pytest_serve_chaos.cluster.kubernetes.client.records import text as text_of
from pytest_serve_chaos.cluster.serve_config import serve_config_text
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.manifests import Manifest, merge
from pytest_serve_chaos.model import Json

SERVE_SERVICE = f"{names.RAY_SERVICE}-serve-svc"
"""The Service for traffic, as KubeRay calls it after its RayService."""

OUR_ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {"RAY_USAGE_STATS_ENABLED": "0", names.FLAGS_VARIABLE: names.FLAGS_PATH}
)
"""What all Ray containers get unless the user has set it."""

_CODE_LIMIT = 900_000
"""Bytes of code; Kubernetes refuses a ConfigMap over 1 MiB, keys and labels included."""


@dataclass(frozen=True, slots=True)
class RayServiceSettings:
    """What a run decides about its RayService.

    Attributes:
        image: The image of all Ray containers.
        ray_version: Which Ray it has, where that is known.
        workers: Number of workers.
        gcs: ``redis``, ``rocksdb`` or ``none``.
        serve_config: Serve's config: ``applications`` and what else `serveConfigV2` takes.
        head_env: Environment variables of the head's container.
        worker_env: Environment variables of the workers' containers.
        termination_grace: Seconds between SIGTERM and SIGKILL for a pod that is deleted gracefully.
        code: The modules in the code ConfigMap: path below the directory on PYTHONPATH -> source text.
        labels: Labels for the objects.
    """

    image: str
    workers: int
    gcs: str
    serve_config: Mapping[str, Json] = field(repr=False)
    head_env: Mapping[str, str] = field(default_factory=dict, repr=False)
    worker_env: Mapping[str, str] = field(default_factory=dict, repr=False)
    termination_grace: float = 30.0
    code: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    ray_version: str | None = None


def kind_config(traffic_port: int, dashboard_port: int, ray_nodes: int = 3) -> Manifest:
    """The kind config of one run.

    Args:
        traffic_port: The port on 127.0.0.1 for traffic.
        dashboard_port: The port on 127.0.0.1 for the dashboard.
        ray_nodes: Number of nodes for Ray pods: one more than there are workers.
    """
    (config,) = manifests.load("kind-config.yaml")
    hosts = {names.TRAFFIC_NODE_PORT: traffic_port, names.DASHBOARD_NODE_PORT: dashboard_port}
    first, ray_node, *_ = _objects(config["nodes"])
    mappings = [
        merge(m, {"hostPort": hosts[cast("int", m["containerPort"])]}) for m in _objects(first["extraPortMappings"])
    ]
    nodes: list[Json] = [merge(first, {"extraPortMappings": [*mappings]}), *[dict(ray_node) for _ in range(ray_nodes)]]
    return merge(config, {"nodes": nodes})


def namespace(labels: Mapping[str, str], name: str = names.NAMESPACE) -> Manifest:
    """A namespace: ours, in which all is made unless a file says otherwise, or that of a file."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": dict(labels)}}


def redis(image: str, labels: Mapping[str, str]) -> tuple[Manifest, ...]:
    """Redis, its Service and the Secret with its password."""
    return tuple(
        _with_image(document, image) if document["kind"] == "Deployment" else document
        for document in _labelled(manifests.load("redis.yaml"), labels)
    )


def services(labels: Mapping[str, str], serve: str = SERVE_SERVICE) -> tuple[Manifest, ...]:
    """The node ports for traffic and dashboard.

    Args:
        labels: Labels for them.
        serve: What KubeRay calls the Service for traffic of the RayService.
    """
    named: Manifest = {"metadata": {"name": serve}}
    documents = manifests.load("services.yaml")
    return tuple(_labelled((merge(d, named) if name_of(d) == SERVE_SERVICE else d for d in documents), labels))


def ray_service(settings: RayServiceSettings) -> Manifest:
    """The RayService of one run."""
    (base,) = _labelled(manifests.load("rayservice.yaml"), settings.labels)
    base = merge(base, {"spec": {"serveConfigV2": serve_config_text(settings.serve_config)}})
    cluster = _object(_object(base["spec"])["rayClusterConfig"])
    (group,) = _objects(cluster["workerGroupSpecs"])
    group = merge(
        _with_pod(group, settings, settings.worker_env),
        {"replicas": settings.workers, "minReplicas": settings.workers, "maxReplicas": settings.workers},
    )
    patch: Manifest = {
        "rayVersion": settings.ray_version,
        "headGroupSpec": _with_pod(_object(cluster["headGroupSpec"]), settings, settings.head_env),
        "workerGroupSpecs": [group],
    }
    if settings.gcs == "none":
        patch["gcsFaultToleranceOptions"] = None
    if settings.gcs == "rocksdb":
        # The nodes of kind have a StorageClass whose volumes stay on the node, where the head's pod stays, too.
        embedded: Manifest = {"backend": "rocksdb", "storage": {"size": "1Gi"}}
        patch["gcsFaultToleranceOptions"] = {"redisAddress": None, "redisPassword": None, **embedded}
    return merge(base, {"spec": {"rayClusterConfig": patch}})


def cpus_of_a_worker() -> float:
    """CPUs that a worker of the package's own RayService offers to replicas."""
    (base,) = manifests.load("rayservice.yaml")
    (group,) = listed(inner(base, "spec", "rayClusterConfig").get("workerGroupSpecs"))
    return float(text_of(inner(group, "rayStartParams"), "num-cpus"))


def version_of(image: str) -> str | None:
    """Ray's version as the image's tag has it; KubeRay chooses probes by it. None if the tag has none."""
    found = re.search(r":(\d+\.\d+\.\d+)", image)
    return found[1] if found else None


def without_version(image: str) -> str:
    """The warning about an image whose version of Ray is unknown."""
    return (
        f"the tag of {image} does not say which Ray it is, so the RayService gets no rayVersion, and KubeRay its probes"
        " for old ones, which need bash and wget in the image; to fix this, give --serve-chaos-ray-version, or a"
        " tag that begins with the version: ranker:2.60.0-mine"
    )


def code_config_map(code: Mapping[str, str], labels: Mapping[str, str]) -> Manifest:
    """Python modules as a ConfigMap.

    Args:
        code: Path below the directory on PYTHONPATH -> source text.
        labels: Labels for it.

    Raises:
        SettingsError: It is more than a ConfigMap can hold.
    """
    size = sum(len(source.encode()) for source in code.values())
    if size > _CODE_LIMIT:
        raise SettingsError(
            f"the app's code has {size} bytes; a ConfigMap holds {_CODE_LIMIT}",
            fix=["put the code into the Ray image, or into a runtime_env's working_dir"],
        )
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": names.CODE_CONFIG_MAP, "labels": dict(labels)},
        "data": {_key(path): source for path, source in code.items()},
    }


def code_volume(code: Mapping[str, str]) -> Manifest:
    """The source of a volume in which the modules of `code_config_map` have their paths again."""
    items: list[Json] = [{"key": _key(path), "path": path} for path in code]
    return {"configMap": {"name": names.CODE_CONFIG_MAP, "items": items}}


def placement(role: Literal["head", "worker"]) -> Manifest:
    """The part of a Ray pod's spec that lets faults take it alone: anti-affinity, node selector and tolerations."""
    (base,) = manifests.load("rayservice.yaml")
    cluster = _object(_object(base["spec"])["rayClusterConfig"])
    group = _object(cluster["headGroupSpec"]) if role == "head" else _objects(cluster["workerGroupSpecs"])[0]
    pod = _object(_object(group["template"])["spec"])
    return {key: pod[key] for key in ("affinity", "nodeSelector", "tolerations")}


def package_code() -> dict[str, str]:
    """The apps of this package, importable as `pytest_serve_chaos.apps.NAME` without the rest of it.

    The packages themselves are empty in the pod, so that the plugin's own dependencies are not needed there.
    """
    apps = resources.files("pytest_serve_chaos").joinpath("apps")
    code = {"pytest_serve_chaos/__init__.py": "", "pytest_serve_chaos/apps/__init__.py": ""}
    for file in sorted(apps.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".py") and file.name != "__init__.py":
            code[f"pytest_serve_chaos/apps/{file.name}"] = file.read_text(encoding="utf-8")
    return code


def operator_manifests(text: str, *, image: str | None, labels: Mapping[str, str], gates: Sequence[str] = ()) -> str:
    """KubeRay's manifests with the operator's Deployment on the node that no fault touches.

    The custom resource definitions are megabytes long; they pass through as the text that they are.

    Args:
        text: All documents, separated by ``---``.
        image: The operator's image; None leaves the manifests' own.
        labels: Labels for all other objects.
        gates: Feature gates that the operator must have on.

    Raises:
        SettingsError: A document is not a Kubernetes object.
    """
    documents = (_operator_document(document, image, labels, gates) for document in _documents(text))
    return "---\n".join(filter(None, documents))


def operator_image(text: str) -> str:
    """The image of the first Deployment in manifests that `operator_manifests` gave; "" where it names none."""
    for document in _documents(text):
        if re.search(r"^kind: Deployment$", document, re.MULTILINE):
            deployment = cast("Manifest", safe_yaml.read_document(document))
            containers = listed(inner(deployment, "spec", "template", "spec").get("containers"))
            return "".join(text_of(container, "image") for container in containers[:1])
    return ""


_OTHER_MANIFESTS = "give the manifests of KubeRay's operator: --serve-chaos-kuberay-manifests"


def _documents(text: str) -> list[str]:
    return re.split(r"^---\s*$", text, flags=re.MULTILINE)


def _operator_document(document: str, image: str | None, labels: Mapping[str, str], gates: Sequence[str]) -> str:
    if re.search(r"^kind: CustomResourceDefinition\s*$", document, re.MULTILINE):
        return document.strip() + "\n"
    try:
        read = safe_yaml.read_document(document)
    except yaml.YAMLError as error:
        raise SettingsError(
            f"a document of KubeRay's manifests is not YAML: {yaml_text.problem(error)}",
            checked=[document.strip()[:200]],
            fix=[_OTHER_MANIFESTS],
        ) from error
    if read is None:  # a comment: the licence, before the first object
        return ""
    if not isinstance(read, dict) or "kind" not in read:
        raise SettingsError(
            "a document of KubeRay's manifests is not a Kubernetes object",
            checked=[document.strip()[:200]],
            fix=[_OTHER_MANIFESTS],
        )
    (manifest,) = _labelled([read], labels)
    if manifest["kind"] == "Deployment":
        manifest = merge(manifest, {"spec": {"template": {"spec": on_services_node()}}})
        manifest = _with_image(manifest, image) if image else manifest
        manifest = _with_gates(manifest, gates) if gates else manifest
    return manifests.dump((manifest,))


def _with_gates(deployment: Manifest, gates: Sequence[str]) -> Manifest:
    """The operator with feature gates on, in addition to those that its manifests set."""
    flag = "--feature-gates="
    first, *others = _objects(_object(_object(_object(deployment["spec"])["template"])["spec"])["containers"])
    given = [str(word) for word in cast("list[Json]", first.get("args") or [])]
    said = [pair for word in given if word.startswith(flag) for pair in word.removeprefix(flag).split(",")]
    kept = [pair for pair in said if pair.partition("=")[0] not in gates]
    words: list[Json] = [word for word in given if not word.startswith(flag)]
    words.append(flag + ",".join([*kept, *(f"{gate}=true" for gate in gates)]))
    containers: list[Json] = [merge(first, {"args": words}), *others]
    return merge(deployment, {"spec": {"template": {"spec": {"containers": containers}}}})


def on_services_node() -> Manifest:
    """The part of a pod's spec that puts it on the node that no fault touches."""
    toleration: Json = {"key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule"}
    return {"nodeSelector": {names.ROLE: "services"}, "tolerations": [toleration]}


def _labelled(documents: Iterable[Manifest], labels: Mapping[str, str]) -> list[Manifest]:
    return [merge(document, {"metadata": {"labels": dict(labels)}}) for document in documents]


def _with_image(workload: Manifest, image: str) -> Manifest:
    pod = _object(_object(_object(workload["spec"])["template"])["spec"])
    first, *others = _objects(pod["containers"])
    containers: list[Json] = [merge(first, {"image": image}), *others]
    return merge(workload, {"spec": {"template": {"spec": {"containers": containers}}}})


def _with_pod(group: Manifest, settings: RayServiceSettings, env: Mapping[str, str]) -> Manifest:
    pod = _object(_object(group["template"])["spec"])
    variables: list[Json] = [{"name": name, "value": value} for name, value in _environment(env).items()]
    (container,), (volume,) = _objects(pod["containers"]), _objects(pod["volumes"])
    spec: Manifest = {
        "terminationGracePeriodSeconds": round(settings.termination_grace),
        "containers": [merge(container, {"image": settings.image, "env": variables})],
        "volumes": [merge(volume, code_volume(settings.code))],
    }
    return merge(group, {"template": {"metadata": {"labels": dict(settings.labels)}, "spec": spec}})


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    return {**OUR_ENVIRONMENT, **env, "PYTHONPATH": python_path(env.get("PYTHONPATH", ""))}


def python_path(given: str) -> str:
    """A PYTHONPATH with our code before what the user has on it."""
    return ":".join([names.CODE_PATH, *([given] if given else [])])


def _key(path: str) -> str:
    """The key of a module: with letters, digits, dots, dashes and underscores only, and 253 of them at most."""
    key = path.replace("/", "..")
    if re.fullmatch(r"[-._a-zA-Z0-9]{1,253}", key):
        return key
    return f"module-{hashlib.sha256(path.encode()).hexdigest()[:16]}.py"


def _object(value: Json) -> Manifest:
    return cast("Manifest", value)


def _objects(value: Json) -> list[Manifest]:
    return cast("list[Manifest]", value)
