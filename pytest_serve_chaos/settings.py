"""What was set: the values of the table in `options`, each with where it came from."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

import pytest

from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.options import OPTIONS, Option, option

if TYPE_CHECKING:
    from pytest_serve_chaos.cluster.base import Gcs, Profile

Backend: TypeAlias = Literal["local", "kind", "kubernetes"]

COMMAND_LINE = "the command line"
DEFAULT = "the default"


class Configuration(Protocol):
    """What is needed of `pytest.Config`."""

    @property
    def rootpath(self) -> Path:
        """The root directory of pytest."""
        ...

    @property
    def inipath(self) -> Path | None:
        """The configuration file of pytest, where there is one."""
        ...

    def getoption(self, name: str, /) -> object:
        """The value of a command-line option, by its dest."""
        ...

    def getini(self, name: str, /) -> object:
        """The value of a key in the configuration file."""
        ...


def _default(name: str) -> Any:
    row = option(name)
    return row.kind.parse(row.default or "", Path())


def choose_seed() -> int:
    """A seed short enough to be typed again; not taken from `random`'s own state, which other plugins seed."""
    return random.SystemRandom().randrange(100_000)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a run; what each means stands in `options.OPTIONS`. Durations are seconds.

    Attributes:
        sources: Where each value came from, by name.
    """

    backend: Backend = field(default=_default("backend"))
    profile: Profile = field(default=_default("profile"))
    app: str = field(default=_default("app"))
    workers: int = field(default=_default("workers"))
    gcs: Gcs = field(default=_default("gcs"))
    rate: float = field(default=_default("rate"))
    kept_rate: float = field(default=_default("kept_rate"))
    request_timeout: float = field(default=_default("request_timeout"))
    method: str = field(default=_default("method"))
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: str | None = field(default=None, repr=False)
    seed: int = field(default_factory=choose_seed)
    report_dir: Path = field(default=_default("report_dir"))
    send_lag_limit: float | None = None
    redis_server: Path | None = None
    keep: bool = field(default=_default("keep"))
    context: str | None = None
    rayservice: str | None = None
    url: str | None = None
    allow: tuple[str, ...] = ()
    allow_context: str | None = None
    operator_namespace: str | None = None
    node_image: str | None = None
    ray_version: str | None = None
    ray_image: str = field(default=_default("ray_image"))
    redis_image: str = field(default=_default("redis_image"))
    operator_image: str = field(default=_default("operator_image"))
    kuberay_manifests: str = field(default=_default("kuberay_manifests"))
    rayservice_file: Path | None = None
    sources: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def image_of_ray(self) -> str:
        """The image of the Ray pods: the one that was given, or Ray's own of the version that was."""
        if self.ray_version is None or self._given("ray_image"):
            return self.ray_image
        return f"{self.ray_image.rpartition(':')[0]}:{self.ray_version}"

    @property
    def operator(self) -> str | None:
        """The image of KubeRay's operator; None: the one that its manifests name, where only these were given."""
        given = self._given("operator_image") or self.kuberay_manifests == _default("kuberay_manifests")
        return self.operator_image if given else None

    def _given(self, name: str) -> bool:
        return self.source(name) != DEFAULT or getattr(self, name) != _default(name)

    def source(self, name: str) -> str:
        """Where a value came from, for messages: ``the command line``, ``SERVE_CHAOS_RATE``, ``the default``."""
        return self.sources.get(name, DEFAULT)


class _Given(NamedTuple):
    """What a user gave for one setting, and where."""

    texts: tuple[str, ...]
    source: str
    base: Path


def resolve(config: Configuration, environ: Mapping[str, str] | None = None) -> Settings:
    """Reads all settings: the command line, then the environment, then pytest's configuration, then the default.

    A variable that is empty counts as not there. Settings that the backend does not use are not read from the
    environment or the configuration, which several backends may share; on the command line they are an error.

    Args:
        config: pytest's config, to which the plugin has added the options.
        environ: The environment; that of the process by default.

    Raises:
        SettingsError: A value is not valid, is for another backend, or is missing.
    """
    environ = os.environ if environ is None else environ
    row = option("backend")
    backend = str(_parse(row, _given(row, config, environ)))
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for row in OPTIONS:
        if backend not in row.backends:
            _refuse_unused(row, config, backend)
            continue
        given = _given(row, config, environ)
        if given.texts:
            values[row.name] = _parse(row, given)
        elif row.required:
            raise _missing(row, backend)
        sources[row.name] = given.source
    return Settings(**values, sources=sources)


def _given(row: Option, config: Configuration, environ: Mapping[str, str]) -> _Given:
    value = config.getoption(row.ini)
    if value is not None:
        return _Given(_texts(row, value), COMMAND_LINE, Path.cwd())
    if environ.get(row.env):
        return _Given(_texts(row, environ[row.env]), row.env, Path.cwd())
    value = _ini(row, config)
    if value is not None:
        return _Given(_texts(row, value), _ini_source(row, config), config.rootpath)
    return _Given(() if row.default is None else (row.default,), DEFAULT, config.rootpath)


def _texts(row: Option, value: object) -> tuple[str, ...]:
    values = value if isinstance(value, (list, tuple)) else [value]
    if not row.kind.repeated:
        return tuple(str(one) for one in values)
    return tuple(text for one in values for text in row.kind.split(str(one)))


def _ini(row: Option, config: Configuration) -> object:
    try:
        return config.getini(row.ini)
    except (TypeError, ValueError, pytest.UsageError) as error:
        # pytest converts numbers and booleans itself, and how it refuses differs between its versions.
        raise SettingsError(
            f"Invalid {row.flag} from {_ini_source(row, config)}: it must be {row.kind.must}", looked_at=[str(error)]
        ) from None


def _ini_source(row: Option, config: Configuration) -> str:
    return f"{row.ini} in {config.inipath.name if config.inipath else 'the configuration'}"


def _parse(row: Option, given: _Given) -> object:
    values = tuple(_parse_one(row, text, given) for text in given.texts)
    return values if row.kind.repeated else values[-1]


def _parse_one(row: Option, text: str, given: _Given) -> object:
    try:
        return row.kind.parse(text, given.base)
    except ValueError:
        shown = "(not shown)" if row.secret else repr(text)
        raise SettingsError(f"Invalid {row.flag} {shown} from {given.source}: it must be {row.kind.must}") from None


def _refuse_unused(row: Option, config: Configuration, backend: str) -> None:
    if config.getoption(row.ini) is not None:
        others = (f"or choose another backend: --serve-chaos-backend {name}" for name in row.backends)
        raise SettingsError(
            f"{row.flag} was given, and the {backend} backend does not use it", mend=["leave it out", *others]
        )


def _missing(row: Option, backend: str) -> SettingsError:
    return SettingsError(
        f"The {backend} backend needs {row.flag}: {row.help}",
        looked_at=["the command line", f"the environment variable {row.env}", f"{row.ini} in pytest's configuration"],
        mend=[f"give {row.flag} {row.kind.metavar}"],
    )
