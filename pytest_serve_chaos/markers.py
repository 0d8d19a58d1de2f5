"""The markers: which fault a test is about, and which cluster it wants.

What a marker says is checked only for tests that use the plugin's fixtures, so a marker of somebody else's with the
same name is left alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.kinds import Choice, Duration, Kind
from pytest_serve_chaos.options import option

if TYPE_CHECKING:
    import pytest

    from pytest_serve_chaos.cluster.base import ClusterSpec
    from pytest_serve_chaos.model import How, Json
    from pytest_serve_chaos.settings import Settings

CLUSTER_MARKER = "serve_cluster"


class FaultRequest(NamedTuple):
    """The fault that a test is marked with.

    Attributes:
        kind: The name of the marker: ``head_failure``.
        options: What it says, checked; durations are seconds. `how` is always there.
    """

    kind: str
    options: Mapping[str, str | float]

    @property
    def how(self) -> How:
        """What to do to the target."""
        return cast("How", self.options["how"])


class FaultMarker(NamedTuple):
    """What one fault marker can say.

    Attributes:
        how: The valid values of `how`, the default first.
        options: Its other keywords.
    """

    how: Choice
    options: Mapping[str, Kind]


class _Bool(Kind):
    """A bool of Python's."""

    def __init__(self) -> None:
        super().__init__("True or False")

    def _parse(self, text: str, base: Path) -> bool:
        if text not in ("True", "False"):
            raise ValueError(text)
        return text == "True"


_HOW: Mapping[str, tuple[str, ...]] = {
    "for_": ("freeze", "delete"),
    "hold": ("kill", "stop"),
    "replacement": ("kill",),
    "by": ("kill",),
}
"""Keywords that go with some values of `how` only."""


def _fault(*how: str, **options: Kind) -> FaultMarker:
    if "freeze" in how:
        options["for_"] = Duration()
    return FaultMarker(Choice(*how), options)


_HOLD = _Bool()
_WHICH = Kind("most_replicas, random or the name of a worker, as worker-1", "WORKER")
_MACHINE = Kind("most_replicas, random, head or the name of a worker, as worker-1", "NODE")
_ON = Kind("head, workers or the name of a node, as worker-1", "NODE")
_DEPLOYMENT = Kind("the name of a deployment, as SleepyPid or app#SleepyPid", "DEPLOYMENT")
_REPLACEMENT = Choice("same_actor", "new_actor")
_BY = Choice("signal", "ray")
_MODE = Choice("raise", "hang")

FAULT_MARKERS: Mapping[str, FaultMarker] = {
    "head_failure": _fault("kill", "stop", "freeze", hold=_HOLD),
    "worker_failure": _fault("kill", "stop", "freeze", which=_WHICH, hold=_HOLD),
    "node_failure": _fault("kill", "stop", "freeze", "delete", "drain", which=_MACHINE),
    "controller_failure": _fault("kill", "freeze", replacement=_REPLACEMENT),
    "replica_failure": _fault("kill", "freeze", deployment=_DEPLOYMENT, on=_ON, by=_BY),
    "proxy_failure": _fault("kill", "freeze", on=_ON, by=_BY),
    "gcs_failure": _fault("kill", "stop", "freeze"),
    "redis_failure": _fault("kill", "stop", "freeze", hold=_HOLD),
    "health_check_failure": _fault("fail_health_check", deployment=_DEPLOYMENT, on=_ON, mode=_MODE),
    "rayservice_upgrade": _fault("upgrade"),
}

_CLUSTER_KINDS = {name: option(name).kind for name in ("gcs", "app", "workers", "profile")}
CLUSTER_KEYWORDS = (*_CLUSTER_KINDS, "env", "app_args")
"""What the marker `serve_cluster` can say."""


# -- what a test asks for ---------------------------------------------------------------------------------------------


def fault_requests(markers: Iterable[pytest.Mark]) -> tuple[FaultRequest, ...]:
    """The faults that a test is marked with, one for each fault marker.

    Args:
        markers: The markers of the test, the closest first, as `Item.iter_markers` gives them; of two with the same
            name the closest counts.

    Raises:
        SettingsError: A marker says something that it cannot say.
    """
    closest: dict[str, pytest.Mark] = {}
    for marker in markers:
        if marker.name in FAULT_MARKERS:
            closest.setdefault(marker.name, marker)
    return tuple(_fault_request(marker) for marker in closest.values())


