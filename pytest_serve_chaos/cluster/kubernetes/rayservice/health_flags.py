"""Health checks that fail, where the app reads our flag."""

from __future__ import annotations

import contextlib
from typing import Literal

from pytest_serve_chaos.cluster.kubernetes import in_pod, names
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.rayservice.pods import RayPods
from pytest_serve_chaos.cluster.kubernetes.rayservice.programs import run_program
from pytest_serve_chaos.errors import CommandFailed, NoSuchTarget, Unsupported
from pytest_serve_chaos.model import Component


class HealthFlags:
    """Sets flags in the containers of replicas. Has the capability `SetsHealthFlags`.

    Args:
        api: The Kubernetes API.
        pods: The pods.
    """

    def __init__(self, api: KubeApi, pods: RayPods) -> None:
        self._api = api
        self._pods = pods

    def set_health_flag(self, replica: Component, mode: Literal["raise", "hang"]) -> None:
        """Writes the flag that the replica's health check reads, in its own container.

        Raises:
            NoSuchTarget: The replica's container is gone.
            Unsupported: Its container has no directory for flags.
            CommandFailed: It could not be written.
        """
        self._flag(replica, mode)

    def clear_health_flag(self, replica: Component) -> None:
        """Takes the flag away; with its container it went anyway."""
        with contextlib.suppress(NoSuchTarget):
            self._flag(replica, "")

    def _flag(self, replica: Component, mode: str) -> None:
        pod = self._pods.with_process(replica.identity)
        result = run_program(self._api, pod, "set_flag", str(replica.pid), mode)
        if result.returncode == in_pod.NO_DIRECTORY:
            raise Unsupported(
                f"pod {pod.name} has no directory for health flags",
                fix=[f"set the environment variable {names.FLAGS_VARIABLE} in the Ray containers"],
            )
        if result.returncode != 0:
            raise CommandFailed(f"no flag could be set in pod {pod.name}", checked=[result.stderr.strip()[-600:]])
