"""What pytest must know in every run, used or not: the names of our options and configuration keys, and our markers.

`options` and `markers` have the rest, and wait until somebody asks: pytest reads a plugin's modules slowly, value by
value, so this one is small. Tests keep it equal to what those two say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Literal

    import pytest

SETTINGS: dict[Literal["string", "int", "float", "bool", "linelist"], str] = {
    "string": "backend profile app gcs ingress stages arrivals request_timeout method body path requests report_dir "
    "slow_after send_lag_limit watch_for redis_server context rayservice url allow_context operator_namespace "
    "node_image ray_version ray_image redis_image operator_image kuberay_manifests rayservice_file "
    "rayservice_patch",
    "int": "workers seed trials",
    "float": "rate persistent_rate",
    "linelist": "headers allow env",
    "bool": "dry_run otel keep allow_ray_without_token",
}
"""The names of the settings, by their type in pytest's configuration."""

MARKERS = (
    "head_failure(how, hold, for_, allow_total_loss): the test breaks the head, with GCS, controller and its proxy "
    "(how: kill, stop, freeze).",
    "worker_failure(how, which, hold, for_, allow_total_loss): the test breaks a worker, with its proxy and replicas "
    "(how: kill, stop, freeze).",
    "node_failure(how, which, for_, allow_total_loss): the test breaks the machine under a worker, until it is "
    "healed (how: kill, stop, freeze, delete, drain).",
    "controller_failure(how, replacement, for_): the test breaks the Serve controller (how: kill, freeze).",
    "replica_failure(how, deployment, on, by, for_, allow_total_loss): the test breaks a replica (how: kill, freeze).",
    "child_failure(how, name, deployment, on, for_, allow_total_loss): the test breaks a process that a replica has "
    "started (how: kill, freeze).",
    "proxy_failure(how, on, by, for_, part, allow_total_loss): the test breaks a proxy (how: kill, freeze).",
    "raylet_failure(how, on, for_, allow_total_loss): the test breaks the raylet of a node (how: kill, freeze).",
    "gcs_failure(how, for_, allow_total_loss): the test breaks the GCS process (how: kill, stop, freeze).",
    "redis_failure(how, hold, for_): the test breaks the Redis under the GCS (how: kill, stop, freeze).",
    "health_check_failure(how, deployment, on, mode, allow_total_loss): the test breaks the health check of a "
    "replica (how: fail_health_check).",
    "app_update(how, change, bad, app, deployment, to, for_): the test breaks a running app, by an update in place "
    "of its code, user_config, options or num_replicas (how: update).",
    "rayservice_upgrade(how, bad): the test breaks the RayCluster under a RayService, which a new one replaces (how: "
    "upgrade).",
    "serve_cluster(gcs, app, workers, profile, ingress, env, app_args): the Serve cluster that this test wants.",
    "serve_chaos(trials, allow_failed): the test is run so many times, and its verdict is a rate.",
)


def flag_of(name: str) -> str:
    """The option of the setting with that name."""
    return "--serve-chaos-" + name.replace("_", "-")


def flags() -> list[str]:
    """All options of this package."""
    return ["--serve-chaos", *(flag_of(name) for names in SETTINGS.values() for name in names.split())]


def add_options(parser: pytest.Parser) -> None:
    """Adds what `Backends.add_options` adds for the backends of this package, except the texts of the help."""
    group = parser.getgroup("serve-chaos", "chaos tests of Ray Serve")
    group.addoption("--serve-chaos", action="store_true", dest="serve_chaos", default=False)
    actions = {"linelist": "append", "bool": "store_true"}
    for kind, names in SETTINGS.items():
        for name in names.split():
            flag = flag_of(name)
            ini = f"serve_chaos_{name}"
            parser.addini(ini, f"Same as {flag}.", type=kind, default=None)
            group.addoption(flag, action=actions.get(kind, "store"), dest=ini, default=None)


def add_markers(config: pytest.Config) -> None:
    """Makes the markers known to pytest, so that `--strict-markers` takes them."""
    for line in MARKERS:
        config.addinivalue_line("markers", f"{line} Provided by pytest-serve-chaos.")
