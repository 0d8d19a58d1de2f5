"""The backend `local`: Ray nodes as processes of this machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_serve_chaos.backends.base import Backend, Deployments, Finding
from pytest_serve_chaos.options import options

if TYPE_CHECKING:
    from pytest_serve_chaos.cluster.base import Cluster, ClusterSpec, Progress
    from pytest_serve_chaos.settings import Settings


def _start(spec: ClusterSpec, settings: Settings, directory: Path, progress: Progress) -> Cluster:
    from pytest_serve_chaos.cluster.local.start import LocalSettings, start_local_cluster

    given = LocalSettings(settings.redis_server, directory, allow_ray_without_token=settings.allow_ray_without_token)
    return start_local_cluster(spec, given, progress)


def _check(spec: ClusterSpec, settings: Settings) -> None:
    from pytest_serve_chaos.cluster.local import preflight

    preflight.check(workers=spec.workers, redis_server=settings.redis_server, gcs=spec.gcs, ingress=spec.ingress)


def _check_app(spec: ClusterSpec, settings: Settings, progress: Progress) -> Deployments:
    from pytest_serve_chaos.backends.requests import check_requests_of
    from pytest_serve_chaos.cluster.app_check import check_app
    from pytest_serve_chaos.cluster.local.plan import CPUS
    from pytest_serve_chaos.cluster.resources import Offer, has_accelerators

    offer = Offer("a local cluster", spec.workers, CPUS, others=has_accelerators())
    # First: it lists all that is wrong with a config, which the other needs.
    found = check_app(spec, progress, offer=offer)
    check_requests_of(settings, spec)
    return found


def _doctor(settings: Settings) -> Iterator[Finding]:
    from pytest_serve_chaos.backends.probes import finding
    from pytest_serve_chaos.cluster.local import layout, preflight
    from pytest_serve_chaos.cluster.local.other_users import check_tokens

    yield finding("Linux", preflight.check_platform)
    ray = finding("Ray Serve", preflight.check_ray)
    yield ray
    if ray.ok:
        allowed = settings.allow_ray_without_token
        yield finding("Ray's tokens", lambda: check_tokens(ray.found, allowed=allowed) or "yes")
    if settings.gcs == "redis":
        yield finding("redis-server", lambda: preflight.describe_redis(settings.redis_server))
    elif settings.gcs == "rocksdb":
        yield finding("RocksDB", preflight.check_rocksdb)
    else:
        yield Finding("redis-server", "not needed without GCS fault tolerance")
    if settings.ingress == "haproxy":
        yield finding("HAProxy", preflight.check_haproxy)
    yield finding("temporary files", lambda: preflight.check_temporary_directory(settings.ingress))
    yield finding("memory", lambda: preflight.check_memory(settings.workers))
    yield finding("loopback, ports", lambda: layout.check_layout(settings.workers + 1))


def _sweep(progress: Progress) -> Iterable[str]:
    from pytest_serve_chaos.cluster.local.leftovers import sweep

    return sweep(progress)


LOCAL = Backend(
    name="local",
    description="Ray nodes as processes of this machine",
    options=options("profile", "app", "workers", "gcs", "env", "ingress", "redis_server", "allow_ray_without_token"),
    start=_start,
    doctor=_doctor,
    check=_check,
    check_app=_check_app,
    sweep=_sweep,
)
