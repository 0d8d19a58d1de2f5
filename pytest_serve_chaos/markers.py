"""The markers: which fault a test is about, and which cluster it wants. The faults themselves say what theirs take.

What a marker says is checked only for tests that use the plugin's fixtures, so a marker of somebody else's with the
same name is left alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.options import option

if TYPE_CHECKING:
    import pytest

    from pytest_serve_chaos.analysis.trials import Series
    from pytest_serve_chaos.cluster.base import ClusterSpec
    from pytest_serve_chaos.faults.registry import FaultRegistry
    from pytest_serve_chaos.faults.spec import FaultChoice, FaultSpec
    from pytest_serve_chaos.kinds import Kind
    from pytest_serve_chaos.model import Json
    from pytest_serve_chaos.settings import Settings

CLUSTER_MARKER = "serve_cluster"


_CLUSTER_KINDS = {name: option(name).kind for name in ("gcs", "app", "workers", "profile", "ingress")}
CLUSTER_KEYWORDS = (*_CLUSTER_KINDS, "env", "app_args")
"""What the marker `serve_cluster` can say."""

TRIALS_MARKER = "serve_chaos"
TRIALS_KEYWORDS = ("trials", "allow_failed")
"""What the marker `serve_chaos` can say."""


# -- what a test asks for ---------------------------------------------------------------------------------------------


def fault_requests(markers: Iterable[pytest.Mark], faults: FaultRegistry) -> tuple[FaultChoice, ...]:
    """The faults that a test is marked with, one for each fault marker.

    Args:
        markers: The markers of the test, the closest first, as `Item.iter_markers` gives them; of two with the same
            name the closest counts.
        faults: All faults that there are.

    Raises:
        SettingsError: A marker says something that it cannot say.
    """
    closest: dict[str, pytest.Mark] = {}
    for marker in markers:
        if marker.name in faults:
            closest.setdefault(marker.name, marker)
    return tuple(_fault_request(faults[name], marker) for name, marker in closest.items())


def fault_request(markers: Iterable[pytest.Mark], faults: FaultRegistry) -> FaultChoice | None:
    """The one fault that a test is marked with; None where there is none.

    Raises:
        SettingsError: It is marked with two faults, or a marker says something that it cannot say.
    """
    requests = fault_requests(markers, faults)
    if len(requests) > 1:
        raise SettingsError(
            f"The test is marked with {' and '.join(r.kind for r in requests)}, and an experiment injects one fault",
            fix=["take all but one marker away", "or nest the faults by hand with the fixture `chaos`"],
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
    from pytest_serve_chaos.cluster.profiles import HAPROXY
    from pytest_serve_chaos.cluster.storage import gcs_of

    said = [marker for marker in markers if marker.name == CLUSTER_MARKER]
    wanted: dict[str, Any] = {name: getattr(settings, name) for name in _CLUSTER_KINDS}
    wanted["env"] = settings.env
    for marker in reversed(said):
        _check_keywords(marker, CLUSTER_KEYWORDS)
        for keyword, value in marker.kwargs.items():
            wanted[keyword] = _cluster_value(marker, keyword, value, directory or Path.cwd())
    if dict(wanted.get("env", ())).get(HAPROXY) == "1":
        wanted["ingress"] = "haproxy"
    wanted["env"] = tuple(sorted({**dict(settings.env), **dict(wanted["env"])}.items()))
    spec = ClusterSpec(**wanted)
    gcs = gcs_of(spec.gcs, dict(spec.env), said="gcs" in cluster_keywords(said))
    return replace(spec, gcs=gcs)


def trials_request(markers: Iterable[pytest.Mark], settings: Settings) -> Series:
    """How often a test is run: as its closest marker says, else as the settings say.

    Raises:
        SettingsError: The marker says something that it cannot say.
    """
    from pytest_serve_chaos.analysis.trials import Series

    marker = next((marker for marker in markers if marker.name == TRIALS_MARKER), None)
    if marker is None:
        return Series(settings.trials)
    _check_keywords(marker, TRIALS_KEYWORDS)
    said = {"trials": settings.trials, "allow_failed": 0, **marker.kwargs}
    for keyword, least in (("trials", 1), ("allow_failed", 0)):
        if isinstance(said[keyword], bool) or not isinstance(said[keyword], int) or said[keyword] < least:
            raise _invalid(marker, keyword, said[keyword], f"a whole number, {least} or more")
    if said["allow_failed"] >= said["trials"]:
        raise _invalid(marker, "allow_failed", said["allow_failed"], f"less than the {said['trials']} trials")
    return Series(said["trials"], said["allow_failed"])


def cluster_keywords(markers: Iterable[pytest.Mark]) -> frozenset[str]:
    """What a test says itself of the cluster that it wants."""
    return frozenset(keyword for marker in markers if marker.name == CLUSTER_MARKER for keyword in marker.kwargs)


def _fault_request(spec: FaultSpec[object], marker: pytest.Mark) -> FaultChoice:
    _refuse_arguments(marker, ("how", *(option.name for option in spec.options)))
    return spec.choose(marker.kwargs)


def _refuse_arguments(marker: pytest.Mark, valid: Iterable[str]) -> None:
    if marker.args:
        given = ", ".join(map(repr, marker.args))
        raise SettingsError(
            f"@pytest.mark.{marker.name} takes keyword arguments only, and was given {given}",
            fix=[_keywords_of(marker, valid)],
        )


def _check_keywords(marker: pytest.Mark, valid: Iterable[str]) -> None:
    valid = tuple(valid)
    _refuse_arguments(marker, valid)
    for keyword in marker.kwargs:
        if keyword not in valid:
            raise SettingsError(
                f"@pytest.mark.{marker.name} has no keyword {keyword!r}", fix=[_keywords_of(marker, valid)]
            )


def _keywords_of(marker: pytest.Mark, valid: Iterable[str]) -> str:
    return f"the keywords of {marker.name} are {', '.join(valid)}"


def _cluster_value(marker: pytest.Mark, keyword: str, value: object, directory: Path) -> object:
    if keyword in _CLUSTER_KINDS:
        return _parse(marker, keyword, value, _CLUSTER_KINDS[keyword], directory)
    if keyword == "env":
        return _pairs(marker, keyword, value, "a dict of texts", lambda one: isinstance(one, str))
    return _pairs(marker, keyword, value, "a dict of names and JSON values", _is_json)


def _parse(marker: pytest.Mark, keyword: str, value: object, kind: Kind, base: Path) -> object:
    try:
        return kind.take(value, base)
    except ValueError as error:
        raise _invalid(marker, keyword, value, kind.must) from error


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
