"""The record that a reused kind cluster carries, and what the next run concludes from it; pure functions."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal, TypeAlias

from pytest_serve_chaos import safe_yaml
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.records import Pod, mapped, text
from pytest_serve_chaos.cluster.kubernetes.rayservice.redis import RedisStore
from pytest_serve_chaos.cluster.rest import NodeRow, ServeStatus, autoscaled, nodes_with_proxy
from pytest_serve_chaos.cluster.serve_config import applications
from pytest_serve_chaos.json_text import read_json
from pytest_serve_chaos.manifests import Manifest, merge
from pytest_serve_chaos.model import Json

Step: TypeAlias = Literal["adopt", "renew", "install", "create"]
Placement: TypeAlias = Mapping[str, Sequence[int]]
"""``app#Deployment`` -> replicas per node, most first; which node has how many does not matter."""


_OF_TESTS: Manifest = {
    "serveConfigV2": None,
    "rayClusterDeletionDelaySeconds": None,
    "rayClusterConfig": {"headGroupSpec": {"template": {"metadata": {"annotations": {names.UPGRADE: None}}}}},
}
"""What tests change in a RayService's spec, as a patch that takes it away."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is in a reused cluster: an annotation of our namespace, which never claims more than is there.

    Attributes:
        machines: What the nodes are made of.
        base: The fingerprint of what is under the RayService: images and the operator; "" while it is not all there.
        service: That of the RayService, its Redis, Services and code; "" while it does not serve.
        spec: That of the RayService as Kubernetes has it, without its Serve config, and of the pods of its Redis.
        operator: The operator's namespace.
        placement: Where the replicas were when all served for the first time.
        sound: Whether the run that used it last left it as it was.
    """

    machines: str
    base: str = ""
    service: str = ""
    spec: str = ""
    operator: str = "default"
    placement: Placement = field(default_factory=dict)
    sound: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done with a kind cluster.

    Attributes:
        step: ``adopt`` it as it is, ``renew`` its RayService and Redis, ``install`` all that is on its nodes, or
            ``create`` it.
        reason: Why no less will do; "" where there is nothing to say.
    """

    step: Step
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What should be in a cluster that is kept.

    Attributes:
        record: What it should say of itself: machines, base and service.
        ray_service: The RayService.
        redis: Its Redis; None where there is none that is ours.
        number: Number of Ray pods, each on a machine of its own.
    """

    record: Record
    ray_service: Manifest = field(repr=False)
    redis: RedisStore | None
    number: int

    @property
    def serve_config(self) -> str:
        """The RayService's `serveConfigV2`."""
        return text(mapped(self.ray_service.get("spec")), "serveConfigV2")

    @property
    def namespace(self) -> str:
        """The namespace of the RayService."""
        return text(mapped(self.ray_service.get("metadata")), "namespace") or names.NAMESPACE

    @property
    def apps(self) -> frozenset[str]:
        """The names of the apps in it; ``default`` is Serve's own word for one without a name."""
        config = safe_yaml.read_document(self.serve_config)
        return frozenset(text(app, "name") or "default" for app in applications(mapped(config)))


def plan(record: Record | None, wanted: Record, *, machines: int, number: int) -> Plan:
    """What the record alone allows.

    Args:
        record: What is there; None: nobody knows.
        wanted: What should be there: machines, base and service.
        machines: How many machines for Ray there are.
        number: How many are wanted.
    """
    if machines != number:
        return Plan("create", f"it has {machines} machines for Ray, and {number} are wanted")
    if record is None:
        return Plan("install", "nothing says what is in it")
    if record.machines != wanted.machines:
        return Plan("create", f"its machines are {record.machines}; wanted: {wanted.machines}")
    if record.base != wanted.base:
        return Plan("install", "it has other images or another operator" if record.base else "it was never finished")
    if record.service != wanted.service:
        return Plan("renew", "another RayService is wanted" if record.service else "its RayService has never served")
    if not record.sound:
        return Plan("renew", "the run that used it last did not leave it as it was")
    return Plan("adopt")


