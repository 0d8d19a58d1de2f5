"""The Redis under the GCS of a RayService: what holds its pods, how it is asked, and how it is broken."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.records import listed, mapped, text
from pytest_serve_chaos.cluster.kubernetes.machines import LateUndo
from pytest_serve_chaos.cluster.kubernetes.rayservice.redis_kind import RedisMode, mode_of_info
from pytest_serve_chaos.cluster.kubernetes.rayservice.view import RayServiceView
from pytest_serve_chaos.cluster.storage import no_redis
from pytest_serve_chaos.errors import CommandFailed, NoSuchTarget, ObservationError, Unsupported
from pytest_serve_chaos.model import HEAD, Evidence, Json

if TYPE_CHECKING:
    from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi

_NAMESPACE_VARIABLE = "RAY_external_storage_namespace"
"""What KubeRay sets in the head's container: the RayCluster's UID unless the user says otherwise."""

_PATIENCE = 5.0

_REFUSED = re.compile(r"\(error\)|[A-Z]+ \w")
"""How an error of Redis begins, whatever it is: ``NOPERM this user has no permissions``. Ray's keys have no spaces."""


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
        tls: The options with which its client speaks TLS; empty: it does not.
        mode: What it is; "" where that has not been seen.
        shown: What shows it, in words.
        container: The container in which it listens; "" for the first of its pod.
    """

    kind: Literal["Deployment", "StatefulSet"] = "Deployment"
    name: str = names.REDIS
    replicas: int = 1
    port: int = 6379
    user: str = ""
    password: str | None = field(default=None, repr=False)
    unknown: str = ""
    tls: tuple[str, ...] = ()
    mode: RedisMode = ""
    shown: str = ""
    container: str = ""

    @property
    def workload(self) -> str:
        """What keeps its pods there, as kubectl takes it."""
        return f"{self.kind.lower()}/{self.name}"

    def keep_away(self, api: KubeApi) -> None:
        """Has no pods wanted; from the same moment on an annotation says how many there were.

        Raises:
            CommandFailed: It was refused.
        """
        self._want(api, 0, str(self.replicas))

    def let_back(self, api: KubeApi) -> None:
        """Has its pods wanted again.

        Raises:
            CommandFailed: It was refused.
        """
        self._want(api, self.replicas, None)

    def _want(self, api: KubeApi, replicas: int, note: str | None) -> None:
        patch: dict[str, Json] = {"metadata": {"annotations": {names.UNDO: note}}, "spec": {"replicas": replicas}}
        api.workloads.patch(self.kind, self.name, patch, what=f"scaling of the {self.kind} {self.name}")

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
        return self.ask("KEYS", "*")

    def ask(self, *command: str) -> tuple[str, ...]:
        """The program that prints what Redis answers to a command, in its container."""
        user = ("--user", self.user) if self.user else ()
        client = ("redis-cli", *self.tls, "-p", str(self.port), *user, "--raw", *command)
        if self.password is None:
            return ("sh", "-c", 'REDISCLI_AUTH="$REDIS_PASSWORD" exec "$@"', "sh", *client)
        if not self.password:
            return client
        # Not as an argument, nor in the address of the exec, which an API server may write into its audit log.
        return ("sh", "-c", 'IFS= read -r REDISCLI_AUTH; export REDISCLI_AUTH; exec "$@"', "sh", *client)

    @property
    def stdin(self) -> str | None:
        """What that program reads: the password, if the file of the user has one; None: nothing."""
        return f"{self.password}\n" if self.password else None


class PodRedis:
    """A Redis in pods, where it is ours to break. Has the capability `HasRedis`.

    Args:
        view: The RayService.
        store: What runs it.
        late_undo: Has its pods wanted again if the run cannot.

    Attributes:
        redis_namespace: The namespace of the GCS's keys; see `read_namespace`.
    """

    def __init__(
        self, view: RayServiceView, store: RedisStore | None = None, late_undo: LateUndo | None = None
    ) -> None:
        self.redis_namespace = ""
        self._api = view.api
        self._pods = view.pods
        self._removals = view.removals
        self._selector = view.ref.redis_selector
        self._gcs = view.ref.spec.gcs
        self._store = store or RedisStore()
        self._mode = self._store.mode
        self._is_held = False
        self._late_undo = late_undo

    @property
    def mode(self) -> RedisMode:
        """What it is, as the file shows it or as it says itself."""
        return self._mode

    def read_mode(self) -> None:
        """Asks it what it is; where it does not say so, what is known stays.

        A Sentinel, too, takes this question.
        """
        try:
            lines = self._answer(self._store.ask("INFO", "server"))
        except (ObservationError, Unsupported):
            return
        self._mode = mode_of_info("\n".join(lines)) or self._mode

    def check(self) -> None:
        """Makes sure that there is one.

        Raises:
            Unsupported: There is none, or it is not a Redis that can be broken, or asked for all of its keys.
        """
        if self._selector is None:
            raise no_redis(self._gcs)
        if self._mode == "sentinel" or (self._mode == "cluster" and self._store.replicas > 1):
            what = "Sentinels" if self._mode == "sentinel" else f"a Redis Cluster of {self._store.replicas} pods"
            raise Unsupported(
                f"the pods of {self._store.kind} {self._store.name} are {what}, so that breaking one of them would not"
                " take the GCS's Redis away",
                checked=[self._store.shown or f"redis_mode:{self._mode} in its INFO"],
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
        return self._answer(self._store.list_keys)

    def _answer(self, program: Sequence[str]) -> tuple[str, ...]:
        """What its client prints."""
        if self._store.unknown:
            raise Unsupported(f"the password of Redis is unknown: {self._store.unknown}")
        try:
            pod = self._pods.running_redis()
            container = self._store.container or (pod.main.name if pod.main else "")
            result = self._api.run(pod.name, container, program, timeout=_PATIENCE, stdin=self._store.stdin)
        except (CommandFailed, NoSuchTarget) as error:
            raise ObservationError(f"Redis did not answer: {error}") from error
        lines = result.stdout.splitlines()
        if result.returncode != 0 or (lines and _REFUSED.match(lines[0])):
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
        watch = self._removals.of("redis", pod, port=self._store.port)
        if hold:
            self._is_held = True
            if self._late_undo is not None:
                self._late_undo.of_scaling(self._store.workload, self._api.namespace, self._store.replicas)
            self._store.keep_away(self._api)
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
            self._store.let_back(self._api)
            self._is_held = False
            if self._late_undo is not None:
                self._late_undo.not_needed(self._store.workload)
