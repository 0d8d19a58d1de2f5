"""The token that Ray asks for where its RayCluster has `authOptions`: KubeRay puts it into the pods of that cluster."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.kubernetes import in_pod, names
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.records import inner, text
from pytest_serve_chaos.errors import CommandFailed, ObservationError
from pytest_serve_chaos.model import Json

HEADER = "x-ray-authorization"
"""Ray takes it instead of `Authorization`, which the API server keeps for itself."""
_LOOK_EVERY = 1.0
"""Seconds between two looks which RayCluster it is: after an upgrade it is another one, with another token."""


def wants_token(ray_cluster: Mapping[str, Json]) -> bool:
    """Whether the spec of a RayCluster says that Ray is to answer only those who have its token."""
    return text(inner(ray_cluster, "authOptions"), "mode") == "token"


class RayToken:
    """The token of one RayCluster after the other. Safe to use from several threads.

    Args:
        api: The Kubernetes API, in its namespace; it must let programs run in Ray's pods.
        ray_cluster: Returns the name of the RayCluster that is asked.
    """

    def __init__(self, api: KubeApi, ray_cluster: Callable[[], str]) -> None:
        self._api = api
        self._ray_cluster = ray_cluster
        self._lock = threading.Lock()
        self._tokens: dict[str, str] = {}
        self._current = ""
        self._looked: float | None = None

    def headers(self) -> dict[str, str]:
        """What to send with a request to Ray.

        Raises:
            ObservationError: None of its pods could be asked.
        """
        with self._lock:
            name = self._name()
            if name not in self._tokens:
                self._tokens[name] = self._read(name)
            return {HEADER: f"Bearer {self._tokens[name]}"}

    def _name(self) -> str:
        if self._looked is None or clock.now() - self._looked > _LOOK_EVERY:
            try:
                self._current = self._ray_cluster()
                self._looked = clock.now()
            except ObservationError:
                if not self._current:
                    raise
        return self._current

    def _read(self, ray_cluster: str) -> str:
        seen: list[str] = []
        for pod in self._api.pods(f"{names.RAY_CLUSTER}={ray_cluster},{names.RAY_NODES}"):
            if pod.main is None or not pod.runs:
                seen.append(pod.summary)
                continue
            try:
                ended = self._api.run(pod.name, pod.main.name, in_pod.command("print_token", pod.uid))
            except CommandFailed as error:
                seen.append(error.what)
                continue
            if ended.returncode == 0 and ended.stdout.strip():
                return ended.stdout.strip()
            failed = f"runs no python: {ended.stderr.strip()[-200:]}"
            seen.append(f"{pod.name} {failed if ended.returncode else 'has no RAY_AUTH_TOKEN'}")
        what = f"Ray's token is in none of the pods of RayCluster {ray_cluster}"
        raise ObservationError(f"{what}: {'; '.join(seen) or 'there are none'}")
