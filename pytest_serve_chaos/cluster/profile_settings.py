"""By what the profile of a cluster differs from Ray's defaults, for who reads a report of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.own_apps import OWN_APPS
from pytest_serve_chaos.cluster.profiles import environment, timing
from pytest_serve_chaos.cluster.serve_config import applications
from pytest_serve_chaos.model import Json

_OF_A_DEPLOYMENT = ("health_check_period_s", "health_check_timeout_s", "graceful_shutdown_timeout_s")


def profile_settings(spec: ClusterSpec, config: Mapping[str, Json]) -> dict[str, Json]:
    """Where -> setting -> value: the environment of ``head`` and ``workers``, and options of ``serve``.

    Of the environment that a user gives, it has only the values of variables that the profile sets, too: others may be
    secrets.

    Args:
        spec: A cluster of this package, which is made with the profile.
        config: Its Serve config.
    """
    ours = environment(replace(spec, env=()))
    in_use = environment(spec)
    head, workers = ({name: used[name] for name in own} for own, used in zip(ours, in_use, strict=True))
    found: dict[str, dict[str, Json]] = {"head": {**head}, "workers": {**workers}, "serve": _of_serve(spec, config)}
    return {where: settings for where, settings in found.items() if settings}


def _of_serve(spec: ClusterSpec, config: Mapping[str, Json]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    if spec.profile == "fast" and config.get("logging_config") == {"enable_access_log": False}:
        found["enable_access_log"] = False
    if timing(spec.profile) == timing("guide"):  # which has Serve's defaults
        return found
    for app in applications(config):
        if str(app.get("import_path", "")).startswith(OWN_APPS):
            arguments = cast("Mapping[str, Json]", app.get("args") or {})
            options = cast("Mapping[str, Json]", arguments.get("options") or {})
            found |= {name: options[name] for name in _OF_A_DEPLOYMENT if name in options}
    return found
