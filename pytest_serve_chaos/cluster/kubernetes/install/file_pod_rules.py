"""What Kubernetes refuses of the pods of a file, and what the plugin must refuse.

The API server checks the pods of a RayService only when KubeRay creates them, so that they would never come.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from pytest_serve_chaos.cluster.kubernetes.client.records import inner, listed, shared_processes, text
from pytest_serve_chaos.cluster.kubernetes.install.file_needs import amount
from pytest_serve_chaos.cluster.kubernetes.install.file_objects import PATCH, FileObject, PodPlace, names_in, pods
from pytest_serve_chaos.cluster.kubernetes.install.file_templates import is_template
from pytest_serve_chaos.cluster.problems import Problem
from pytest_serve_chaos.cluster.yaml_lines import Path
from pytest_serve_chaos.cluster.yaml_text import RENDER
from pytest_serve_chaos.model import Json

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REGISTRY = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*(?::[0-9]+)?"
_IMAGE = re.compile(
    rf"(?:{_REGISTRY}/)?{_PART}(?:/{_PART})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(?:@[A-Za-z0-9_+.-]+:[0-9a-fA-F]{{32,}})?"
)
"""An image as container runtimes read it."""
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LONGEST_LABEL = 63
_OF_KUBERAY = ("ray-logs", "shared-mem")
"""Volumes that KubeRay adds by itself."""


def pod_rules(objects: Sequence[FileObject], *, other_image: bool = False) -> Iterator[Problem]:
    """What Kubernetes refuses of these pods.

    Args:
        objects: The objects of the file.
        other_image: Whether the Ray containers get another image than that of the file.
    """
    for pod in pods(objects):
        yield from _images(pod, other_image=other_image)
        yield from _names(pod)
        yield from _mounts(pod)
        yield from _quantities(pod)
        if pod.role:
            yield from _shared_processes(pod)
        if not pod.role:  # what the schema of a RayService says of Ray's pods
            yield from _texts(pod)


def _images(pod: PodPlace, *, other_image: bool) -> Iterator[Problem]:
    containers = list(pod.containers())
    of_ray = next((text(one, "image") for path, one in containers if path[0] == "containers"), "")
    for path, container in containers:
        image = text(container, "image")
        if is_template(image) or (other_image and pod.role and image == of_ray):
            continue
        if not image:
            yield pod.problem(path, "the container has no image", "give it one")
        elif not _IMAGE.fullmatch(image):
            fix = f"write it as registry/name:tag, in lower case; if it is a template, {RENDER}"
            yield pod.problem((*path, "image"), f"{image} is not the name of an image", fix)


def _names(pod: PodPlace) -> Iterator[Problem]:
    seen: set[str] = set()
    for path, container in pod.containers():
        name = text(container, "name")
        if name in seen:
            yield pod.problem(path, f"two containers of the pod have the name {name}", "give each a name of its own")
        elif not _LABEL.fullmatch(name) or len(name) > _LONGEST_LABEL:
            yield pod.problem(
                path,
                f"{name!r} is not the name of a container",
                "take lower-case letters, digits and hyphens, 63 at most",
            )
        seen.add(name)


def _shared_processes(pod: PodPlace) -> Iterator[Problem]:
    """What would have a fault of the plugin reach processes of others: it is not Kubernetes that refuses it."""
    field = shared_processes(pod.spec)
    if field:
        yield pod.problem(
            (field,),
            f"with {field} a fault could reach processes that are not Ray's, so the plugin does not run such pods",
            f"remove it {PATCH}: {{{field}: null}}",
        )


def _mounts(pod: PodPlace) -> Iterator[Problem]:
    templates = inner(pod.of.manifest, "spec").get("volumeClaimTemplates")
    claims = [text(inner(one, "metadata"), "name") for one in listed(templates)]
    there = {*names_in(pod.spec.get("volumes")), *claims, *(_OF_KUBERAY if pod.role else ())}
    for path, container in pod.containers():
        for number, mount in enumerate(listed(container.get("volumeMounts"))):
            name = text(mount, "name")
            if name not in there:
                yield pod.problem(
                    (*path, "volumeMounts", number),
                    f"the pod has no volume {name}",
                    "add it to the volumes of the pod, or remove the mount",
                )


def _quantities(pod: PodPlace) -> Iterator[Problem]:
    for path, container in pod.containers():
        limits, requests = (inner(container, "resources", part) for part in ("limits", "requests"))
        for part, given in (("limits", limits), ("requests", requests)):
            for name, value in given.items():
                if value is not None and amount(value) is None:
                    yield pod.problem(
                        (*path, "resources", part, name),
                        f"{value!r:.40} is not a quantity",
                        "write it as Kubernetes does: 500m, 2, 2Gi",
                    )
        for name, value in requests.items():
            wanted, most = amount(value), amount(limits.get(name, ""))
            if wanted is not None and most is not None and wanted > most:
                yield pod.problem(
                    (*path, "resources", "requests", name),
                    f"the request {value} is above the limit {limits[name]}",
                    "request at most the limit",
                )


def _texts(pod: PodPlace) -> Iterator[Problem]:
    for path, container in pod.containers():
        for number, variable in enumerate(listed(container.get("env"))):
            if not isinstance(variable.get("value"), str | None):
                at: Path = (*path, "env", number)
                yield pod.problem(at, f"the variable {text(variable, 'name')} is not text", "write its value in quotes")
        for key in ("command", "args"):
            yield from _no_texts(pod, (*path, key), container)


def _no_texts(pod: PodPlace, path: Path, container: Mapping[str, Json]) -> Iterator[Problem]:
    given = container.get(str(path[-1]))
    for number, word in enumerate(given if isinstance(given, list) else []):
        if not isinstance(word, str):
            yield pod.problem((*path, number), f"word {number + 1} of {path[-1]} is not text", "write it in quotes")
