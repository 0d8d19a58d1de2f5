"""The backend `kind`: a Kubernetes cluster in Docker, with KubeRay."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_serve_chaos import clock
from pytest_serve_chaos.backends.base import Backend, Deployments, Finding, Leftover
from pytest_serve_chaos.errors import MissingDependency, SafetyError, SettingsError, Unsupported
from pytest_serve_chaos.options import option, options

if TYPE_CHECKING:
    from pytest_serve_chaos.cluster.base import Cluster, ClusterSpec, Gcs, Progress
    from pytest_serve_chaos.cluster.kubernetes.install.file_checks import FileChecks
    from pytest_serve_chaos.cluster.kubernetes.install.file_workload import OwnRayService
    from pytest_serve_chaos.settings import Settings

DELETE = "delete_kind_cluster"
"""The journal's verb for a kind cluster that a run made."""
DELETE_UNFINISHED = "delete_unfinished_kind_cluster"
"""The journal's verb for a kind cluster that is to stay once it is made."""

_GIB = 1024**3
_MEMORY = 3.0
"""GiB; measured for four kind nodes with KubeRay, Redis, a head and two workers."""

INOTIFY_INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
_INOTIFY_OF_A_NODE = 32
"""Seen: with 128 instances a cluster of four nodes runs, and a second one does not."""
_NODES = 4
"""Nodes of a cluster with two workers: the control plane, and one for each Ray pod."""


def own_rayservice(settings: Settings, path: Path, *, checked: bool = False) -> OwnRayService:
    """The user's own RayService, from a file; what else is set must not say otherwise than the file.

    Args:
        settings: The settings.
        path: The file.
        checked: Whether it was read before, so that Ray and KubeRay's schema need not be asked again.

    Raises:
        SettingsError: It does, or the file cannot be used.
    """
    from pytest_serve_chaos.cluster.kubernetes.install.file_checks import FileChecks
    from pytest_serve_chaos.cluster.kubernetes.install.file_workload import OwnRayService
    from pytest_serve_chaos.cluster.kubernetes.install.rayservice_file import read_own_file
    from pytest_serve_chaos.cluster.local_code import search_path

    for name in ("workers", "gcs", "profile", "ingress"):
        if settings.on_command_line(name):
            raise SettingsError(
                f"{option(name).flag} was given, and the RayService of {path} says that itself",
                fix=["leave it out", "or say it in the file"],
            )
    app = settings.app if settings.on_command_line("app") else None
    if app is not None and app.endswith((".yaml", ".yml")):
        raise SettingsError(
            f"--serve-chaos-app={app} is a Serve config, and the RayService of {path} has its own",
            fix=["write it into the file as serveConfigV2", "or give module:app, which replaces its first app"],
        )
    image = None if settings.by_default("ray_image") and not settings.ray_version else settings.image_of_ray
    directories = (path.absolute().parent, *search_path())
    if checked:
        checks = FileChecks(directories=directories, other_image=image is not None)
    else:
        checks = _checks(settings, image, directories)
    return OwnRayService(
        file=read_own_file(path, app=app, patch=settings.rayservice_patch, checks=checks),
        ray_image=image,
        ray_version=settings.ray_version,
        redis_image=None if settings.by_default("redis_image") else settings.redis_image,
        directories=directories,
    )


def _kuberay(settings: Settings) -> tuple[int, int] | None:
    from pytest_serve_chaos.cluster.kubernetes.install.kuberay import kuberay_version

    return kuberay_version(settings.operator, settings.kuberay_manifests)


def _check_storage(gcs: Gcs, settings: Settings) -> None:
    """Refuses what the KubeRay that the run installs, or the Ray of its pods, does not know."""
    if gcs == "rocksdb":
        from pytest_serve_chaos.cluster.kubernetes.install import kuberay, render

        ray = settings.ray_version or render.version_of(settings.image_of_ray)
        kuberay.check_storage(gcs, _kuberay(settings), ray)


