"""What was set: the values of the options of a run, each with where it came from."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pytest

from pytest_serve_chaos.backends.registry import BUILT_IN, Backends
from pytest_serve_chaos.cluster.kubernetes.client.lease import RunLease
from pytest_serve_chaos.cluster.kubernetes.client.server_identity import FirstServer
from pytest_serve_chaos.errors import SettingsError, nearest
from pytest_serve_chaos.masking import masked
from pytest_serve_chaos.options import OPTIONS, Option, option

if TYPE_CHECKING:
    from pytest_serve_chaos.cluster.base import Gcs, Ingress, Profile
    from pytest_serve_chaos.safety.journal import Journal
    from pytest_serve_chaos.schedule import Pattern, Schedule
    from pytest_serve_chaos.traffic.request_kind import RequestKind

Value = TypeVar("Value")

_PREFIX = "SERVE_CHAOS_"
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
        others: The values of the options that backends of other plugins have added, by name.
        sources: Where each value came from, by name.
        first_server: The API server that this run looked at first.
        lease: The lease that this run holds on an external RayService.
    """

    backend: str = field(default=_default("backend"))
    profile: Profile = field(default=_default("profile"))
    app: str = field(default=_default("app"))
    workers: int = field(default=_default("workers"))
    gcs: Gcs = field(default=_default("gcs"))
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    ingress: Ingress = field(default=_default("ingress"))
    rate: float = field(default=_default("rate"))
    stages: str | None = None
    arrivals: Pattern = field(default=_default("arrivals"))
    persistent_rate: float = field(default=_default("persistent_rate"))
    request_timeout: float = field(default=_default("request_timeout"))
    method: str = field(default=_default("method"))
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: str | None = field(default=None, repr=False)
    path: str | None = field(default=None, repr=False)
    requests: Path | None = None
    seed: int = field(default_factory=choose_seed)
    trials: int = field(default=_default("trials"))
    dry_run: bool = field(default=_default("dry_run"))
    report_dir: Path = field(default=_default("report_dir"))
    otel: bool = field(default=_default("otel"))
    slow_after: float | None = None
    send_lag_limit: float | None = None
    watch_for: float | None = None
    redis_server: Path | None = None
    allow_ray_without_token: bool = field(default=_default("allow_ray_without_token"))
    keep: bool = field(default=_default("keep"))
    context: str | None = None
    rayservice: str | None = None
    url: str | None = field(default=None, repr=False)
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
    rayservice_patch: Path | None = None
    others: Mapping[str, object] = field(default_factory=dict, repr=False)
    sources: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    first_server: FirstServer = field(default_factory=FirstServer, compare=False, repr=False)
    lease: RunLease = field(default_factory=RunLease, compare=False, repr=False)

    @property
    def schedule(self) -> Schedule:
        """When requests are due: by the stages, where there are some."""
        from pytest_serve_chaos.schedule import Schedule

        return Schedule.of(self.stages or self.rate, self.arrivals)

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

    @property
    def request_kinds(self) -> tuple[RequestKind, ...]:
        """The kinds of requests in the file of requests; none without one.

        Raises:
            SettingsError: The file cannot be read, or a request in it cannot be used.
        """
        if self.requests is None:
            return ()
        from pytest_serve_chaos.traffic.request_file import read_requests

        return read_requests(self.requests)

    @property
    def journal(self) -> Journal:
        """Where a backend writes what has to be undone if the run is killed, before it makes the change."""
        from pytest_serve_chaos.safety.journal import journal_of

        return journal_of(self.report_dir)

    def _given(self, name: str) -> bool:
        return not self.by_default(name) or getattr(self, name) != _default(name)

    def value(self, name: str, kind: type[Value]) -> Value:
        """The value of an option that a backend of another plugin has added.

        Raises:
            SettingsError: No backend has added it, or its value is not of that type.
        """
        value = self.others.get(name)
        if not isinstance(value, kind):
            found = "not set" if value is None else f"of type {type(value).__name__}"  # it may be secret
            raise SettingsError(
                f"the setting {name} is {found}, and the backend {self.backend} reads it as {kind.__name__}",
                checked=[f"settings of other plugins: {', '.join(self.others) or 'none'}"],
                fix=["add it to the options of the backend, with a default", "or read `settings.others`"],
            )
        return value

    def by_default(self, name: str) -> bool:
        """Whether nobody set it."""
        return self.source(name) == DEFAULT

    def on_command_line(self, name: str) -> bool:
        """Whether it was set on the command line."""
        return self.source(name) == COMMAND_LINE

    def source(self, name: str) -> str:
        """Where a value came from, for messages: ``the command line``, ``SERVE_CHAOS_RATE``, ``the default``."""
        return self.sources.get(name, DEFAULT)


