"""What the pods of a file need, and a kind cluster cannot give: found before anything is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pytest_serve_chaos.cluster.kubernetes.client.quantities import quantity
from pytest_serve_chaos.cluster.kubernetes.client.records import inner, listed, mapped, text
from pytest_serve_chaos.cluster.kubernetes.install.file_objects import (
    PATCH,
    FileObject,
    KindOffers,
    PodPlace,
    given_names,
    keys_of,
    pods,
)
from pytest_serve_chaos.cluster.problems import Problem
from pytest_serve_chaos.cluster.yaml_lines import Path
from pytest_serve_chaos.model import Json

_OF_EVERY_NODE = ("cpu", "memory", "ephemeral-storage")
_VOLUMES = ("emptyDir", "configMap", "secret", "downwardAPI", "projected", "persistentVolumeClaim", "ephemeral")
"""The volumes that every Kubernetes cluster has."""
_ON_EVERY_MACHINE = ("/dev/shm", "/tmp", "/etc/localtime", "/proc", "/sys", "/var/log")
"""The host paths that a kind node has, too."""
_PRIORITIES = ("system-cluster-critical", "system-node-critical")
_ONE_NODE = ("ReadWriteOnce", "ReadWriteOncePod")
"""What the default storage class of kind (rancher.io/local-path) can serve."""
_STORAGE_CLASSES = ("", "standard")
_NODE_LABELS = ("kubernetes.io/os", "kubernetes.io/arch", "kubernetes.io/hostname")
"""The labels that all kind nodes have."""

_SAFE_SYSCTLS = frozenset({
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range", "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem", "net.ipv4.tcp_syncookies", "net.ipv4.tcp_wmem",
})  # fmt: skip
"""What a pod may set on every node (Kubernetes 1.34)."""

_GIB = 2**30
_OF_KUBERNETES = 0.1
"""Processors, and GiB of memory, that the pods of kind request on each node; its network's are 100m and 50Mi."""


def needs(objects: Sequence[FileObject], offers: KindOffers) -> Iterator[Problem]:
    """All that the pods of these objects need and kind lacks; what the objects themselves give is there."""
    for pod in pods(objects):
        yield from _resources(pod, offers)
        yield from _references(pod, objects)
        yield from _volumes(pod, objects)
        yield from _scheduling(pod, objects)
    for item in objects:
        yield from _claims(item)
        yield from _redis_credentials(item, objects)
        if item.kind == "ServiceAccount":
            yield from _pull_secrets(item, (), item.manifest, objects)
    yield from _shared_claims(objects)


# -- resources ---------------------------------------------------------------------------------------------------------


def amount(value: Json) -> float | None:
    """A quantity of Kubernetes as a number: ``500m``, ``16Gi``, 2; None where it is not one."""
    found = quantity(value)
    return None if found is None else float(found)


def _resources(pod: PodPlace, offers: KindOffers) -> Iterator[Problem]:
    for path, container in pod.containers():
        for part in ("limits", "requests"):
            wanted = inner(container, "resources", part)
            for name, value in wanted.items():
                if name not in _OF_EVERY_NODE and amount(value) != 0:
                    yield pod.problem(
                        (*path, "resources", part, name),
                        f"no kind node has {name} ({value})",
                        f"set it to null {PATCH}: {{{part}: {{{name}: null}}}}",
                    )
    yield from _too_much(pod, offers)


def _too_much(pod: PodPlace, offers: KindOffers) -> Iterator[Problem]:
    """More than this machine has: the pod would be pending for ever."""
    for name, there in (("cpu", offers.processors), ("memory", offers.memory)):
        wanted, at = 0.0, None
        for path, container in pod.containers():
            requests, limits = (inner(container, "resources", part) for part in ("requests", "limits"))
            given = amount(requests.get(name, limits.get(name, 0)))
            if path[0] == "containers" and given:
                wanted += given
                at = at or (*path, "resources", "requests" if name in requests else "limits", name)
        scale, unit = (1.0, "processors") if name == "cpu" else (_GIB, "GiB")
        if there is not None and at is not None and wanted + _OF_KUBERNETES * scale > there:
            yield pod.problem(
                at,
                f"the pod requests {wanted / scale:g} {unit} of {name}, and a node of this machine has"
                f" {there / scale:.3g}, of which Kubernetes' own pods take {_OF_KUBERNETES}",
                f"request less {PATCH}, for example {name}: {'500m' if name == 'cpu' else '2Gi'}",
            )


# -- Secrets, ConfigMaps, accounts -------------------------------------------------------------------------------------