def _checks(settings: Settings, image: str | None, directories: tuple[Path, ...]) -> FileChecks:
    """What a file is compared with: this machine, the KubeRay that the run installs, and the Ray that is here."""
    from pytest_serve_chaos.cluster.kubernetes.install import crd_schema, render
    from pytest_serve_chaos.cluster.kubernetes.install.file_checks import FileChecks
    from pytest_serve_chaos.cluster.kubernetes.install.file_objects import KindOffers
    from pytest_serve_chaos.cluster.serve_check import ask_ray

    remote = os.environ.get("DOCKER_HOST", "unix://").partition("://")[0] != "unix"
    offers = KindOffers(
        processors=None if remote else os.cpu_count(),
        memory=None if remote else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        operator=_kuberay(settings),
        schema=crd_schema.read_schema(settings.kuberay_manifests),
    )
    version = settings.ray_version or (None if image is None else render.version_of(image))
    return FileChecks(offers, ask_ray, version, directories, other_image=image is not None)


def _adapt(settings: Settings) -> Settings:
    if settings.rayservice_file is None:
        _check_storage(settings.gcs, settings)
        if settings.rayservice_patch is not None:
            flags = option("rayservice_patch").flag, option("rayservice_file").flag
            raise SettingsError(f"{flags[0]} was given without {flags[1]}", fix=[f"give {flags[1]}", "or leave it out"])
        return settings
    from pytest_serve_chaos.backends.requests import check_requests

    file = own_rayservice(settings, settings.rayservice_file).file
    check_requests(settings, file.found.serve_config)
    found = file.spec
    there = replace(settings, gcs=found.gcs, workers=found.workers, app=found.app, profile=found.profile)
    return replace(there, ingress=found.ingress)


def _start(spec: ClusterSpec, settings: Settings, directory: Path, progress: Progress) -> Cluster:
    own = _own_for(spec, settings)
    if own is None:
        _check_storage(spec.gcs, settings)
    from pytest_serve_chaos.backends.requests import probe_of
    from pytest_serve_chaos.cluster.kubernetes.kind.settings import KindSettings
    from pytest_serve_chaos.cluster.kubernetes.kind.start import start_kind_cluster

    given = {
        name: getattr(settings, name)
        for name in ("node_image", "ray_version", "redis_image", "kuberay_manifests")
        if getattr(settings, name) is not None
    }
    journal = settings.journal
    entries: list[Path] = []

    def on_create(name: str) -> None:
        verb = DELETE_UNFINISHED if settings.keep else DELETE
        text = f"the kind cluster {name} of a run that ended by force"
        entries.append(journal.write(verb, text, name=name, docker=docker_id()))

    def on_done(_: str) -> None:
        while entries and settings.keep:  # machines that are not kept stay until `_end`
            journal.done(entries.pop())

    return start_kind_cluster(
        spec,
        KindSettings(
            **given,
            ray_image=settings.image_of_ray,
            operator_image=settings.operator,
            keep=True,
            name=None if settings.keep else _name_of(directory),
            probe=probe_of(settings),
        ),
        directory,
        progress,
        own=own,
        on_create=on_create,
        on_done=on_done,
    )


def _name_of(directory: Path) -> str:
    """The name of the kind cluster that all tests of a run use, one after the other."""
    return f"serve-chaos-{hashlib.sha256(bytes(directory.absolute())).hexdigest()[:6]}"


def docker_id() -> str:
    """Which Docker it is that makes clusters here; "" where it does not answer."""
    from pytest_serve_chaos.backends.probes import run

    try:
        return run(["docker", "info", "--format", "{{.ID}}"]).strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _end(settings: Settings, directory: Path, progress: Progress) -> None:
    if settings.keep:
        return
    from pytest_serve_chaos.cluster.kubernetes.kind.start import delete_kind_cluster

    journal, name, began = settings.journal, _name_of(directory), clock.now()
    entries = journal.written(DELETE, name=name)
    if entries:
        delete_kind_cluster(name, directory)
        progress(f"kind: deleted {name} in {clock.now() - began:.1f} s")
    for entry in entries:
        journal.done(entry)


