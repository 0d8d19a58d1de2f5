"""What a kind cluster is made of."""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_serve_chaos.cluster.kubernetes.rayservice.probe import Probe


@dataclass(frozen=True, slots=True)
class KindSettings:
    """What a kind cluster is made of. All of it can come from this machine alone, so it works without the internet.

    Attributes:
        node_image: The nodes' image; None takes the one that the installed kind was released with.
        ray_image: The image of Ray's containers.
        ray_version: Which Ray it has; None: that of its tag.
        redis_image: Redis' image.
        operator_image: The operator's image; None takes the one that its manifests name.
        kuberay_manifests: A file, a directory or a URL with KubeRay's manifests, or what `kubectl kustomize` takes.
        keep: Leave all of it there when done, and take over what an earlier run left.
        name: The kind cluster's name; None makes one up, or with `keep` takes ``serve-chaos``.
        timeout: Seconds for each phase of bringing the RayService up.
        probe: What the traffic will ask.
    """

    node_image: str | None = None
    ray_image: str = "rayproject/ray:2.60.0"
    ray_version: str | None = None
    redis_image: str = "redis:7.0"
    operator_image: str | None = "quay.io/kuberay/operator:v1.6.2"
    kuberay_manifests: str = "github.com/ray-project/kuberay/ray-operator/config/default?ref=v1.6.2"
    keep: bool = False
    name: str | None = None
    timeout: float = 600.0
    probe: Probe = field(default_factory=Probe)
