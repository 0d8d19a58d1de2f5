"""What a run installs beside KubeRay's operator: a RayService and what it needs, of our own making or a file's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.kuberay import render
from pytest_serve_chaos.cluster.kuberay.records import name_of
from pytest_serve_chaos.cluster.kuberay.redis_store import RedisStore
from pytest_serve_chaos.cluster.local_code import code_of_config, search_path
from pytest_serve_chaos.cluster.profiles import timing
from pytest_serve_chaos.cluster.serve_config import serve_config
from pytest_serve_chaos.manifests import Manifest
from pytest_serve_chaos.model import Json


@dataclass(frozen=True, slots=True)
class Workload:
    """What is applied, in this order: `before`, then the code, then the RayService; deleted the other way round.

    Attributes:
        ray_service: The RayService.
        before: Redis, and of a file all else that is in it.
        serve_config: The Serve config of the RayService.
        code: The modules in the code ConfigMap.
        ray_images: The images of the pods on the nodes of Ray, that of the head first.
        redis_images: Those of Redis.
        redis: The Redis under the GCS; None where there is none that is ours to break.
        told: What was made of what the user gave, a line each.
        unchecked: Whether the API server has to look at it before any of it is applied.
        details: What reports say of it.
        serve_service: What KubeRay calls its Service for traffic.
    """

    ray_service: Manifest
    before: tuple[Manifest, ...]
    serve_config: Mapping[str, Json]
    code: Mapping[str, str]
    ray_images: tuple[str, ...]
    redis_images: tuple[str, ...]
    redis: RedisStore | None
    told: tuple[str, ...] = ()
    unchecked: bool = False
    details: Mapping[str, Json] = field(default_factory=dict)
    serve_service: str = render.SERVE_SERVICE

    @property
    def name(self) -> str:
        """The RayService's name."""
        return name_of(self.ray_service)


def our_workload(spec: ClusterSpec, ray_image: str, redis_image: str, labels: Mapping[str, str]) -> Workload:
    """A RayService of our own for an app, with the code of our apps, and of the spec's where it is on this machine.

    Args:
        spec: Which cluster is wanted.
        ray_image: The image of the Ray pods.
        redis_image: That of Redis.
        labels: Labels for all that is made.

    Raises:
        SettingsError: The app cannot be used.
    """
    config = serve_config(spec)
    local = code_of_config(config, search_path())
    code = render.package_code() | {path: text for one in local.values() for path, text in one.modules.items()}
    periods, env = timing(spec.profile), dict(spec.env)
    settings = render.RayServiceSettings(
        image=ray_image,
        workers=spec.workers,
        gcs=spec.gcs,
        serve_config=config,
        head_env={**periods.head_env, **env},
        worker_env={**periods.worker_env, **env},
        termination_grace=periods.termination_grace,
        code=code,
        labels=labels,
    )
    has_redis = spec.gcs == "redis"
    return Workload(
        ray_service=render.ray_service(settings),
        before=render.redis(redis_image, labels) if has_redis else (),
        serve_config=config,
        code=code,
        ray_images=(ray_image,),
        redis_images=(redis_image,),
        redis=RedisStore() if has_redis else None,
        told=tuple(f"the code of {app} travels to the pods: {one}" for app, one in local.items()),
    )