def _own_for(spec: ClusterSpec, settings: Settings) -> OwnRayService | None:
    """The user's own RayService, if there is a file with one.

    Raises:
        Unsupported: The test wants another cluster.
    """
    if settings.rayservice_file is None:
        return None
    from pytest_serve_chaos.cluster.kubernetes.rayservice.existing import differences

    own = own_rayservice(settings, settings.rayservice_file, checked=True)
    others = differences(spec, own.file.spec)
    if others:
        raise Unsupported(f"the test wants {', '.join(others)}, and the RayService of {own.file.path} is as it is")
    return own


def _lock(settings: Settings) -> str | None:
    from pytest_serve_chaos.cluster.kubernetes import names

    return f"kind/{names.KEPT_CLUSTER}" if settings.keep else None


def _delete(left: Leftover, *, unfinished: bool = False) -> None:
    from pytest_serve_chaos.cluster.kubernetes.kind.start import delete_kind_cluster

    then, now = left.arguments.get("docker"), docker_id()
    if then and now and then != now:  # in another one, a cluster of that name is not there, or somebody else's
        raise SafetyError(
            f"the kind cluster {left.arguments['name']} is in another Docker than the one that answers now",
            checked=[f"docker info: it has the ID {now}, and that of the cluster has {then}"],
            fix=["set DOCKER_HOST, or `docker context use`, as the run had it, and call serve-chaos undo again"],
        )
    # New, and in the journal's own directory: nothing that lies in a checkout is written to, or through.
    directory = Path(tempfile.mkdtemp(prefix="kind-", dir=left.directory))
    delete_kind_cluster(left.arguments["name"], directory, unfinished=unfinished)
    shutil.rmtree(directory, ignore_errors=True)


def _delete_unfinished(left: Leftover) -> None:
    _delete(left, unfinished=True)


def _check_app(spec: ClusterSpec, settings: Settings, progress: Progress) -> Deployments | None:
    if settings.rayservice_file is not None:  # which has apps of its own
        from pytest_serve_chaos.cluster.app_check import check_apps_of_file

        own = own_rayservice(settings, settings.rayservice_file, checked=True)
        config, directories = own.file.found.serve_config, own.directories
        check_apps_of_file(config, own.file.path, progress, directories=directories, image=own.image_of_head)
        return None
    from pytest_serve_chaos.backends.requests import check_requests_of
    from pytest_serve_chaos.cluster.app_check import check_app
    from pytest_serve_chaos.cluster.kubernetes.install.render import cpus_of_a_worker, version_of
    from pytest_serve_chaos.cluster.resources import Offer

    version = settings.ray_version or version_of(settings.image_of_ray)
    image, offer = settings.image_of_ray, Offer("the kind cluster", spec.workers, cpus_of_a_worker())
    found = check_app(spec, progress, in_image=True, ray_version=version, image=image, offer=offer)
    check_requests_of(settings, spec)
    return found


def _doctor(settings: Settings) -> Iterator[Finding]:
    from pytest_serve_chaos.backends.probes import finding, package, program

    docker = finding("docker", lambda: program("docker", "version", "--format", "{{.Server.Version}}"))
    kind = finding("kind", lambda: program("kind", "version"))
    yield docker
    yield kind
    yield finding("kubectl", lambda: program("kubectl", "version", "--client"))
    yield finding("pytest-kind-ng", lambda: package("pytest-kind-ng", "kind"))
    yield finding("kubernetes", lambda: package("kubernetes", "kind"))
    yield finding("memory", _memory)
    if docker.ok:
        yield finding("inotify instances", _inotify_instances)
        images = (settings.image_of_ray, settings.redis_image, settings.operator, settings.node_image)
        yield from (Finding("image", _image(name)) for name in images if name is not None)
    yield Finding("KubeRay", _manifests(settings.kuberay_manifests))
    if settings.gcs == "rocksdb":
        yield finding("RocksDB", lambda: _storage(settings))
    if docker.ok and kind.ok:
        yield from _clusters_that_are_there()