def _references(pod: PodPlace, objects: Sequence[FileObject]) -> Iterator[Problem]:
    for path, container in pod.containers():
        variables = container.get("env")
        for number, variable in enumerate(variables if isinstance(variables, list) else []):
            of, at = mapped(mapped(variable).get("valueFrom")), (*path, "env", number)
            fix = f"give it a value {PATCH}: {{name: {text(mapped(variable), 'name')}, valueFrom: null, value: ...}}"
            for key, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
                yield from _missing(pod.of, objects, (*pod.path, *at), kind, mapped(of.get(key)), fix)
        sources = container.get("envFrom")
        for number, source in enumerate(sources if isinstance(sources, list) else []):
            at = (*path, "envFrom", number)
            for key, kind in (("secretRef", "Secret"), ("configMapRef", "ConfigMap")):
                fix = f"set envFrom to null {PATCH}"
                yield from _missing(pod.of, objects, (*pod.path, *at), kind, mapped(mapped(source).get(key)), fix)
    yield from _pull_secrets(pod.of, pod.path, pod.spec, objects)
    account = text(pod.spec, "serviceAccountName") or text(pod.spec, "serviceAccount")
    if account not in ("", "default") and account not in given_names(objects, "ServiceAccount"):
        key = "serviceAccountName" if pod.spec.get("serviceAccountName") else "serviceAccount"
        yield pod.problem(
            (key,),
            f"the file has no ServiceAccount {account}",
            f"put it into the file, or set {key} to null {PATCH}",
        )


def _missing(
    item: FileObject, objects: Sequence[FileObject], path: Path, kind: str, reference: Mapping[str, Json], fix: str
) -> Iterator[Problem]:
    """Whether the file has the Secret or ConfigMap of a reference, and the key that is wanted of it."""
    name, key = text(reference, "name"), text(reference, "key")
    if not name or reference.get("optional") is True:
        return
    found = given_names(objects, kind).get(name)
    if found is None:
        yield item.problem(path, f"the file has no {kind} {name}", f"put it into the file, or {fix}")
    elif key and key not in keys_of(found):
        known = ", ".join(sorted(keys_of(found))) or "none"
        yield item.problem(path, f"the {kind} {name} of the file has no key {key}", f"take one that it has: {known}")


def _pull_secrets(
    item: FileObject, path: Path, holder: Mapping[str, Json], objects: Sequence[FileObject]
) -> Iterator[Problem]:
    secrets = holder.get("imagePullSecrets")
    for number, secret in enumerate(secrets if isinstance(secrets, list) else []):
        name = text(mapped(secret), "name")
        if name and name not in given_names(objects, "Secret"):
            yield item.problem(
                (*path, "imagePullSecrets", number),
                f"the file has no Secret {name} with which images are pulled",
                f"pull the images into Docker, from which the plugin loads them, and set imagePullSecrets to null"
                f" {PATCH}",
            )


def _redis_credentials(item: FileObject, objects: Sequence[FileObject]) -> Iterator[Problem]:
    options = inner(item.manifest, "spec", "rayClusterConfig", "gcsFaultToleranceOptions")
    for field_of in ("redisUsername", "redisPassword"):
        of = inner(options, field_of, "valueFrom")
        path: Path = ("spec", "rayClusterConfig", "gcsFaultToleranceOptions", field_of, "valueFrom")
        for key, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
            fix = f"give {field_of} a value {PATCH}"
            yield from _missing(item, objects, (*path, key), kind, mapped(of.get(key)), fix)


# -- volumes -----------------------------------------------------------------------------------------------------------


def _volumes(pod: PodPlace, objects: Sequence[FileObject]) -> Iterator[Problem]:
    volumes = pod.spec.get("volumes")
    for number, item in enumerate(volumes if isinstance(volumes, list) else []):
        volume, at = mapped(item), ("volumes", number)
        name = text(volume, "name")
        yield from _projected(pod, at, volume, objects)
        claim = text(mapped(volume.get("persistentVolumeClaim")), "claimName")
        if claim and claim not in given_names(objects, "PersistentVolumeClaim"):
            yield pod.problem(
                at, f"the file has no PersistentVolumeClaim {claim}", f"put it into the file, or {_empty(name, volume)}"
            )
        host = text(mapped(volume.get("hostPath")), "path")
        if volume.get("hostPath") and host.rstrip("/") not in _ON_EVERY_MACHINE:
            yield pod.problem(at, f"a kind node has nothing at the host path {host}", _empty(name, volume))
        for kind in volume:
            if kind not in (*_VOLUMES, "name", "hostPath"):
                yield pod.problem(at, f"kind has no volumes of the kind {kind}", _empty(name, volume))


def _empty(name: str, volume: Mapping[str, Json]) -> str:
    source = next((key for key in volume if key != "name"), "")
    return f"make it empty {PATCH}: {{name: {name}, {source}: null, emptyDir: {{}}}}"