def fault_request(markers: Iterable[pytest.Mark]) -> FaultRequest | None:
    """The one fault that a test is marked with; None where there is none.

    Raises:
        SettingsError: It is marked with two faults, or a marker says something that it cannot say.
    """
    requests = fault_requests(markers)
    if len(requests) > 1:
        raise SettingsError(
            f"The test is marked with {' and '.join(r.kind for r in requests)}, and an experiment injects one fault",
            mend=["take all but one marker away", "or nest the faults by hand with the fixture `chaos`"],
        )
    return requests[0] if requests else None


def cluster_request(
    markers: Iterable[pytest.Mark], settings: Settings, *, directory: Path | None = None
) -> ClusterSpec:
    """The cluster that a test wants: each keyword from the closest marker that has it, else from the settings.

    Args:
        markers: The markers of the test, the closest first, as `Item.iter_markers` gives them.
        settings: What holds where no marker says otherwise.
        directory: What the path of a Serve config file is relative to: that of the test; by default the current one.

    Raises:
        SettingsError: A marker says something that it cannot say.
    """
    from pytest_serve_chaos.cluster.base import ClusterSpec

    wanted: dict[str, Any] = {name: getattr(settings, name) for name in _CLUSTER_KINDS}
    for marker in reversed([marker for marker in markers if marker.name == CLUSTER_MARKER]):
        _check_keywords(marker, CLUSTER_KEYWORDS)
        for keyword, value in marker.kwargs.items():
            wanted[keyword] = _cluster_value(marker, keyword, value, directory or Path.cwd())
    return ClusterSpec(**wanted)


def cluster_keywords(markers: Iterable[pytest.Mark]) -> frozenset[str]:
    """What a test says itself of the cluster that it wants."""
    return frozenset(keyword for marker in markers if marker.name == CLUSTER_MARKER for keyword in marker.kwargs)


def _fault_request(marker: pytest.Mark) -> FaultRequest:
    known = FAULT_MARKERS[marker.name]
    _check_keywords(marker, ("how", *known.options))
    kinds = {"how": known.how, **known.options}
    options: dict[str, Any] = {"how": known.how.choices[0]}
    options |= {name: _parse(marker, name, value, kinds[name], Path()) for name, value in marker.kwargs.items()}
    for name, verbs in _HOW.items():
        valid = [how for how in verbs if how in known.how.choices]
        if name in options and options["how"] not in valid:
            raise SettingsError(
                f"{name} in @pytest.mark.{marker.name} goes with how={' or '.join(map(repr, valid))} only, and how is "
                f"{options['how']!r}"
            )
    return FaultRequest(marker.name, MappingProxyType(options))


def _check_keywords(marker: pytest.Mark, valid: Iterable[str]) -> None:
    valid = tuple(valid)
    mend = [f"the keywords of {marker.name} are {', '.join(valid)}"]
    if marker.args:
        given = ", ".join(map(repr, marker.args))
        raise SettingsError(
            f"@pytest.mark.{marker.name} takes keyword arguments only, and was given {given}", mend=mend
        )
    for keyword in marker.kwargs:
        if keyword not in valid:
            raise SettingsError(f"@pytest.mark.{marker.name} has no keyword {keyword!r}", mend=mend)


def _cluster_value(marker: pytest.Mark, keyword: str, value: object, directory: Path) -> object:
    if keyword in _CLUSTER_KINDS:
        return _parse(marker, keyword, value, _CLUSTER_KINDS[keyword], directory)
    if keyword == "env":
        return _pairs(marker, keyword, value, "a dict of texts", lambda one: isinstance(one, str))
    return _pairs(marker, keyword, value, "a dict of names and JSON values", _is_json)


def _parse(marker: pytest.Mark, keyword: str, value: object, kind: Kind, base: Path) -> object:
    if isinstance(value, (str, int, float)) and isinstance(value, bool) == isinstance(kind, _Bool):
        try:
            return kind.parse(str(value), base)
        except ValueError:
            pass
    raise _invalid(marker, keyword, value, kind.must)


def _pairs(
    marker: pytest.Mark, keyword: str, value: object, must: str, valid: Callable[[object], bool]
) -> tuple[tuple[str, Json], ...]:
    if isinstance(value, Mapping) and all(isinstance(name, str) and valid(one) for name, one in value.items()):
        return tuple(sorted(value.items()))
    raise _invalid(marker, keyword, value, must)


def _is_json(value: object) -> bool:
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (TypeError, ValueError):
        return False


def _invalid(marker: pytest.Mark, keyword: str, value: object, must: str) -> SettingsError:
    return SettingsError(f"Invalid {keyword}={value!r} in @pytest.mark.{marker.name}: it must be {must}")
