"""What a Serve config hides from the plugin, which prints that before a test.

Other settings of production have no influence on a verdict: the encoding of logs, tracing, placement groups, request
routers, autoscaling policies, `root_path`, and time limits for idle connections.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import cast

from pytest_serve_chaos.model import Json

_HANDLES = "whether handles hear the controller cannot be seen, and `settled` is inconclusive where apps are composed"
_HEALTH_CHECKS = "a `health_check_failure` cannot be shown to have landed, and is inconclusive"


def blind_spots(config: Mapping[str, Json]) -> list[str]:
    """What the plugin cannot see because of a Serve config, a sentence for each setting."""
    return [*_logs(config), *_ingress(config)]


def _logs(config: Mapping[str, Json]) -> Iterator[str]:
    system = _mapping(config.get("logging_config"))
    if system.get("logs_dir"):
        yield f"logging_config.logs_dir is not where the plugin looks for the controller's log: {_HEALTH_CHECKS}"
    elif _level(system) > logging.WARNING:
        yield f"logging_config.log_level {system['log_level']} leaves failed health checks out: {_HEALTH_CHECKS}"
    for app in _mappings(config.get("applications")):
        deployments = _mappings(app.get("deployments"))
        of_app = _mapping(app.get("logging_config")) or system
        for where, given in [
            ("", of_app),
            *((f"#{d.get('name')}", _mapping(d.get("logging_config"))) for d in deployments),
        ]:
            why = _no_access_log(given)
            if why and (where or len(deployments) > 1 or app.get("logging_config")):
                yield f"{app.get('name', 'default')}{where}: {why}: {_HANDLES}"


def _no_access_log(given: Mapping[str, Json]) -> str:
    """Why there is no log of requests where the plugin looks for it; "" where there is one."""
    if given.get("enable_access_log") is False:
        return "logging_config.enable_access_log is off"
    if _level(given) > logging.INFO:
        return f"logging_config.log_level {given['log_level']} leaves requests out"
    return "logging_config.logs_dir is not where the plugin looks for logs" if given.get("logs_dir") else ""


def _ingress(config: Mapping[str, Json]) -> Iterator[str]:
    if _mapping(config.get("grpc_options")).get("grpc_servicer_functions"):
        yield "grpc_options: the plugin sends HTTP only, so no verdict is about the gRPC ingress"
    timeout = _mapping(config.get("http_options")).get("request_timeout_s")
    if isinstance(timeout, int | float) and timeout > 0:
        yield f"http_options.request_timeout_s: Serve ends a request after {timeout:g} s, and it counts as lost"


def _level(given: Mapping[str, Json]) -> int:
    level = given.get("log_level", logging.INFO)
    found = logging.getLevelName(level) if isinstance(level, str) else level
    return found if isinstance(found, int) else logging.INFO


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}


def _mappings(value: Json) -> list[Mapping[str, Json]]:
    return (
        [cast("Mapping[str, Json]", item) for item in value if isinstance(item, dict)]
        if isinstance(value, list)
        else []
    )
