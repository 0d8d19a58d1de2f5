"""What the pods of a RayService file get so that faults can take them one by one and our code runs in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.records import listed, mapped, text
from pytest_serve_chaos.cluster.kubernetes.install import render
from pytest_serve_chaos.cluster.kubernetes.install.file_needs import foreign_affinities
from pytest_serve_chaos.manifests import Manifest, merge
from pytest_serve_chaos.model import Json

ImageEnvironment: TypeAlias = Callable[[str], "Mapping[str, str] | None"]
"""The environment that an image sets, None where Docker does not have that image."""
Say: TypeAlias = Callable[[str], None]
"""Called with a sentence about each change."""

_VOLUME = "serve-chaos-code"
_PATH = "PYTHONPATH"
_USERS_PATH = "SERVE_CHAOS_USERS_PYTHONPATH"
_PINS = ("nodeName", "topologySpreadConstraints")
"""What names nodes, or zones, of another cluster."""
_ON_KIND = ("kubernetes.io/os", "kubernetes.io/arch")
"""The labels of a kind node that a selector for another cluster may ask for, too."""


@dataclass(frozen=True, slots=True)
class PodChanges:
    """What a run decides about the pods of a file.

    Attributes:
        labels: For everything that is made.
        code: The modules in the code ConfigMap; see `render.code_config_map`.
        image: The image for all Ray containers; None: those of the file.
        environment: Asks for an image that Docker may have.
    """

    labels: Mapping[str, str]
    code: Mapping[str, str]
    image: str | None
    environment: ImageEnvironment


def ray_pod(
    template: Mapping[str, Json], role: Literal["head", "worker"], changes: PodChanges, say: Say, where: str
) -> Manifest:
    """The template of a group's pods, changed.

    Args:
        template: As the file has it.
        role: Which group it is.
        changes: What the run decides.
        say: Called with a sentence about each change for this pod alone.
        where: What the group is called in those sentences.
    """
    pod = mapped(template.get("spec"))
    given, initial = listed(pod.get("containers")), listed(pod.get("initContainers"))
    images = {text(given[0], "image"): changes.image} if changes.image else {}
    ray, *others = _with_images(given, images, changes.environment, say)
    mount: Json = {"name": _VOLUME, "mountPath": names.CODE_PATH, "readOnly": True}
    ray = merge(
        _with_environment(ray, changes.environment), {"volumeMounts": [*listed(ray.get("volumeMounts")), mount]}
    )
    spec: Manifest = {key: value for key, value in pod.items() if key not in _PINS}
    spec["containers"] = [ray, *others]
    if initial:
        spec["initContainers"] = [*_with_images(initial, images, changes.environment, say)]
    spec["volumes"] = [*listed(pod.get("volumes")), {"name": _VOLUME, **render.code_volume(changes.code)}]
    return _template(template, {**changes.labels, names.PART: "ray"}, spec | _placement(pod, role, say, where))


def _template(template: Mapping[str, Json], labels: Mapping[str, str], spec: Manifest) -> Manifest:
    return {**merge(template, {"metadata": {"labels": {**labels}}}), "spec": spec}


def redis_pod(
    template: Mapping[str, Json], image: str | None, environment: ImageEnvironment, say: Say, where: str
) -> Manifest:
    """The template of Redis' pods, on the node that no fault touches, and labelled so that `chaos.redis` finds them."""
    pod = mapped(template.get("spec"))
    given = listed(pod.get("containers"))
    images = {text(container, "image"): image for container in given[:1] if image}
    pinned = [key for key in (*_PINS, "nodeSelector", "affinity") if pod.get(key)]
    if pinned:
        say(f"{where}: its {' and '.join(pinned)} are left out: Redis is on the node that no fault touches")
    place = render.on_services_node()
    spec: Manifest = {
        **{key: value for key, value in pod.items() if key not in pinned},
        "containers": [*_with_images(given, images, environment, say)],
        "nodeSelector": place["nodeSelector"],
        "tolerations": [*listed(pod.get("tolerations")), *listed(place["tolerations"])],
    }
    return _template(template, {names.PART: "redis"}, spec)


