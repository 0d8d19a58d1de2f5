"""The Serve config of a run: that of the guide's app, of the user's `module:app`, or the user's own file."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from pytest_serve_chaos import manifests
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.local_code import search_path, without_directories
from pytest_serve_chaos.cluster.own_apps import OWN_APPS
from pytest_serve_chaos.cluster.profiles import Timing, timing
from pytest_serve_chaos.cluster.proxy_location import EVERY_NODE, check_proxy_location
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.model import Json

CANARY = "serve_chaos_canary"

_PORT = 8000
"""DEFAULT_HTTP_PORT of ray/serve/_private/constants.py."""

_REPLICAS = 6
_MOST_PER_NODE = 3


def serve_config(spec: ClusterSpec, *, check: bool = True) -> dict[str, Json]:
    """The config that a cluster of that spec should run, without Serve's address.

    Args:
        spec: The cluster.
        check: Whether a config without proxies is refused; False: somebody lists that with all else.

    Raises:
        SettingsError: The app is neither ``module:app`` nor a Serve config file, or Serve would have no proxies.
    """
    if spec.app.endswith((".yaml", ".yml")):
        config, _ = _without_directories(_from_file(Path(spec.app)))
        if check:
            check_proxy_location(config, spec.app)
    else:
        config = {"applications": [_application(spec)]}
    config.setdefault("proxy_location", EVERY_NODE)
    if spec.profile == "fast":
        # A line in two logs for each request costs a fifth of what the request costs.
        config.setdefault("logging_config", {"enable_access_log": False})
        for app in applications(config):
            if app.get("import_path") != f"{OWN_APPS}sleepy_pid:app":
                # The logs of replicas say who called whom: `observe.handles` needs that where apps are composed.
                # An app's own logging_config replaces that of the whole config, so it repeats what that has.
                above = cast("dict[str, Json]", config["logging_config"] or {})
                app.setdefault("logging_config", {**above, "enable_access_log": True})
    return config


def left_out(spec: ClusterSpec) -> list[str]:
    """What `serve_config` leaves out of the user's own file, a sentence each."""
    if not spec.app.endswith((".yaml", ".yml")):
        return []
    return [f"{spec.app}: {note}" for note in _without_directories(_from_file(Path(spec.app)))[1]]


def repeated(spec: ClusterSpec) -> list[str]:
    """The keys that the user's own file has twice in one mapping, a sentence each."""
    from pytest_serve_chaos.cluster import yaml_text

    text = yaml_text.read_text(Path(spec.app), "the Serve config file")
    return [f"{spec.app}: {note}" for note in yaml_text.repeated_keys(text)]


def _without_directories(config: dict[str, Json]) -> tuple[dict[str, Json], list[str]]:
    """Without the directories of this machine, where the apps are found without them; and what that is."""
    changed = [without_directories(app, search_path()) for app in applications(config)]
    apps: list[Json] = [app for app, _ in changed]
    return {**config, "applications": apps}, [note for _, note in changed if note]


def with_app(config: Mapping[str, Json], app: Mapping[str, Json]) -> dict[str, Json]:
    """The config with one more app."""
    return {**config, "applications": [*applications(config), dict(app)]}


def with_deployment_options(
    config: Mapping[str, Json], deployment: str, options: Mapping[str, Json]
) -> dict[str, Json]:
    """The config in which a deployment (``app#Deployment``) has these options, as an edit of the config file gives."""
    app_name, _, name = deployment.partition("#")
    changed: list[Json] = []
    for app in applications(config):
        if name_of(app) != app_name:
            changed.append(app)
            continue
        deployments = cast("list[dict[str, Json]]", app.get("deployments") or [])
        found = next((d for d in deployments if d.get("name") == name), {"name": name})
        others: list[Json] = [d for d in deployments if d.get("name") != name]
        changed.append({**app, "deployments": [*others, {**found, **options}]})
    return {**config, "applications": changed}


def canary(number: int, *, replicas: int = 1) -> dict[str, Json]:
    """The canary app; each has a route of its own, so that an old one is not taken for it.

    Where nothing but `replicas` changes, Serve scales it, and keeps the replicas that it has.
    """
    return {
        "name": f"{CANARY}_{number}",
        "route_prefix": f"/{CANARY}_{number}",
        "import_path": f"{OWN_APPS}canary:app",
        "deployments": [{"name": "Canary", "num_replicas": replicas}],
    }


def applications(config: Mapping[str, Json]) -> list[dict[str, Json]]:
    """The apps of a config."""
    return cast("list[dict[str, Json]]", config.get("applications") or [])


def name_of(app: Mapping[str, Json]) -> str:
    """The name of an app of a config, which Serve calls ``default`` where the config does not name it."""
    return str(app.get("name") or "default")


