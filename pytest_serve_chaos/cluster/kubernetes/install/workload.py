"""What a run installs in addition to KubeRay's operator: a RayService and what it needs, its own or a file's."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.records import mapped, name_of, text
from pytest_serve_chaos.cluster.kubernetes.install import file_rules, render
from pytest_serve_chaos.cluster.kubernetes.rayservice.redis import RedisStore
from pytest_serve_chaos.cluster.local_code import code_of_config, search_path
from pytest_serve_chaos.cluster.own_apps import OWN_APPS
from pytest_serve_chaos.cluster.profiles import environment, timing
from pytest_serve_chaos.cluster.serve_config import applications, serve_config
from pytest_serve_chaos.errors import SettingsError
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
        told: What was changed in what the user gave, one line each.
        details: What reports say about it.
        serve_service: What KubeRay calls its Service for traffic.
        namespaces: The namespaces of the file's objects; that of the RayService is the first.
    """

    ray_service: Manifest = field(repr=False)
    before: tuple[Manifest, ...] = field(repr=False)
    serve_config: Mapping[str, Json] = field(repr=False)
    code: Mapping[str, str]
    ray_images: tuple[str, ...]
    redis_images: tuple[str, ...]
    redis: RedisStore | None
    told: tuple[str, ...] = ()
    details: Mapping[str, Json] = field(default_factory=dict)
    serve_service: str = render.SERVE_SERVICE
    namespaces: tuple[str, ...] = (names.NAMESPACE,)

    @property
    def namespace(self) -> str:
        """The namespace in which all of it runs."""
        return self.namespaces[0]

    @property
    def name(self) -> str:
        """The RayService's name."""
        return name_of(self.ray_service)


def our_workload(
    spec: ClusterSpec, ray_image: str, redis_image: str, labels: Mapping[str, str], *, ray_version: str | None = None
) -> Workload:
    """A RayService of our own for an app, with the code of our apps, and of the spec's where it is on this machine.

    Args:
        spec: Which cluster is wanted.
        ray_image: The image of the Ray pods.
        redis_image: That of Redis.
        labels: Labels for all that is made.
        ray_version: Which Ray that image has; None: that of its tag.

    Raises:
        SettingsError: The app cannot be used, or KubeRay or Serve would refuse what is made for it.
    """
    config, told = _at_our_address(serve_config(spec), spec.app)
    file_rules.check_serve_config(config, spec.app)
    local = code_of_config(config, search_path())
    code = render.package_code() | {path: text for one in local.values() for path, text in one.modules.items()}
    periods, (head_env, worker_env) = timing(spec.profile), environment(spec)
    version = ray_version or render.version_of(ray_image)
    settings = render.RayServiceSettings(
        image=ray_image,
        ray_version=version,
        workers=spec.workers,
        gcs=spec.gcs,
        serve_config=config,
        head_env=head_env,
        worker_env=worker_env,
        termination_grace=periods.termination_grace,
        code=code,
        labels=labels,
    )
    has_redis = spec.gcs == "redis"
    ray_service = render.ray_service(settings)
    _check(ray_service)
    if version is None:
        told.append(render.without_version(ray_image))
    told += [f"{app} is not found here, so the image must have it" for app in _elsewhere(config, local)]
    told += [f"the code of {app} travels to the pods: {one}" for app, one in local.items()]
    return Workload(
        ray_service=ray_service,
        before=render.redis(redis_image, labels) if has_redis else (),
        serve_config=config,
        code=code,
        ray_images=(ray_image,),
        redis_images=(redis_image,),
        redis=RedisStore() if has_redis else None,
        told=tuple(told),
    )


def _at_our_address(config: Mapping[str, Json], app: str) -> tuple[dict[str, Json], list[str]]:
    """The config with its proxies where our Services look for them, and a line about each change."""
    given = config.get("http_options")
    if not given:
        return dict(config), []
    ours: dict[str, Json] = {"host": file_rules.ALL_ADDRESSES, "port": file_rules.SERVE_PORT}
    there = mapped(given)
    replaced = [f"{key} {there[key]}" for key, value in ours.items() if there.get(key, value) != value]
    told = [f"{app}: {' and '.join(replaced)} of its http_options: replaced, as KubeRay's Services expect it"]
    return {**config, "http_options": {**there, **ours}}, told if replaced else []


def _elsewhere(config: Mapping[str, Json], local: Collection[str]) -> list[str]:
    """The apps of which no code travels."""
    paths = [text(app, "import_path") for app in applications(config)]
    return [path for path in paths if path not in local and not path.startswith(OWN_APPS)]


def _check(ray_service: Manifest) -> None:
    """What is wrong with a RayService of our own can only be an environment variable that a test has set."""
    try:
        file_rules.check(ray_service, "serve_cluster(env=...)")
    except SettingsError as error:
        fix = [
            "leave the variable out of the marker's env",
            "or deploy a RayService of your own: --serve-chaos-rayservice-file",
        ]
        raise SettingsError(error.what, checked=error.checked, fix=fix) from error
