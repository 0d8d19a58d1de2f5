"""Imports an app as Serve does, in a process of its own: `import_app.py MODULE:APP`.

It prints one line of JSON: `outcome` is ``found``, ``no_module``, ``no_attribute`` or ``raised``, and the rest says
more: of what was found, `is` (``app``, ``builder`` or the name of its type), and the `deployments` of an app, with what
they want of the cluster, or the `parameters` of a builder. The app is only looked up; a builder function is not called.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import json
import os
import sys
import traceback
import types
import typing

_MISTAKES = (ImportError, SyntaxError, NameError, AttributeError, TypeError, ValueError, ArithmeticError, LookupError)
"""What a mistake in the app's code raises, with a cluster as without one. Others may come from its absence."""


def look(import_path: str) -> dict[str, object]:
    """What came of importing that path, as `ray.serve` takes it: ``ranker:app`` or ``ranker.app``."""
    module_name, colon, attribute = import_path.partition(":")
    if not colon:
        module_name, _, attribute = import_path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except BaseException as error:  # modules may even exit
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
            return {"outcome": "no_module", "missing": error.name}
        return {
            "outcome": "raised",
            "certain": isinstance(error, _MISTAKES),
            "error": "".join(traceback.format_exception_only(type(error), error)).strip(),
            "traceback": _of_the_app(error),
        }
    if hasattr(module, attribute):
        return {"outcome": "found", **_described(getattr(module, attribute))}
    names = [name for name in vars(module) if not name.startswith("_")]
    close = difflib.get_close_matches(attribute, names, n=3, cutoff=0.5)
    return {"outcome": "no_attribute", "file": getattr(module, "__file__", None), "close": close}


def _described(found: object) -> dict[str, object]:
    """What Serve would make of it; nothing where Ray is too old, or too new, to say."""
    if isinstance(found, types.FunctionType):
        return {"is": "builder", "parameters": list(inspect.signature(found).parameters)}
    if hasattr(found, "_bound_deployment"):
        return {"is": "app", "deployments": _deployments(found)}
    if "ray" not in sys.modules:  # nobody can have bound an app
        return {"is": type(found).__name__}
    try:
        from ray.serve import Application
    except ImportError:
        return {}
    return {"is": "app" if isinstance(found, Application) else type(found).__name__}


def _deployments(app: typing.Any) -> dict[str, object] | None:
    """The deployments of an app, with what they want of the cluster; None where another Ray builds it otherwise."""
    try:
        from ray.serve._private.build_app import build_app

        return {one.name: _options(one) for one in build_app(app, name="app").deployments}
    except Exception:
        return None


def _options(deployment: typing.Any) -> dict[str, object]:
    """What its replicas want, and how many there are; nothing where another Ray keeps that elsewhere."""
    try:
        config, replica = deployment._deployment_config, deployment._replica_config
        options: dict[str, object] = {
            "ray_actor_options": {
                name: value
                for name, value in (replica.ray_actor_options or {}).items()
                if name in ("num_cpus", "num_gpus", "resources", "accelerator_type")
            },
            "placement_group_bundles": replica.placement_group_bundles,
            "max_replicas_per_node": getattr(replica, "max_replicas_per_node", None),
        }
        scaling = config.autoscaling_config
        if scaling is None:
            options["num_replicas"] = config.num_replicas
        else:
            numbers = ("min_replicas", "initial_replicas")
            options["autoscaling_config"] = {name: getattr(scaling, name, None) for name in numbers}
        json.dumps(options)
    except Exception:  # these names are Ray's own business
        return {}
    return options


def _of_the_app(error: BaseException) -> str:
    """The traceback without this program and Python's own import machinery."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if f.filename != __file__ and "importlib" not in f.filename]
    return "".join([*traceback.format_list(own), *traceback.format_exception_only(type(error), error)]).strip()


def main(import_path: str) -> None:
    """Prints what came of it, and ends without waiting for threads of the app."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the app prints is not an answer
    del sys.path[0]  # the directory of this program, which Serve does not have either
    answers.write(json.dumps(look(import_path)))
    answers.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
