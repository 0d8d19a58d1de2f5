"""Asks Serve's own schema about a config, in a process of its own: standard input has the config as JSON.

It prints one line of JSON: `version` of Ray, `errors` with `path` and `message` in Serve's words, `unknown` with the
paths of the fields that Serve does not know and ignores, and `start` with the options of `ray start`. Without Ray it
prints `no_ray`.
"""

from __future__ import annotations

import json
import os
import re
import sys
import typing

_IMPORTED = ("policy_function", "request_router_class")
_TOGETHER = (
    ("autoscaling_config", "num_replicas"),
    ("ray_actor_options",),
    ("max_replicas_per_node",),
    ("placement_group_bundles", "placement_group_strategy", "ray_actor_options"),
)
"""The options of a deployment that Serve checks only when it deploys the app, with those that they depend on."""
_FILES = ("pip", "uv", "conda")
"""What a runtime environment may give as the name of a file, which is in the image and not here."""


def look(config: dict[str, object]) -> dict[str, object]:
    """What Serve's schema says of the config."""
    try:
        import ray
        from ray.serve.schema import ServeDeploySchema
    except ImportError as error:
        return {"no_ray": str(error)}
    errors: list[dict[str, object]] = []
    parse = getattr(ServeDeploySchema, "model_validate", None) or ServeDeploySchema.parse_obj
    try:
        parse(_without_code(config))
    except Exception as error:
        found = getattr(error, "errors", None)
        if found is None:
            return {"version": ray.__version__, "no_ray": f"{type(error).__name__}: {error}"}
        errors = [{"path": list(one["loc"]), "message": _words(str(one["msg"]))} for one in found()]
    if not errors:
        errors = list(_when_deployed(typing.cast("dict[str, typing.Any]", _without_code(config))))
    return {
        "version": ray.__version__,
        "errors": errors,
        "unknown": list(_unknown(ServeDeploySchema, config, [])),
        "start": _start_options(),
    }


def _when_deployed(config: dict[str, typing.Any]) -> typing.Iterator[dict[str, object]]:
    """What the schema takes, and Serve refuses when it deploys an app."""
    for number, app in enumerate(config.get("applications") or []):
        at: list[object] = ["applications", number]
        yield from _of_route([*at, "route_prefix"], app.get("route_prefix"))
        yield from _of_runtime_env([*at, "runtime_env"], app.get("runtime_env"))
        for index, deployment in enumerate(app.get("deployments") or []):
            below = [*at, "deployments", index]
            options = deployment.get("ray_actor_options") or {}
            yield from _of_runtime_env([*below, "ray_actor_options", "runtime_env"], options.get("runtime_env"))
            yield from _of_options(below, deployment)


def _of_route(path: list[object], route: str | None) -> typing.Iterator[dict[str, object]]:
    try:
        from ray.serve._private.utils import validate_route_prefix
    except ImportError:
        return
    try:
        validate_route_prefix(route)
    except ValueError as error:
        yield {"path": path, "message": _words(str(error))}


def _of_runtime_env(path: list[object], given: typing.Any) -> typing.Iterator[dict[str, object]]:
    from ray.runtime_env import RuntimeEnv

    elsewhere = {key: value for key, value in (given or {}).items() if key in _FILES and isinstance(value, str)}
    try:
        RuntimeEnv(**{key: value for key, value in (given or {}).items() if key not in elsewhere})
    except (TypeError, ValueError) as error:
        yield {"path": path, "message": _words(str(error))}


def _of_options(path: list[object], deployment: dict[str, typing.Any]) -> typing.Iterator[dict[str, object]]:
    from ray import serve

    class Any:
        """Stands for the code of the deployment."""

    # What is not in the config is in the code, which is not known here: a replica then wants as little as it can.
    known: typing.Any = serve.deployment(Any, ray_actor_options={"num_cpus": 0})
    for first, *others in _TOGETHER:
        if deployment.get(first) is None:
            continue
        names = [name for name in (first, *others) if deployment.get(name) is not None]
        if isinstance(deployment.get("num_replicas"), int):  # the schema has refused it with autoscaling
            names = [name for name in names if name != "num_replicas"]
        try:
            known.options(**{name: deployment[name] for name in names})
        except (TypeError, ValueError) as error:
            for at, message in _located(error):
                yield {"path": [*path, *(at or [first])], "message": message}
            return


def _located(error: Exception) -> typing.Iterator[tuple[list[object], str]]:
    """The places in the options, where the schema knows them, and what is wrong."""
    found = getattr(error, "errors", None)
    for one in found() if found is not None else ():
        yield list(one["loc"]), _words(str(one["msg"]))
    if found is None:
        yield [], _words(str(error))


def _without_code(value: typing.Any) -> typing.Any:
    """The config without the policies and routers that the schema would import: the cluster may have their modules."""
    if isinstance(value, dict):
        return {
            key: _without_code(below)
            for key, below in value.items()
            if key not in _IMPORTED or not isinstance(below, str) or below.startswith("ray.")
        }
    return [_without_code(item) for item in value] if isinstance(value, list) else value


def _words(message: str) -> str:
    """Serve's own words in one line, without those of pydantic before them, and without the full stop at the end."""
    line = " ".join(message.split()).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return re.sub(r"(?<=\w)\.$", "", line)


def _unknown(model: typing.Any, value: object, path: list[object]) -> typing.Iterator[list[object]]:
    """The keys of a mapping that its model has no field for, and those below."""
    fields = getattr(model, "model_fields", None)
    if not fields or not isinstance(value, dict):
        return
    known = dict(fields)
    known.update({field.alias: field for field in fields.values() if field.alias})
    for key, below in value.items():
        if key in known:
            yield from _below(known[key].annotation, below, [*path, key])
        else:
            yield [*path, key]


def _below(annotation: typing.Any, value: object, path: list[object]) -> typing.Iterator[list[object]]:
    models = list(_models(annotation))
    if not models:
        return
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _below(annotation, item, [*path, number])
    elif isinstance(value, dict):  # which of several it is, is not known: what one of them knows is known
        each = [list(_unknown(model, value, path)) for model in models]
        yield from min(each, key=len)


def _models(annotation: typing.Any) -> typing.Iterator[typing.Any]:
    if hasattr(annotation, "model_fields"):
        yield annotation
    elif typing.get_origin(annotation) is not dict:
        for argument in typing.get_args(annotation):
            yield from _models(argument)


def _start_options() -> list[str]:
    try:
        from ray.scripts.scripts import start
    except ImportError:
        return []
    options = [name for parameter in start.params for name in (*parameter.opts, *parameter.secondary_opts)]
    return sorted(name.lstrip("-") for name in options if name.startswith("--"))


def main() -> None:
    """Prints what came of it."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what imports print is not an answer
    answers.write(json.dumps(look(json.loads(sys.stdin.read()))))
    answers.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