@dataclass(frozen=True, slots=True)
class _Given:
    """What a user gave for one setting, and where."""

    texts: tuple[str, ...] = field(repr=False)
    source: str
    base: Path


def resolve(
    config: Configuration,
    environ: Mapping[str, str] | None = None,
    backends: Backends = BUILT_IN,
    *,
    partial: bool = False,
) -> Settings:
    """Reads all settings: the command line, then the environment, then pytest's configuration, then the default.

    A variable that is empty counts as not there. Settings that the backend does not use are not read from the
    environment or the configuration, which several backends may share; on the command line they are an error.

    Args:
        config: pytest's config, to which the plugin has added the options.
        environ: The environment; that of the process by default.
        backends: Those that can be chosen.
        partial: Whether settings that are required may be missing.

    Raises:
        SettingsError: A value is not valid, is for another backend, or is missing; all that are missing are named.
    """
    environ = os.environ if environ is None else environ
    row = backends.choice
    backend = str(_parse(row, _given(row, config, environ)))
    values: dict[str, object] = {}
    sources: dict[str, str] = {}
    missing: list[Option] = []
    for row in backends.options:
        if backend not in backends.users(row):
            _refuse_unused(row, config, backend, backends)
            continue
        given = _given(row, config, environ)
        if given.texts:
            values[row.name] = _parse(row, given)
        elif row.required and not partial:
            missing.append(row)
        sources[row.name] = given.source
    if missing:
        raise _missing(missing, backend)
    return _settings(values, sources, backends[backend].options)


def misspelled(environ: Mapping[str, str], backends: Backends) -> list[tuple[str, str]]:
    """The variables that look like one of a setting and are not, each with the one that was probably meant."""
    names = {row.env.removeprefix(_PREFIX): row.env for row in backends.options}
    unknown = [name.removeprefix(_PREFIX) for name in environ if name.startswith(_PREFIX)]
    meant = {name: nearest(name, names) for name in unknown if name not in names}
    return [(f"{_PREFIX}{name}", names[one]) for name, one in meant.items() if one]


def given_texts(row: Option, config: Configuration) -> tuple[str, ...]:
    """What a user gave for one setting, on the command line, in the environment or in pytest's configuration."""
    given = _given(row, config, os.environ)
    return () if given.source == DEFAULT else given.texts


def _settings(values: Mapping[str, object], sources: Mapping[str, str], used: Sequence[Option]) -> Settings:
    """The settings, of which those that are not in our table are in `others`; of these, all that the backend uses."""
    ours = {row.name for row in OPTIONS}
    fields: dict[str, Any] = {name: value for name, value in values.items() if name in ours}
    unset = {row.name: () if row.kind.repeated else None for row in used}
    others = {name: values.get(name, unset[name]) for name in unset if name not in ours}
    return Settings(**fields, others=others, sources=sources)


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
            f"Invalid {row.flag} from {_ini_source(row, config)}: it must be {row.kind.must}", checked=[str(error)]
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
        shown = "(not shown)" if row.secret else repr(masked(text))
        raise SettingsError(f"Invalid {row.flag} {shown} from {given.source}: it must be {row.kind.must}") from None


def _refuse_unused(row: Option, config: Configuration, backend: str, backends: Backends) -> None:
    if config.getoption(row.ini) is not None:
        others = (f"or choose another backend: --serve-chaos-backend={name}" for name in backends.users(row))
        raise SettingsError(
            f"{row.flag} was given, and the {backend} backend does not use it", fix=["leave it out", *others]
        )


def _missing(rows: Sequence[Option], backend: str) -> SettingsError:
    needed = [f"{row.flag}: {row.help}" for row in rows]
    return SettingsError(
        f"The {backend} backend needs {'; and '.join(needed)}",
        checked=[
            "the command line",
            f"the environment: {', '.join(row.env for row in rows)}",
            f"pytest's configuration: {', '.join(row.ini for row in rows)}",
        ],
        fix=[f"give {' '.join(row.usage for row in rows)}"],
    )
