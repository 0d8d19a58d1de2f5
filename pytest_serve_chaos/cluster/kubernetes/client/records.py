"""Kubernetes objects as records: pods and events, with only what this package reads of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_serve_chaos.cluster.json_fields import LONGEST
from pytest_serve_chaos.model import Json

_NOT_BEGUN = ("Pending", "PodInitializing")
"""The states of a container before which others have to run."""

_RAY_START = "KUBERAY_GEN_RAY_START_CMD"
"""The variable that KubeRay sets in Ray's container, which is the first of the RayCluster's template, and no other."""

_LONGEST_MESSAGE = 200
"""Characters of a message of Kubernetes that are shown."""


@dataclass(frozen=True, slots=True)
class Container:
    """A container of a pod, as the kubelet last reported it.

    Attributes:
        id: Its id without the runtime's prefix; "" while it has none.
        running: Whether it runs.
        ready: Whether its readiness probe passes.
        restarts: How often it was started again.
        state: ``Running``, or why it is not (``CrashLoopBackOff``, ``Error``).
        message: What else Kubernetes says about one that does not run; "" if nothing.
        ended: When the one before it in this pod ended, ISO 8601; "" where there was none.
    """

    name: str
    id: str
    running: bool
    ready: bool
    restarts: int
    state: str
    message: str = ""
    ended: str = ""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod.

    Attributes:
        node: The Kubernetes node that it is on; "" while it is on none.
        created: When its object was made, ISO 8601; only for putting pods in order.
        deleting: Whether its deletion was asked for.
        message: Why it is pending, where the scheduler says so, or why it failed, where the kubelet does.
        grace: Seconds between SIGTERM and SIGKILL when it is deleted gracefully.
        init_containers: Those that run before the others, or as sidecars from the start.
        owner: The kind of what controls it: ``DaemonSet``; "" where nothing does.
        main_name: The name of its main container; "": it is the first.
        shares_processes: Which field of it has its containers see processes of others: ``hostPID``; "" where none does.
        unschedulable: Whether the scheduler has found no node for it.
    """

    name: str
    uid: str
    node: str
    ip: str
    phase: str
    created: str
    deleting: bool
    labels: Mapping[str, str]
    containers: tuple[Container, ...]
    message: str = ""
    grace: float = 30.0
    init_containers: tuple[Container, ...] = ()
    owner: str = ""
    ready: bool | None = None
    main_name: str = ""
    shares_processes: str = ""
    unschedulable: bool = False

    @property
    def main(self) -> Container | None:
        """Its main container, which in Ray's pods is Ray's: somebody may have put a sidecar before it."""
        if not self.main_name:
            return self.containers[0] if self.containers else None
        return next((container for container in self.containers if container.name == self.main_name), None)

    @property
    def runs(self) -> bool:
        """Whether its main container runs, and it is to stay."""
        return self.main is not None and self.main.running and not self.deleting

    @property
    def is_ready(self) -> bool:
        """Whether its main container is ready, and it is to stay."""
        return self.main is not None and self.main.ready and not self.deleting

    @property
    def state(self) -> str:
        """Kubernetes' word for it, and its reason where it has one: ``CrashLoopBackOff (back-off 20s ...)``."""
        container = self.main
        word = "Terminating" if self.deleting else container.state if container else self.phase
        ready = "" if container is None or container.ready or word != "Running" else ", not ready"
        return f"{word}{ready}" + (f" ({self._reason})" if self._reason else "")

    @property
    def _reason(self) -> str:
        container = self.main
        if self.message or self.deleting or container is None or container.running:
            return self.message
        # They run one after the other, and sidecars from the start: the last that has begun is the current one.
        begun = [c for c in self.init_containers if c.state not in (*_NOT_BEGUN, "Completed")]
        if container.state in _NOT_BEGUN and begun:
            said = f": {begun[-1].message}" if begun[-1].message else ""
            return f"init container {begun[-1].name}: {begun[-1].state}{said}"
        return container.message

    @property
    def summary(self) -> str:
        """Its name, and its state in a few words."""
        return f"{self.name}: {self.state}"


def pod(item: Mapping[str, Json]) -> Pod:
    """The record of a pod."""
    metadata, spec, status = (mapped(item.get(key)) for key in ("metadata", "spec", "status"))
    return Pod(
        name=text(metadata, "name"),
        uid=text(metadata, "uid"),
        node=text(spec, "nodeName"),
        ip=text(status, "podIP"),
        phase=text(status, "phase"),
        created=text(metadata, "creationTimestamp"),
        deleting=bool(metadata.get("deletionTimestamp")),
        labels={key: str(value) for key, value in mapped(metadata.get("labels")).items()},
        containers=_containers(spec.get("containers"), status.get("containerStatuses")),
        message=_shortened(text(_not_scheduled(status), "message") or text(status, "message")),
        grace=seconds(spec, "terminationGracePeriodSeconds", 30.0),
        init_containers=_containers(spec.get("initContainers"), status.get("initContainerStatuses")),
        ready=_ready(status),
        main_name=_of_ray(spec),
        shares_processes=shared_processes(spec),
        owner=next((text(o, "kind") for o in listed(metadata.get("ownerReferences")) if o.get("controller")), ""),
        unschedulable=text(_not_scheduled(status), "reason") == "Unschedulable",
    )


