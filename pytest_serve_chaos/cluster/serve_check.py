"""Whether Serve would take a config: asked of Serve's own schema where Ray is installed, else of the rules that matter.

Without this the user waits for minutes, and reads of it in a log of the head.
"""

from __future__ import annotations

import difflib
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias, cast

from pytest_serve_chaos.cluster.local.commands import inherited_environment
from pytest_serve_chaos.cluster.local.programs import check_serve_config
from pytest_serve_chaos.cluster.proxy_location import check_proxy_location
from pytest_serve_chaos.cluster.yaml_lines import Lines, Path, shown
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.model import Json

_WITHIN = 60.0
"""Seconds for the import of Ray; the cluster finds out what is not known by then."""

TOP_LEVEL = (
    "proxy_location", "http_options", "grpc_options", "controller_options", "logging_config", "tracing_config",
    "applications", "target_capacity",
)  # fmt: skip
"""The keys of a Serve config (Ray 2.60)."""
_CODE_HERE = (
    ", or start pytest in the directory that has the app's module, or put that directory on PYTHONPATH: then the plugin"
    " leaves it out"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in a Serve config that Serve refuses, or does not know.

    Attributes:
        path: Where it is.
        what: What is wrong with it: in Serve's words, where Serve was asked.
        fix: The way out.
    """

    path: Path
    what: str
    fix: str


@dataclass(frozen=True, slots=True)
class RayAnswer:
    """What the Ray of this machine says of a config.

    Attributes:
        version: Which Ray it is.
        findings: What it refuses, or does not know.
        start: The options of its `ray start`; empty where they are unknown.
    """

    version: str
    findings: tuple[Finding, ...] = ()
    start: frozenset[str] = field(default=frozenset(), repr=False)


AskRay: TypeAlias = Callable[[Mapping[str, Json]], "RayAnswer | None"]
"""Asks Ray about a config; None: Ray is not here, or does not say."""


def no_ray(_: Mapping[str, Json]) -> RayAnswer | None:
    """Asks nobody: the rules alone count."""
    return None


def ask_ray(config: Mapping[str, Json]) -> RayAnswer | None:
    """What the installed Ray says of a config; a process of its own imports it."""
    try:
        done = subprocess.run(
            [sys.executable, str(check_serve_config.__file__)],
            input=json.dumps(dict(config), default=str),
            env=inherited_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=_WITHIN,
            check=False,
            start_new_session=True,
        )
        answer: dict[str, Json] = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError, OSError):
        return None
    return None if "no_ray" in answer else _answer(answer, config)


def _answer(answer: Mapping[str, Json], config: Mapping[str, Json]) -> RayAnswer:
    errors = [cast("dict[str, Json]", error) for error in cast("list[Json]", answer["errors"])]
    said: dict[Path, list[str]] = {}
    for error in errors:
        said.setdefault(_in_config(_path(error["path"]), config), []).append(str(error["message"]))
    refused = [Finding(path, _either(each), "change it as Serve says") for path, each in said.items()]
    unknown = [_path(path) for path in cast("list[Json]", answer["unknown"])]
    named = [path for path in unknown if any(f"'{path[-1]}'" in message for each in said.values() for message in each)]
    ignored = [_unknown(path) for path in unknown if not str(path[-1]).startswith("x-") and path not in named]
    start = frozenset(map(str, cast("list[Json]", answer["start"])))
    return RayAnswer(str(answer["version"]), (*refused, *ignored), start)


def _in_config(path: Path, config: Mapping[str, Json]) -> Path:
    """The part of a path that is in the config, or that is missing there: the schema adds names of types to it."""
    value: Json = dict(config)
    for depth, key in enumerate(path):
        if isinstance(value, dict) and isinstance(key, str):
            value = value.get(key)
        elif isinstance(value, list) and isinstance(key, int) and key < len(value):
            value = value[key]
        else:
            return path[:depth]
    return path


def _either(messages: Sequence[str]) -> str:
    """What several types, of which a value may have one, say of it."""
    return ", or: ".join(dict.fromkeys(messages))


def _path(given: Json) -> Path:
    return tuple(key if isinstance(key, str | int) else str(key) for key in cast("list[Json]", given))


def _unknown(path: Path, known: Sequence[str] = ()) -> Finding:
    close = difflib.get_close_matches(str(path[-1]), known, n=1)
    return Finding(
        path,
        f"Serve does not know the field {path[-1]}, and would ignore it",
        f"write {close[0]}" if close else f"remove {path[-1]}, or correct its name",
    )


def findings(config: Mapping[str, Json], answer: RayAnswer | None) -> list[Finding]:
    """All that is wrong with a config: what Ray says, and of the rules what Ray has not said already."""
    rules = [*_rules(config)]
    said = [] if answer is None else [_with_way_out(one, rules) for one in answer.findings]
    own = [rule for rule in rules if not any(_same(rule.path, one.path) for one in said)]
    return sorted([*said, *own], key=lambda one: [str(key) for key in one.path])


def _with_way_out(said: Finding, rules: Sequence[Finding]) -> Finding:
    """What Serve says, with the way out that a rule knows for it."""
    return next((replace(said, fix=rule.fix) for rule in rules if _same(rule.path, said.path)), said)


def binding(
    config: Mapping[str, Json], answer: RayAnswer | None, ray_version: str | None
) -> tuple[list[Finding], list[str]]:
    """What refuses a config for a cluster, and what another Ray than that cluster's says of it, a sentence each.

    Args:
        config: The config.
        answer: What the Ray of this machine says.
        ray_version: Which Ray the cluster runs; None: that of this machine.
    """
    if answer is None or ray_version is None or same_minor(ray_version, answer.version):
        return findings(config, answer), []
    own = findings(config, None)
    others = [one for one in answer.findings if not any(_same(one.path, rule.path) for rule in own)]
    return own, [
        f"Ray {answer.version} of this machine says of {shown(one.path, dict(config))}: {one.what}; the cluster runs"
        f" Ray {ray_version}"
        for one in others
    ]


def same_minor(one: str, other: str) -> bool:
    """Whether two versions of Ray are of one minor release, and so have one schema."""
    return one.split(".")[:2] == other.split(".")[:2]


def place(path: Path, lines: Lines, config: Json) -> str:
    """Where something is in a config, for people: line and field."""
    line, field_of = lines.line(path), shown(path, config)
    return ", ".join([*([] if line is None else [f"line {line}"]), *([field_of] if field_of else [])])


def _same(rule: Path, ray: Path) -> bool:
    """Whether both are about one thing; Serve's schema may name what holds it."""
    shorter = min(len(rule), len(ray))
    return rule[:shorter] == ray[:shorter]


def _rules(config: Mapping[str, Json]) -> Iterator[Finding]:
    try:
        check_proxy_location(config, "")
    except SettingsError as error:
        yield Finding(("proxy_location",), error.what, ", ".join(error.fix))
    for key in config:
        if key not in TOP_LEVEL and not str(key).startswith("x-"):
            yield _unknown((str(key),), TOP_LEVEL)
    http = config.get("http_options")
    if isinstance(http, dict) and http.get("ssl_certfile"):
        yield Finding(
            ("http_options", "ssl_certfile"),
            "its proxies would speak HTTPS, and the plugin sends HTTP",
            "leave ssl_certfile and ssl_keyfile out for the test",
        )
    apps = config.get("applications")
    if not isinstance(apps, list) or not all(isinstance(app, dict) for app in apps):
        yield Finding(("applications",), "applications is not a list of apps", "write it as `serve build` does")
        return
    for number, app in enumerate(apps):
        yield from _app(cast("dict[str, Json]", app), number)
    for key, otherwise in (("name", "default"), ("route_prefix", "/")):
        values = [str(cast("dict[str, Json]", app).get(key, otherwise)) for app in apps]
        values = [value for value in values if value != "None"]
        for value in [value for value, count in Counter(values).items() if count > 1]:
            last = max(n for n, app in enumerate(apps) if cast("dict[str, Json]", app).get(key, otherwise) == value)
            yield Finding(
                ("applications", last, key), f"two apps have the {key} {value}", f"give each app a {key} of its own"
            )


def _app(app: Mapping[str, Json], number: int) -> Iterator[Finding]:
    at: Path = ("applications", number)
    if not re.fullmatch(r"[^\s:][^:]*[.:][^\s:]+", str(app.get("import_path") or "")):
        what = f"app {number + 1} has no import_path"
        yield Finding((*at, "import_path"), what, "give it import_path: module:app")
    route = app.get("route_prefix")
    if isinstance(route, str) and (not route.startswith("/") or (route.endswith("/") and route != "/")):
        yield Finding(
            (*at, "route_prefix"),
            f"the route_prefix {route!r} must begin with /, and not end with it",
            f"write /{route.strip('/')}",
        )
    yield from _runtime_env((*at, "runtime_env"), app.get("runtime_env"), _CODE_HERE)
    deployments = app.get("deployments")
    for index, deployment in enumerate(deployments if isinstance(deployments, list) else []):
        if not isinstance(deployment, dict):
            continue
        below: Path = (*at, "deployments", index)
        if isinstance(deployment.get("num_replicas"), int) and deployment.get("autoscaling_config"):
            yield Finding(
                (*below, "num_replicas"),
                f"deployment {deployment.get('name')} sets both num_replicas and autoscaling_config",
                "remove num_replicas, or set min_replicas and max_replicas of autoscaling_config to the same number",
            )
        given = deployment.get("autoscaling_config")
        scaling = given if isinstance(given, dict) else {}
        least, most = scaling.get("min_replicas"), scaling.get("max_replicas")
        if isinstance(least, int) and isinstance(most, int) and least > most:
            yield Finding(
                (*below, "autoscaling_config"),
                f"max_replicas ({most}) is less than min_replicas ({least})",
                "set max_replicas to at least min_replicas",
            )
        options = deployment.get("ray_actor_options")
        if isinstance(options, dict):
            yield from _runtime_env((*below, "ray_actor_options", "runtime_env"), options.get("runtime_env"))


def _runtime_env(path: Path, given: Json, way_out: str = "") -> Iterator[Finding]:
    """A config is sent to the cluster without the directories of this machine."""
    env = given if isinstance(given, dict) else {}
    modules = env.get("py_modules")
    named = [("working_dir", env.get("working_dir"))]
    named += [("py_modules", module) for module in (modules if isinstance(modules, list) else [])]
    for key, value in named:
        if isinstance(value, str) and value and "://" not in value:
            yield Finding(
                (*path, key),
                f"{key} {value} is a local path, and a Serve config takes remote URIs only",
                f"upload it and give its URI (https://, s3://, gs://), or put the code into the image{way_out}",
            )
    variables = env.get("env_vars")
    for name, value in variables.items() if isinstance(variables, dict) else ():
        if not isinstance(value, str):
            yield Finding((*path, "env_vars", name), f"the variable {name} is not text", "write its value in quotes")