def _memory() -> str:
    from pytest_serve_chaos.cluster.local import preflight

    available = preflight.available_memory() / _GIB
    if available < _MEMORY:
        raise MissingDependency(
            f"{available:.1f} GiB free, about {_MEMORY:g} needed", fix=["end other programs", "or use fewer workers"]
        )
    return f"{available:.1f} GiB free, about {_MEMORY:g} needed"


def _inotify_instances() -> str:
    """Whether the kernel has enough of them for the nodes of a run alongside those of other kind clusters.

    Without them kube-proxy ends with "too many open files", and no node becomes Ready
    (https://kind.sigs.k8s.io/docs/user/known-issues/#pod-errors-due-to-too-many-open-files).
    """
    from pytest_serve_chaos.backends.probes import run
    from pytest_serve_chaos.cluster.kubernetes import names

    label = "io.x-k8s.kind.cluster"
    try:
        listed = run(["docker", "ps", "--filter", f"label={label}", "--format", f'{{{{.Label "{label}"}}}}']).split()
    except (OSError, subprocess.SubprocessError):
        listed = []
    others = sum(cluster != names.KEPT_CLUSTER for cluster in listed)
    there, needed = int(INOTIFY_INSTANCES.read_text()), _INOTIFY_OF_A_NODE * (_NODES + others)
    known = f"{there}, and {needed} needed for {_NODES} nodes" + (
        f" alongside {others} of other clusters" if others else ""
    )
    if there < needed:
        raise MissingDependency(known, fix=["sudo sysctl fs.inotify.max_user_instances=512"])
    return known


def _image(name: str) -> str:
    from pytest_serve_chaos.backends.probes import run

    try:
        run(["docker", "image", "inspect", "--format", "{{.Id}}", name])
    except (OSError, subprocess.SubprocessError):
        return f"{name}: not in Docker's store, so the nodes will pull it"
    return f"{name}: in Docker's store"


def _storage(settings: Settings) -> str:
    _check_storage(settings.gcs, settings)
    return "KubeRay and Ray know it, as far as their versions are known"


def _manifests(source: str) -> str:
    return source if Path(source).exists() else f"{source}: from the internet"


def _clusters_that_are_there() -> Iterator[Finding]:
    """How to reuse, and how to delete, what runs have left, also those whose undo journal is gone."""
    from pytest_serve_chaos.backends.probes import run
    from pytest_serve_chaos.cluster.kubernetes import names

    try:
        there = run(["kind", "get", "clusters"]).split()
    except (OSError, subprocess.SubprocessError):
        return
    for name in there:
        delete = f"kind delete cluster --name {name}"
        if name == names.KEPT_CLUSTER:
            use = "the next run with --serve-chaos-keep takes it over"
            yield Finding("reused cluster", f"{name} is there; {use}; to delete it: {delete}")
        elif re.fullmatch(names.OF_ONE_RUN, name):
            yield Finding("cluster of a run", f"{name} is there; if that run is over: serve-chaos undo, or {delete}")


KIND = Backend(
    name="kind",
    description="Kubernetes in Docker with KubeRay, made for the run",
    options=options(
        "profile",
        "app",
        "workers",
        "gcs",
        "env",
        "ingress",
        "keep",
        "node_image",
        "ray_version",
        "ray_image",
        "redis_image",
        "operator_image",
        "kuberay_manifests",
        "rayservice_file",
        "rayservice_patch",
    ),
    start=_start,
    doctor=_doctor,
    adapt=_adapt,
    check_app=_check_app,
    lock=_lock,
    end=_end,
    undo={DELETE: _delete, DELETE_UNFINISHED: _delete_unfinished},
)