def _projected(pod: PodPlace, at: Path, volume: Mapping[str, Json], objects: Sequence[FileObject]) -> Iterator[Problem]:
    sources = [volume, *listed(mapped(volume.get("projected")).get("sources"))]
    for source in sources:
        for key, kind, named in (("secret", "Secret", "secretName"), ("configMap", "ConfigMap", "name")):
            given = mapped(source.get(key))
            name = text(given, named) or text(given, "name")
            reference: dict[str, Json] = {"name": name, "optional": given.get("optional")}
            fix = _empty(text(volume, "name"), volume)
            yield from _missing(pod.of, objects, (*pod.path, *at), kind, reference, fix)
            there = given_names(objects, kind).get(name, {})
            for wanted in [text(item, "key") for item in listed(given.get("items"))] if there else []:
                yield from _missing(pod.of, objects, (*pod.path, *at), kind, {**reference, "key": wanted}, fix)


def _claims(item: FileObject) -> Iterator[Problem]:
    """What the default storage class of kind cannot serve of the claims that the file makes."""
    if item.kind == "PersistentVolumeClaim":
        yield from _claim(item, ("spec",), mapped(item.manifest.get("spec")))
    templates = inner(item.manifest, "spec").get("volumeClaimTemplates")
    for number, template in enumerate(templates if item.kind == "StatefulSet" and isinstance(templates, list) else []):
        yield from _claim(item, ("spec", "volumeClaimTemplates", number, "spec"), inner(mapped(template), "spec"))
    for pod in pods([item]):
        volumes = pod.spec.get("volumes")
        for number, volume in enumerate(volumes if isinstance(volumes, list) else []):
            path: Path = (*pod.path, "volumes", number, "ephemeral", "volumeClaimTemplate", "spec")
            yield from _claim(item, path, inner(mapped(volume), "ephemeral", "volumeClaimTemplate", "spec"))


def _claim(item: FileObject, path: Path, spec: Mapping[str, Json]) -> Iterator[Problem]:
    if not spec:
        return
    storage, modes = text(spec, "storageClassName"), spec.get("accessModes")
    if storage not in _STORAGE_CLASSES:
        yield item.problem(
            (*path, "storageClassName"),
            f"kind has no storage class {storage}",
            f"set storageClassName to null {PATCH}, which takes kind's own (standard)",
        )
    others = [mode for mode in (modes if isinstance(modes, list) else []) if mode not in _ONE_NODE]
    if others and not set(modes if isinstance(modes, list) else []) & {*_ONE_NODE}:
        yield item.problem(
            (*path, "accessModes"),
            f"kind's storage class cannot serve {', '.join(map(str, others))}",
            f"set accessModes to [ReadWriteOnce] {PATCH}; a volume for pods on several nodes must be made empty",
        )
    for key in ("volumeName", "selector", "dataSource", "dataSourceRef"):
        if spec.get(key):
            yield item.problem((*path, key), f"kind has no volume that {key} could mean", f"set {key} to null {PATCH}")


def _shared_claims(objects: Sequence[FileObject]) -> Iterator[Problem]:
    """A volume of kind's storage class is on one node, and each Ray pod has a node of its own."""
    claims = given_names(objects, "PersistentVolumeClaim")
    first: dict[str, PodPlace] = {}
    for pod in pods(objects):
        volumes = pod.spec.get("volumes")
        for number, volume in enumerate(volumes if isinstance(volumes, list) else []):
            name = text(mapped(mapped(volume).get("persistentVolumeClaim")), "claimName")
            if name not in claims or not pod.role:
                continue
            several = pod.role == "worker" and workers_of(pod.group) > 1
            if name in first or several:
                yield pod.problem(
                    ("volumes", number),
                    f"the PersistentVolumeClaim {name} is for several pods, and a volume of kind is on one node, while"
                    " each Ray pod has a node of its own",
                    _empty(text(mapped(volume), "name"), mapped(volume)),
                )
            first.setdefault(name, pod)


def workers_of(group: Mapping[str, Json]) -> int:
    """How many pods a group of workers begins with."""
    wanted = group.get("replicas", group.get("minReplicas", 1))
    hosts = group.get("numOfHosts") or 1
    return wanted * hosts if isinstance(wanted, int) and isinstance(hosts, int) else 1


# -- where pods run ----------------------------------------------------------------------------------------------------