def first_route(config: Mapping[str, Json]) -> str:
    """The route of the first app that has one: that is where traffic goes unless the user says otherwise."""
    routes = [app.get("route_prefix", "/") for app in applications(config)]
    return str(next((route for route in routes if route), "/"))


def serve_port(config: Mapping[str, Json]) -> int:
    """The port of each proxy: the config's own, or else Serve's default."""
    given = cast("dict[str, Json]", config.get("http_options") or {}).get("port")
    return given if isinstance(given, int) else _PORT


def _application(spec: ClusterSpec) -> dict[str, Json]:
    module, colon, name = spec.app.partition(":")
    if not colon or not module or not name:
        raise SettingsError(
            f"{spec.app!r} is not an app",
            fix=["write module:app, as for `serve run`", "or the path of a Serve config file that ends in .yaml"],
        )
    if spec.app.startswith(OWN_APPS) and importlib.util.find_spec(module) is None:
        raise SettingsError(
            f"there is no app {spec.app!r}",
            checked=["the modules of pytest_serve_chaos.apps"],
            fix=["leave --serve-chaos-app out, which gives the app of Ray's guide", "or name an app of your own"],
        )
    application: dict[str, Json] = {
        "name": module.rpartition(".")[2],
        "route_prefix": "/",
        "import_path": spec.app,
    }
    args = dict(spec.app_args)
    if spec.app.startswith(OWN_APPS):
        args = _own_arguments(args, timing(spec.profile))
    if args:
        application["args"] = args
    return application


def _own_arguments(given: dict[str, Json], periods: Timing) -> dict[str, Json]:
    """What our own apps are built with: the guide's numbers, the profile's periods, and what the test wants."""
    options: dict[str, Json] = {
        "num_replicas": _REPLICAS,
        "max_replicas_per_node": _MOST_PER_NODE,
        # The guide's replicas want no CPU. A little of one keeps them off the head, which offers none.
        "ray_actor_options": {"num_cpus": 0.1},
        "health_check_period_s": periods.health_check_period,
        "health_check_timeout_s": periods.health_check_timeout,
        "graceful_shutdown_timeout_s": periods.graceful_shutdown_timeout,
    }
    wanted = {**options, **cast("dict[str, Json]", given.get("options") or {})}
    wanted = {key: value for key, value in wanted.items() if value is not None}
    if "autoscaling_config" in wanted:
        wanted.pop("num_replicas", None)
    return {"start_delay": periods.start_delay, **given, "options": wanted}


def _from_file(path: Path) -> dict[str, Json]:
    import yaml

    from pytest_serve_chaos import safe_yaml
    from pytest_serve_chaos.cluster import yaml_text

    text = yaml_text.read_text(path, "the Serve config file")
    try:
        config = safe_yaml.read_document(text)
    except yaml.YAMLError as error:
        raise SettingsError(
            f"the Serve config file {path} is not YAML: {yaml_text.problem(error)}",
            fix=yaml_text.ways_out(text, "correct the YAML, of which a Serve config has one document"),
        ) from error
    wrong = _wrong_type(config)
    if wrong:
        raise SettingsError(
            f"{path} is not a Serve config: {wrong}",
            checked=[f"applications and http_options in {path}"],
            fix=[_way_to_a_config(config)],
        )
    return cast("dict[str, Json]", config)


def _way_to_a_config(found: object) -> str:
    """What to give instead of something that is not a Serve config."""
    if isinstance(found, dict) and found.get("kind") == "RayService":
        return "give it as --serve-chaos-rayservice-file, with --serve-chaos-backend=kind: it is a RayService"
    if isinstance(found, dict) and found.get("import_path"):
        return "write it as an item of applications, with a name and a route_prefix: it is the config of one app"
    return "write one with `serve build module:app -o config.yaml`"


def _wrong_type(config: object) -> str:
    """What is not of the kind that all who read a config rely on; "" where all is."""
    if not isinstance(config, dict) or not config.get("applications"):
        return "it has no applications"
    apps = config["applications"]
    if not isinstance(apps, list):
        return "applications is not a list"
    for number, app in enumerate(apps, 1):
        if not isinstance(app, dict):
            return f"app {number} is {app!r:.60}, and no mapping with an import_path"
    if not isinstance(config.get("http_options") or {}, dict):
        return "http_options is not a mapping"
    return ""


def serve_config_text(config: Mapping[str, Json]) -> str:
    """A Serve config as `serveConfigV2` wants it.

    It is made of plain data, so it is always valid YAML: KubeRay reports a broken one only in the operator's log.
    """
    return manifests.dump((dict(config),))
