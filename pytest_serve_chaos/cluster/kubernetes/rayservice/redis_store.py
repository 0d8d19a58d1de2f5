"""The Redis under the GCS as Kubernetes runs it: what holds its pods, and how it is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pytest_serve_chaos.cluster.kubernetes import names

if TYPE_CHECKING:
    from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi


@dataclass(frozen=True, slots=True)
class RedisStore:
    """A Redis whose pods carry the label ``pytest-serve-chaos/part: redis``.

    Attributes:
        kind: What keeps its pods there.
        name: The name of that.
        replicas: How many pods it wants, unless they are kept away.
        port: Where Redis listens in its container.
        user: The user name for its client; "" for the default user.
        password: The password for its client; None: that of REDIS_PASSWORD in its own container; "": no password.
        unknown: Why the password is unknown; "" if it is known.
    """

    kind: Literal["Deployment", "StatefulSet"] = "Deployment"
    name: str = names.REDIS
    replicas: int = 1
    port: int = 6379
    user: str = ""
    password: str | None = field(default=None, repr=False)
    unknown: str = ""

    def scale(self, api: KubeApi, replicas: int) -> None:
        """Changes how many pods are wanted.

        Raises:
            CommandFailed: It was refused.
        """
        api.workloads.scale(self.kind, self.name, replicas)

    def is_available(self, api: KubeApi) -> bool:
        """Whether all of its pods are there and ready.

        Raises:
            ObservationError: The API server gave no usable answer.
        """
        if self.kind == "Deployment":
            return api.workloads.is_available(self.name)
        pods = api.pods(f"{names.PART}=redis")
        return len([pod for pod in pods if pod.is_ready]) >= self.replicas

    @property
    def list_keys(self) -> tuple[str, ...]:
        """The program that prints all keys, one a line, in the container of Redis."""
        user = ("--user", self.user) if self.user else ()
        client = ("redis-cli", "-p", str(self.port), *user, "--raw", "KEYS", "*")
        if self.password is None:
            return ("sh", "-c", 'REDISCLI_AUTH="$REDIS_PASSWORD" exec "$@"', "sh", *client)
        if not self.password:
            return client
        return ("sh", "-c", 'REDISCLI_AUTH="$0" exec "$@"', self.password, *client)