def fingerprint(parts: Iterable[str]) -> str:
    """A short text that is the same only for the same parts in the same order."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def fingerprint_of_spec(ray_service: Mapping[str, Json], redis: Mapping[str, Json]) -> str:
    """The fingerprint of a RayService's spec without what tests change in it and is as good afterwards, and of Redis.

    What tests change is its Serve config, which they put back, and what an upgrade changes: the cluster that took over
    is the same.

    Args:
        ray_service: The RayService.
        redis: What the pods of its Redis are made from; empty where there is none.
    """
    spec = merge(mapped(ray_service.get("spec")), _OF_TESTS)
    return fingerprint(json.dumps(part, sort_keys=True) for part in (spec, redis))


def to_text(record: Record) -> str:
    """The record for an annotation."""
    return json.dumps(asdict(record), sort_keys=True)


def from_text(said: str) -> Record | None:
    """The record from an annotation; None where it is not one of this version."""
    try:
        found = read_json(said)
        record = Record(**mapped(found))  # type: ignore[arg-type]  # looked at below
    except (ValueError, TypeError):
        return None
    return record if _has_its_kinds(record) else None


def _has_its_kinds(record: Record) -> bool:
    """Whether each field has a value of its own kind: others may have written the annotation."""
    texts = (record.machines, record.base, record.service, record.spec, record.operator)
    placed = record.placement.values() if isinstance(record.placement, dict) else [None]
    counts = all(isinstance(counts, list) and all(isinstance(n, int) for n in counts) for counts in placed)
    return all(isinstance(text, str) for text in texts) and counts and isinstance(record.sound, bool)


# -- whether what was adopted is all there ----------------------------------------------------------------------------


def placement(status: ServeStatus) -> dict[str, list[int]]:
    """Where the replicas that run are; those that Serve scales are somewhere else after each scaling."""
    running = [r for r in status.replicas if r.state == "RUNNING"]
    return {
        name: sorted(Counter(r.node_id for r in running if f"{r.app}#{r.deployment}" == name).values(), reverse=True)
        for name in status.targets
        if name not in autoscaled(status)
    }


def lacks(
    pods: Sequence[Pod], status: ServeStatus, nodes: Sequence[NodeRow], *, apps: Collection[str], number: int
) -> list[str]:
    """What is not as it must be, in words; empty where all is there, and nothing else.

    Args:
        pods: The RayCluster's pods. Not all need be ready: a worker without a replica never is.
        status: What Serve says.
        nodes: Ray's nodes.
        apps: The names of the apps that should run.
        number: How many pods there should be.
    """
    up = [pod for pod in pods if pod.runs]
    wrong = [] if len(up) == len(pods) == number else ["; ".join(pod.summary for pod in pods) or "no pods"]
    alive = [node for node in nodes if node.state == "ALIVE"]
    wrong += [] if len(alive) == number else [f"{len(alive)} of {number} Ray nodes ALIVE"]
    wrong += [f"there is the app {app}" for app in sorted({*status.apps} - {*apps})]
    wrong += [
        f"{app}: {status.apps.get(app, 'not there')}" for app in sorted(apps) if status.apps.get(app) != "RUNNING"
    ]
    there = Counter(f"{r.app}#{r.deployment}" for r in status.replicas)
    wrong += [f"{name}: {there[name]} of {n} replicas" for name, n in status.targets.items() if there[name] != n]
    wrong += [f"a replica of {r.deployment} is {r.state}" for r in status.replicas if r.state != "RUNNING"]
    with_proxy = nodes_with_proxy(status, alive)
    without = [node for node in with_proxy if status.proxies.get(node) != "HEALTHY"]
    return wrong + ([f"{len(without)} of {len(with_proxy)} proxies are not HEALTHY"] if without else [])


def moved(now: Placement, at_first: Placement) -> str:
    """Where replicas are placed otherwise than at first, in words; Serve does not put them back by itself.

    A deployment that has another number of replicas now scales by itself, so its placement says nothing.
    """
    lopsided = [
        f"{name}: {'/'.join(map(str, now.get(name, ())))} replicas per node instead of {'/'.join(map(str, counts))}"
        for name, counts in at_first.items()
        if sum(now.get(name, ())) == sum(counts) and list(now.get(name, ())) != list(counts)
    ]
    return "; ".join(lopsided)
