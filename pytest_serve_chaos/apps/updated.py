"""A new version of any app: the same app under another import path, as it is or with one of its deployments broken.

Serve takes the import path and the arguments of an app for the version of its code, so this replaces all replicas.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import time
from collections.abc import Callable
from typing import Any, NoReturn

from ray.serve import Application
from ray.serve._private.api import call_user_app_builder_with_args_if_necessary

STAYS_HEALTHY = 3.0
"""Seconds for which a replica passes the health checks that fail later: so long that it gets requests before."""

_NOT_ANSWERS = ("check_health", "reconfigure")
"""Public methods of a deployment that Serve calls itself."""


def app(args: dict[str, object]) -> Application:
    """Builds the new version.

    Args:
        args: ``import_path`` and ``args`` of the app as it was; ``bad``: what is wrong with the new version
            (``constructor``, ``health_check``, ``answers``; nothing if it is left out), and ``deployment``: with which
            deployment (the one that answers requests, if it is left out). All else only makes one version differ from
            another.

    Raises:
        ValueError: The app has no such deployment.
    """
    first = dict(args.get("args") or {})  # type: ignore[call-overload]
    built = call_user_app_builder_with_args_if_necessary(_imported(str(args["import_path"])), first)
    bad, name = args.get("bad"), args.get("deployment")
    if bad is None:
        return built
    copies = _Copies(str(name) if name else built._bound_deployment.name, str(bad))
    changed = copies.of(built)
    if not copies.found:
        raise ValueError(f"the app has no deployment {name!r}")
    return changed  # type: ignore[no-any-return]


def _imported(import_path: str) -> Any:
    """What an import path names, as Serve takes it: ``module:app`` or ``module.app``."""
    module, colon, name = import_path.partition(":")
    if not colon:
        module, _, name = import_path.rpartition(".")
    return getattr(importlib.import_module(module), name)


class _Copies:
    """Copies of an app in which one deployment is broken; what was imported may be built again, so it stays as it is.

    Args:
        name: The deployment.
        bad: What is wrong with it.

    Attributes:
        found: Whether it was in the app.
    """

    def __init__(self, name: str, bad: str) -> None:
        self.name = name
        self.bad = bad
        self.found = False
        self._done: dict[int, tuple[object, Any]] = {}

    def of(self, value: Any) -> Any:
        """The copy of an app, and of all apps that it is bound to; anything else is returned as it is."""
        if isinstance(value, list | tuple) and type(value) in (list, tuple):
            return type(value)(self.of(one) for one in value)
        if type(value) is dict:
            return {key: self.of(one) for key, one in value.items()}
        if not isinstance(value, Application):
            return value
        if id(value) not in self._done:  # one that is bound twice is one deployment
            self._done[id(value)] = (value, self._copy(value))
        return self._done[id(value)][1]

    def _copy(self, one: Application) -> Application:
        deployment = one._bound_deployment
        broken = None
        if deployment.name == self.name:
            self.found = True
            broken = broken_version(deployment.func_or_class, self.bad)
        copied = copy.copy(one)
        copied._bound_deployment = deployment.options(
            func_or_class=broken, _init_args=self.of(deployment.init_args), _init_kwargs=self.of(deployment.init_kwargs)
        )
        return copied


def broken_version(original: Any, bad: str) -> type:
    """A subclass of a deployment's class (or a class in place of a function) that is broken.

    Args:
        original: What the deployment runs.
        bad: ``constructor``: it raises; ``health_check``: it raises a few seconds after the start; ``answers``: each
            call raises, which is HTTP 500 for a client.
    """
    base = original if inspect.isclass(original) else type(original.__name__, (), {"__call__": staticmethod(original)})
    members = {"constructor": _constructor, "health_check": _health_check, "answers": _answers}[bad](base)
    names = {name: getattr(original, name) for name in ("__doc__", "__module__", "__qualname__")}
    return type(original.__name__, (base,), {**names, **members})


def _constructor(base: type) -> dict[str, Callable[..., object]]:
    # The class of an ingress has an async one, and takes no other (Ray 2.60).
    is_async = inspect.iscoroutinefunction(base.__init__)  # type: ignore[misc]
    return {"__init__": _never_starts_async if is_async else _never_starts}


def _never_starts(self: object, *args: object, **kwargs: object) -> NoReturn:
    raise RuntimeError("serve-chaos: this constructor fails because a test asked for it")


async def _never_starts_async(self: object, *args: object, **kwargs: object) -> NoReturn:
    _never_starts(self)


def _health_check(base: type) -> dict[str, Callable[..., object]]:
    del base
    return {"check_health": _soon_unhealthy}


def _soon_unhealthy(self: Any) -> None:
    began = getattr(self, "_serve_chaos_began", None)
    if began is None:
        self._serve_chaos_began = began = time.monotonic()
    if time.monotonic() - began >= STAYS_HEALTHY:
        raise RuntimeError("serve-chaos: this health check fails because a test asked for it")


def _answers(base: type) -> dict[str, Callable[..., object]]:
    public = [name for name, _ in inspect.getmembers(base, inspect.isfunction) if not name.startswith("_")]
    return dict.fromkeys(("__call__", *(name for name in public if name not in _NOT_ANSWERS)), _fails)


async def _fails(self: object, *args: object, **kwargs: object) -> NoReturn:
    raise RuntimeError("serve-chaos: this answer is an error because a test asked for it")