def _scheduling(pod: PodPlace, objects: Sequence[FileObject]) -> Iterator[Problem]:
    priority = text(pod.spec, "priorityClassName")
    if priority and priority not in (*_PRIORITIES, *given_names(objects, "PriorityClass")):
        yield pod.problem(
            ("priorityClassName",),
            f"the file has no PriorityClass {priority}",
            f"put it into the file, or set priorityClassName to null {PATCH}",
        )
    runtime = text(pod.spec, "runtimeClassName")
    if runtime:
        yield pod.problem(
            ("runtimeClassName",), f"kind has no RuntimeClass {runtime}", f"set runtimeClassName to null {PATCH}"
        )
    scheduler = text(pod.spec, "schedulerName")
    if scheduler not in ("", "default-scheduler"):
        yield pod.problem(
            ("schedulerName",), f"kind has no scheduler {scheduler}", f"set schedulerName to null {PATCH}"
        )
    claims = pod.spec.get("resourceClaims")
    for number, claim in enumerate(claims if isinstance(claims, list) else []):
        yield pod.problem(
            ("resourceClaims", number),
            f"kind has no driver for the devices that {text(mapped(claim), 'name')} claims",
            f"set resourceClaims, and claims of the containers' resources, to null {PATCH}",
        )
    yield from _security(pod)
    yield from _places(pod)


def _security(pod: PodPlace) -> Iterator[Problem]:
    """Profiles and kernel parameters that an administrator has to put on a node first."""
    holders: list[tuple[Path, Mapping[str, Json]]] = [((), pod.spec), *pod.containers()]
    for path, holder in holders:
        context = mapped(holder.get("securityContext"))
        for key in ("seccompProfile", "appArmorProfile"):
            if text(mapped(context.get(key)), "type") == "Localhost":
                yield pod.problem(
                    (*path, "securityContext", key),
                    f"no kind node has the profile {text(mapped(context[key]), 'localhostProfile')}",
                    f"set {key} to null {PATCH}",
                )
    for number, sysctl in enumerate(listed(mapped(pod.spec.get("securityContext")).get("sysctls"))):
        if text(sysctl, "name") not in _SAFE_SYSCTLS:
            yield pod.problem(
                ("securityContext", "sysctls", number),
                f"kind nodes do not allow pods to set {text(sysctl, 'name')}",
                f"set sysctls to null {PATCH}",
            )


def _places(pod: PodPlace) -> Iterator[Problem]:
    """Selectors and affinities for nodes that kind lacks, which the plugin leaves out by itself."""
    for key, what in foreign_places(pod.spec).items():
        yield pod.problem(tuple(key.split(".")), what, "the plugin leaves it out", refuses=False)


def foreign_places(spec: Mapping[str, Json]) -> dict[str, str]:
    """What of a pod's spec only nodes of another cluster could fulfil, each with what is wrong with it."""
    found: dict[str, str] = {}
    selector = {k: v for k, v in mapped(spec.get("nodeSelector")).items() if k not in _NODE_LABELS[:2]}
    if selector:
        labels = ", ".join(f"{key}: {value}" for key, value in selector.items())
        found["nodeSelector"] = f"no kind node has the labels {labels}"
    if spec.get("nodeName"):
        found["nodeName"] = f"kind has no node {spec['nodeName']}"
    affinities = foreign_affinities(mapped(spec.get("affinity")))
    return found | {f"affinity.{key}": what for key, what in affinities.items()}


def without_foreign_places(spec: Mapping[str, Json]) -> tuple[dict[str, Json], list[str]]:
    """A pod's spec without what only nodes of another cluster could fulfil, and a sentence about each part."""
    foreign = foreign_places(spec)
    kept: dict[str, Json] = {key: value for key, value in spec.items() if key not in foreign}
    affinity: dict[str, Json] = {
        key: value for key, value in mapped(spec.get("affinity")).items() if f"affinity.{key}" not in foreign
    }
    if "affinity" in kept:
        kept["affinity"] = affinity
    return kept, [f"its {key} is left out: {why}" for key, why in foreign.items()]


def foreign_affinities(affinity: Mapping[str, Json]) -> dict[str, str]:
    """The parts of an affinity that no kind node can fulfil, each with what is wrong with it."""
    found: dict[str, str] = {}
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    terms = listed(inner(affinity, "nodeAffinity", required).get("nodeSelectorTerms"))
    keys = [{text(one, "key") for one in listed(term.get("matchExpressions"))} for term in terms]
    if terms and all(of_term - {*_NODE_LABELS[:2]} for of_term in keys):
        labels = ", ".join(sorted(set().union(*keys) - {*_NODE_LABELS[:2]}))
        found["nodeAffinity"] = f"it requires nodes with labels that kind nodes lack ({labels})"
    together = mapped(affinity.get("podAffinity")).get(required)
    zones = sorted({text(term, "topologyKey") for term in listed(together)} - {*_NODE_LABELS})
    if zones:
        found["podAffinity"] = f"it requires pods in the same {', '.join(zones)}, which kind nodes do not have"
    return found