def _placement(pod: Mapping[str, Json], role: Literal["head", "worker"], say: Say, where: str) -> Manifest:
    ours = render.placement(role)
    selector = mapped(pod.get("nodeSelector"))
    foreign = {key: value for key, value in selector.items() if key not in _ON_KIND}
    if foreign:
        say(f"{where}: the nodeSelector {foreign} is left out: no kind node has such labels")
    everything = [t for t in listed(pod.get("tolerations")) if not t.get("key")]
    if everything:
        say(f"{where}: a toleration of every taint is left out: a fault keeps pods away with a taint")
    pinned = [key for key in _PINS if pod.get(key)]
    if pinned:
        say(f"{where}: its {' and '.join(pinned)} are left out: each pod has a node of its own")
    given = mapped(pod.get("affinity"))
    own = {key: value for key, value in given.items() if key not in foreign_affinities(given)}
    for key, why in foreign_affinities(given).items():
        say(f"{where}: its {key} is left out: {why}")
    if own:
        say(f"{where}: it keeps its own affinity; two Ray pods on one node would be lost together")
    return {
        "affinity": own or ours["affinity"],
        "nodeSelector": {**{k: v for k, v in selector.items() if k not in foreign}, **mapped(ours["nodeSelector"])},
        "tolerations": [*(t for t in listed(pod.get("tolerations")) if t.get("key")), *listed(ours["tolerations"])],
    }


def _with_images(
    containers: Sequence[Manifest], images: Mapping[str, str | None], environment: ImageEnvironment, say: Say
) -> list[Manifest]:
    """The containers with other images for some, all of them pulled only where that is needed."""
    changed: list[Manifest] = []
    for container in containers:
        old = text(container, "image")
        new = images.get(old)
        if new is not None and new != old:
            say(f"container {text(container, 'name')}: image {new} instead of {old}, as the options say")
            container = merge(container, {"image": new})
        changed.append(_with_pull_policy(container, environment, say))
    return changed


def _with_pull_policy(container: Mapping[str, Json], environment: ImageEnvironment, say: Say) -> Manifest:
    """A pod that always pulls does not use the image that is loaded onto its node."""
    image = text(container, "image")
    if _pull_policy(container) != "Always" or environment(image) is None:
        return dict(container)
    name = text(container, "name")
    say(f"container {name}: imagePullPolicy IfNotPresent instead of Always, so that this machine's {image} is used")
    return merge(container, {"imagePullPolicy": "IfNotPresent"})


def _pull_policy(container: Mapping[str, Json]) -> str:
    """The container's pull policy, or what Kubernetes takes by default."""
    newest = re.search(r"(:latest|/[^:@/]+|^[^:@/]+)$", text(container, "image"))
    return text(container, "imagePullPolicy") or ("Always" if newest else "IfNotPresent")


def _with_environment(container: Mapping[str, Json], environment: ImageEnvironment) -> Manifest:
    """Our code before what the user, or else the image, has on PYTHONPATH, at its place among the variables."""
    variables: list[Json] = []
    given = {text(v, "name") for v in listed(container.get("env"))}
    for variable in listed(container.get("env")):
        if text(variable, "name") != _PATH:
            variables.append(variable)
        elif "valueFrom" in variable:
            variables += [{**variable, "name": _USERS_PATH}, _variable(_PATH, render.python_path(f"$({_USERS_PATH})"))]
        else:
            variables.append(_variable(_PATH, render.python_path(text(variable, "value"))))
    if _PATH not in given:
        of_image = environment(text(container, "image")) or {}
        variables.append(_variable(_PATH, render.python_path(of_image.get(_PATH, ""))))
    variables += [_variable(name, value) for name, value in render.OUR_ENVIRONMENT.items() if name not in given]
    return merge(container, {"env": variables})


def _variable(name: str, value: str) -> Json:
    return {"name": name, "value": value}
