"""From what a marker says to an injection: the options of each fault, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from pytest_serve_chaos.errors import Unsupported
from pytest_serve_chaos.faults.chaos import Chaos
from pytest_serve_chaos.faults.injection import Injection


def inject(chaos: Chaos, kind: str, options: Mapping[str, str | float]) -> Injection:
    """Applies the fault that a marker names.

    Args:
        chaos: Where.
        kind: The marker's name.
        options: ``how``, and those of the fault.

    Raises:
        Unsupported: The fault cannot be applied in that way.
    """
    how = str(options.get("how", "kill"))
    target = _target(chaos, kind, options)
    if how == "freeze":
        return cast(Injection, target.freeze(options.get("for_", 20.0)))
    if kind == "health_check_failure":
        return cast(Injection, target.fail_health_check(options.get("mode", "raise")))
    verb = getattr(target, how, None)
    if verb is None:
        raise Unsupported(f"{kind} cannot be done by how={how!r}")
    arguments = {name: options[name] for name in ("hold", "replacement", "by", "for_") if name in options}
    return cast(Injection, verb(**arguments))


def _target(chaos: Chaos, kind: str, options: Mapping[str, str | float]) -> Any:
    which = str(options.get("which", "most_replicas"))
    on = cast("str | None", options.get("on"))
    deployment = cast("str | None", options.get("deployment"))
    targets = {
        "head_failure": lambda: chaos.head,
        "worker_failure": lambda: chaos.worker(which),
        "node_failure": lambda: chaos.node(which),
        "controller_failure": lambda: chaos.controller,
        "replica_failure": lambda: chaos.replica(deployment, on),
        "proxy_failure": lambda: chaos.proxy(on or "workers"),
        "gcs_failure": lambda: chaos.gcs,
        "redis_failure": lambda: chaos.redis,
        "health_check_failure": lambda: chaos.replica(deployment, on),
        "rayservice_upgrade": lambda: chaos.rayservice,
    }
    return cast("Callable[[], Any]", targets[kind])()