def shared_processes(spec: Mapping[str, Json]) -> str:
    """Which field of a pod's spec has its containers see processes of others; "" where none does."""
    return next((field for field in ("hostPID", "shareProcessNamespace") if spec.get(field)), "")


def _of_ray(spec: Mapping[str, Json]) -> str:
    """The name of the container for which KubeRay has written how Ray starts; "" where none is."""
    for container in listed(spec.get("containers")):
        if any(text(variable, "name") == _RAY_START for variable in listed(container.get("env"))):
            return text(container, "name")
    return ""


def _containers(wanted: Json, reported: Json) -> tuple[Container, ...]:
    statuses = {text(s, "name"): s for s in listed(reported)}
    return tuple(_container(text(c, "name"), statuses.get(text(c, "name"), {})) for c in listed(wanted))


def _container(name: str, status: Mapping[str, Json]) -> Container:
    state = mapped(status.get("state"))
    running = "running" in state
    why = [text(mapped(state[key]), "reason") or key for key in ("terminated", "waiting") if key in state]
    ended = inner(status, "lastState", "terminated")
    restarts = status.get("restartCount")
    return Container(
        name=name,
        id=text(status, "containerID").rpartition("//")[2],
        running=running,
        ready=bool(status.get("ready")),
        restarts=restarts if isinstance(restarts, int) else 0,
        state="Running" if running else "".join(why) or "Pending",
        message=_shortened(_container_message(state)),
        ended=text(ended, "finishedAt"),
    )


def _container_message(state: Mapping[str, Json]) -> str:
    ended = mapped(state.get("terminated"))
    said = text(ended, "message") or text(mapped(state.get("waiting")), "message")
    return said or (f"exit status {ended['exitCode']}" if ended.get("exitCode") else "")


def _shortened(message: str) -> str:
    """A message of Kubernetes in one line that is not too long, without repetitions and what explains nothing."""
    line = " ".join(message.split()).partition(" preemption: ")[0]
    line = re.sub(r" pod=\S+\(\S+\)$", "", line)
    return line if len(line) <= _LONGEST_MESSAGE else f"{line[:_LONGEST_MESSAGE]}..."


def _condition(status: Mapping[str, Json], kind: str) -> Mapping[str, Json]:
    """The condition of that type; empty where the status has none."""
    found = [condition for condition in listed(status.get("conditions")) if condition.get("type") == kind]
    return found[-1] if found else {}


def _not_scheduled(status: Mapping[str, Json]) -> Mapping[str, Json]:
    """The condition that says why the pod is on no node; empty where none does."""
    condition = _condition(status, "PodScheduled")
    return condition if condition.get("status") == "False" else {}


def _ready(status: Mapping[str, Json]) -> bool | None:
    condition = _condition(status, "Ready")
    return condition.get("status") == "True" if condition else None


def node_is_ready(item: Mapping[str, Json]) -> bool:
    """Whether a Kubernetes node is Ready."""
    return bool(_ready(mapped(item.get("status"))))


def event_time(event: Mapping[str, Json]) -> str:
    """When an event was last seen, as text that can be put in order."""
    return text(event, "lastTimestamp") or text(event, "eventTime")


def event_line(event: Mapping[str, Json]) -> str:
    """An event in one line."""
    about = mapped(event.get("involvedObject"))
    message = " ".join(text(event, "message").split())
    return f"{text(about, 'kind')} {text(about, 'name')}: {text(event, 'reason')}: {message[:300]}"


def mapped(value: Json) -> dict[str, Json]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def listed(value: Json) -> list[dict[str, Json]]:
    """The objects of a list; none if the value is not a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def inner(item: Mapping[str, Json], *path: str) -> dict[str, Json]:
    """The object at a path of keys, an empty one where there is none."""
    found = dict(item)
    for key in path:
        found = mapped(found.get(key))
    return found


def text(item: Mapping[str, Json], key: str) -> str:
    """The text at a key, "" where there is none."""
    value = item.get(key)
    return "" if value is None else str(value)


def seconds(item: Mapping[str, Json], key: str, default: float) -> float:
    """The whole seconds at a key; the default where there are none, or what is there is not a time."""
    value = item.get(key)
    is_time = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LONGEST
    return float(value) if is_time else default  # type: ignore[arg-type]


def ray_clusters_of(item: Mapping[str, Json]) -> tuple[str, str]:
    """The RayCluster that serves for a RayService, and the one that is to take over, by its status; "" for none."""
    active, pending = (inner(item, "status", f"{which}ServiceStatus") for which in ("active", "pending"))
    return text(active, "rayClusterName"), text(pending, "rayClusterName")


def name_of(item: Mapping[str, Json]) -> str:
    """The name of an object."""
    return text(mapped(item.get("metadata")), "name")
