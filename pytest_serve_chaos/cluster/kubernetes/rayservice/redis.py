"""The Redis under the GCS of a RayService: what holds its pods, how it is asked, and how it is broken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.records import listed, mapped, text
from pytest_serve_chaos.cluster.kubernetes.rayservice.view import RayServiceView
from pytest_serve_chaos.errors import CommandFailed, NoSuchTarget, ObservationError, Unsupported
from pytest_serve_chaos.model import HEAD, Evidence

if TYPE_CHECKING:
    from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi

_NAMESPACE_VARIABLE = "RAY_external_storage_namespace"
"""What KubeRay sets in the head's container: the RayCluster's UID unless the user says otherwise."""

_PATIENCE = 5.0


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


class PodRedis:
    """A Redis in pods, where it is ours to break. Has the capability `HasRedis`.

    Args:
        view: The RayService.
        store: What runs it.

    Attributes:
        redis_namespace: The namespace of the GCS's keys; see `read_namespace`.
    """

    def __init__(self, view: RayServiceView, store: RedisStore | None = None) -> None:
        self.redis_namespace = ""
        self._api = view.api
        self._pods = view.pods
        self._removals = view.removals
        self._selector = view.ref.redis_selector
        self._store = store or RedisStore()
        self._is_held = False

    def check(self) -> None:
        """Makes sure that there is one.

        Raises:
            Unsupported: There is none.
        """
        if self._selector is None:
            raise Unsupported(
                "this cluster has no Redis of its own, or its GCS fault tolerance is off",
                fix=["ask for one with @pytest.mark.serve_cluster(gcs='redis')"],
            )

    def read_namespace(self) -> None:
        """Reads from the head's pod under which namespace KubeRay has the GCS keep its keys.

        Raises:
            NoSuchTarget: There is no head to look at.
            CommandFailed: The API server gave no usable answer.
        """
        pod = self._pods.running(HEAD)
        item = self._api.objects.pod(pod.name)
        variables = [v for c in listed(mapped(item.get("spec")).get("containers")) for v in listed(c.get("env"))]
        values = [text(v, "value") for v in variables if text(v, "name") == _NAMESPACE_VARIABLE]
        self.redis_namespace = values[0] if values else ""

    def redis_keys(self) -> tuple[str, ...]:
        """All keys in Redis, by its own client in its own pod.

        Raises:
            Unsupported: The cluster has no Redis, or its password is not known.
            ObservationError: It gave no usable answer.
        """
        self.check()
        store = self._store
        if store.unknown:
            raise Unsupported(f"the password of Redis is unknown: {store.unknown}")
        try:
            pod = self._pods.running_redis()
            container = pod.main.name if pod.main else ""
            result = self._api.run(pod.name, container, store.list_keys, timeout=_PATIENCE)
        except (CommandFailed, NoSuchTarget) as error:
            raise ObservationError(f"Redis did not answer: {error}") from error
        lines = result.stdout.splitlines()
        if result.returncode != 0 or (lines and lines[0].startswith(("ERR", "NOAUTH", "(error)"))):
            raise ObservationError(f"Redis did not answer: {(result.stdout + result.stderr).strip()[:300]}")
        return tuple(line for line in lines if line)

    def kill_redis(self, *, how: Literal["kill", "stop"], hold: bool) -> Sequence[Evidence]:
        """Deletes Redis' pod and waits until nothing of it is left; with `hold` what runs it wants none meanwhile.

        Raises:
            Unsupported: The cluster has no Redis.
            NoSuchTarget: It is not running.
            CommandFailed: The deletion was refused.
            WaitTimeout: It was not gone in time.
        """
        self.check()
        pod = self._pods.running_redis()
        watch = self._removals.of("redis", pod, port=6379)
        if hold:
            self._is_held = True
            self._store.scale(self._api, 0)
        try:
            self._api.delete_pod(pod.name, pod.uid, grace=0 if how == "kill" else None)
        except CommandFailed:
            # What runs it may have been quicker.
            if any(p.uid == pod.uid for p in self._api.pods(self._selector or "")):
                raise
        return watch.evidence(by_force=how == "kill")

    def restore_redis(self) -> None:
        """Ends a hold: its pod is wanted again."""
        if self._is_held:
            self._store.scale(self._api, self._store.replicas)
            self._is_held = False
