"""What each backend needs, and whether it is here: one finding a line, each with how to mend it."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_serve_chaos.cluster.kuberay import names
from pytest_serve_chaos.cluster.local import layout, preflight
from pytest_serve_chaos.errors import MissingDependency, ServeChaosError
from pytest_serve_chaos.options import BACKENDS, option
from pytest_serve_chaos.settings import resolve

_LEAST_PYTHON, _MOST_PYTHON = (3, 10), (3, 14)
_KIND_MEMORY = 3.0
"""GiB; measured for four kind nodes with KubeRay, Redis, a head and two workers."""
_GIB = 1024**3
_ANSWER = 20.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a backend needs.

    Attributes:
        what: The thing.
        found: What was found of it, or what is wrong.
        ok: Whether it is here.
        mend: How to mend it, where it is not.
    """

    what: str
    found: str
    ok: bool = True
    mend: str = ""

    @property
    def line(self) -> str:
        """All of it in one line."""
        mend = f". To mend it: {self.mend}" if self.mend else ""
        return f"  {'ok' if self.ok else 'missing':<8} {self.what:<20} {self.found}{mend}"


def examine(backend: str, given: Mapping[str, str], environ: Mapping[str, str]) -> tuple[Finding, ...]:
    """What a backend needs, and whether it is here.

    Args:
        backend: Its name.
        given: Settings by name, as on the command line of pytest.
        environ: The environment, which may have settings too.
    """
    return (_try("Python", _python), *_NEEDS[backend](given, environ))


def _local(given: Mapping[str, str], environ: Mapping[str, str]) -> tuple[Finding, ...]:
    settings = resolve(_Given({**given, "backend": "local"}), environ)
    redis = Finding("redis-server", "not needed without GCS fault tolerance")
    if settings.gcs == "redis":
        redis = _try("redis-server", lambda: str(preflight.find_redis(settings.redis_server)))
    return (
        _try("Linux", preflight.check_platform),
        _try("Ray Serve", preflight.check_ray),
        redis,
        _try("memory", lambda: preflight.check_memory(settings.workers)),
        _try("loopback, ports", lambda: layout.check_layout(settings.workers + 1)),
    )


def _kind(given: Mapping[str, str], environ: Mapping[str, str]) -> tuple[Finding, ...]:
    settings = resolve(_Given({**given, "backend": "kind"}), environ)
    docker = _try("docker", lambda: _program("docker", "version", "--format", "{{.Server.Version}}"))
    kind = _try("kind", lambda: _program("kind", "version"))
    images = (settings.image_of_ray, settings.redis_image, settings.operator, settings.node_image)
    return (
        docker,
        kind,
        _try("kubectl", lambda: _program("kubectl", "version", "--client")),
        _try("pytest-kind-ng", lambda: _package("pytest-kind-ng", "kind")),
        _try("kubernetes", lambda: _package("kubernetes", "kind")),
        _try("memory", _memory_for_kind),
        *(Finding("image", _image(name)) for name in images if name is not None and docker.ok),
        Finding("KubeRay", _manifests(settings.kuberay_manifests)),
        *(Finding("kept cluster", found) for found in _kept() if docker.ok and kind.ok),
    )


def _kubernetes(given: Mapping[str, str], environ: Mapping[str, str]) -> tuple[Finding, ...]:
    package = _try("kubernetes", lambda: _package("kubernetes", "kubernetes"))
    values = {name: given.get(name) or environ.get(option(name).env, "") for name in ("context", "rayservice")}
    lacking = tuple(
        Finding(option(name).flag, f"not given: {option(name).help}", False, f"--{name} {option(name).kind.metavar}")
        for name, value in values.items()
        if not value
    )
    if lacking or not package.ok:
        return (package, *lacking)
    context, rayservice = values["context"], values["rayservice"]
    return (package, _try(f"context {context}", lambda: _server(context, rayservice)))


_NEEDS: Mapping[str, Callable[[Mapping[str, str], Mapping[str, str]], tuple[Finding, ...]]] = {
    "local": _local,
    "kind": _kind,
    "kubernetes": _kubernetes,
}
assert tuple(_NEEDS) == BACKENDS


class _Given:
    """Settings from a command line that is not pytest's."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = {option(name).ini: value for name, value in values.items()}
        self.rootpath = Path.cwd()
        self.inipath: Path | None = None

    def getoption(self, name: str, /) -> object:
        return self._values.get(name)

    def getini(self, name: str, /) -> object:
        del name
        return None


# -- probes: each says what it found, or raises ------------------------------------------------------------------------


def _try(what: str, probe: Callable[[], str]) -> Finding:
    try:
        return Finding(what, probe())
    except ServeChaosError as error:
        return Finding(what, error.what, False, "; ".join(error.mend[:2]))


def _python() -> str:
    if not _LEAST_PYTHON <= sys.version_info[:2] <= _MOST_PYTHON:
        raise MissingDependency(f"{platform.python_version()} is none of 3.10 to 3.14", mend=["use one of those"])
    return platform.python_version()


def _package(name: str, extra: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingDependency(
            f"the Python package {name} is not installed", mend=[f"pip install 'pytest-serve-chaos[{extra}]'"]
        ) from error


def _program(name: str, *arguments: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise MissingDependency("not on the PATH", mend=[f"install {name}", "or use the backend `local`"])
    try:
        said = _run([path, *arguments])
    except (OSError, subprocess.SubprocessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines() or [""]
        raise MissingDependency(f"it does not answer: {reason[-1][:160]}", mend=[f"see what `{name}` says"]) from error
    return f"{said.strip().splitlines()[0] if said.strip() else ''} ({path})"


def _run(command: Sequence[str]) -> str:
    ended = subprocess.run(
        list(command), check=True, capture_output=True, text=True, timeout=_ANSWER, start_new_session=True
    )
    return ended.stdout


def _memory_for_kind() -> str:
    available = preflight.available_memory() / _GIB
    if available < _KIND_MEMORY:
        raise MissingDependency(
            f"{available:.1f} GiB free, about {_KIND_MEMORY:g} needed", mend=["end other programs", "use fewer workers"]
        )
    return f"{available:.1f} GiB free, about {_KIND_MEMORY:g} needed"


def _image(name: str) -> str:
    try:
        _run(["docker", "image", "inspect", "--format", "{{.Id}}", name])
    except (OSError, subprocess.SubprocessError):
        return f"{name}: not in Docker's store, so the nodes will pull it"
    return f"{name}: in Docker's store"


def _manifests(source: str) -> str:
    return source if Path(source).exists() else f"{source}: from the internet"


def _kept() -> tuple[str, ...]:
    """How to use, and to get rid of, what a run with ``--serve-chaos-keep`` left; none where there is nothing."""
    name = names.KEPT_CLUSTER
    try:
        there = name in _run(["kind", "get", "clusters"]).split()
    except (OSError, subprocess.SubprocessError):
        return ()
    use = "the next run with --serve-chaos-keep takes it over; to delete it: kind delete cluster --name"
    return (f"{name} is there; {use} {name}",) if there else ()


def _server(context: str, rayservice: str) -> str:
    from pytest_serve_chaos.cluster.kuberay.api import KubeApi

    namespace, _, name = rayservice.partition("/")
    api = KubeApi(None, context=context, namespace=namespace)
    try:
        api.ray_service(name)
        return f"RayService {rayservice} is there"
    finally:
        api.close()
