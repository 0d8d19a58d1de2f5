"""What can be done to a RayService beyond the deletion of its pods: signals, freezes, flags, and its Redis."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import Literal

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.capabilities import (
    FREEZES_NODES,
    HAS_REDIS,
    SETS_HEALTH_FLAGS,
    SIGNALS_PROCESSES,
    Offer,
)
from pytest_serve_chaos.cluster.kubernetes import in_pod, names
from pytest_serve_chaos.cluster.kubernetes.client.records import Pod, listed, mapped, text
from pytest_serve_chaos.cluster.kubernetes.rayservice.rayservice import KubeRayCluster
from pytest_serve_chaos.cluster.kubernetes.rayservice.redis_store import RedisStore
from pytest_serve_chaos.errors import CommandFailed, NoSuchTarget, ObservationError, Unsupported
from pytest_serve_chaos.model import HEAD, Component, Evidence, Identity

_NAMESPACE_VARIABLE = "RAY_external_storage_namespace"
"""What KubeRay sets in the head's container: the RayCluster's UID unless the user says otherwise."""

_REDIS_PATIENCE = 5.0


class BreakableRayService(KubeRayCluster):
    """A RayService in whose pods programs may be run. Arguments: those of `KubeRayCluster`.

    Attributes:
        redis_namespace: The namespace of the GCS's keys; see `read_storage_namespace`.
        redis_store: What runs its Redis, where there is one that is ours.
    """

    redis_namespace = ""
    redis_store = RedisStore()
    _redis_is_held = False

    def offers(self) -> tuple[Offer, ...]:
        """What it can do."""
        return (
            *super().offers(),
            FREEZES_NODES.by(self),
            HAS_REDIS.by(self),
            SETS_HEALTH_FLAGS.by(self),
            SIGNALS_PROCESSES.by(self),
        )

    def read_storage_namespace(self) -> None:
        """Reads from the head's pod under which namespace KubeRay has the GCS keep its keys.

        Raises:
            NoSuchTarget: There is no head to look at.
            CommandFailed: The API server gave no usable answer.
        """
        pod = self._running_pod(HEAD)
        item = self._api.call("read_namespaced_pod", pod.name, self._api.namespace, what=f"pod {pod.name}")
        variables = [v for c in listed(mapped(item.get("spec")).get("containers")) for v in listed(c.get("env"))]
        values = [text(v, "value") for v in variables if text(v, "name") == _NAMESPACE_VARIABLE]
        self.redis_namespace = values[0] if values else ""

    # -- processes --------------------------------------------------------------------------------------------

    def signal_process(self, identity: Identity, signal: int) -> None:
        """Sends the signal to that very process, by a program in its container that checks PID and start time.

        Raises:
            NoSuchTarget: The process is gone, or its PID belongs to another one now.
            Unsupported: It is the first process of a container, which cannot be signalled from inside.
            CommandFailed: The program could not be run.
        """
        if identity.kind == "container":
            self._signal_container(identity, signal)
            return
        pod = self._pod_with(identity)
        pid, started = identity.parts[2:4]
        result = self._program(pod, "signal_process", pid, started, str(int(signal)))
        if result.returncode == in_pod.GONE:
            raise NoSuchTarget(f"{identity} is gone", checked=[f"/proc/{pid}/stat in pod {pod.name}"])
        if result.returncode != 0:
            raise CommandFailed(f"{identity} could not be signalled", checked=[result.stderr.strip()[-600:]])

    def _signal_container(self, identity: Identity, signal: int) -> None:
        raise Unsupported(
            f"{identity} is the first process of its container, which takes no signal from inside",
            fix=["take a backend with access to the nodes: kind"],
        )

    def _pod_with(self, identity: Identity) -> Pod:
        """The pod in whose container the process was started."""
        for _, pod in self._named_pods():
            container = self._live(pod)
            if container is not None and (pod.uid, container.id[:12]) == identity.parts[:2]:
                return pod
        raise NoSuchTarget(f"{identity} is gone: its container does not run any more")

    # -- whole nodes ------------------------------------------------------------------------------------------

    def freeze_node(self, name: str) -> Sequence[Evidence]:
        """Stops every process in the node's container but PID 1, which takes no SIGSTOP from inside.

        PID 1 is `ray start --block`, or the shell around it: it waits for the others and does nothing else.

        Raises:
            NoSuchTarget: The node is not running.
            CommandFailed: Some of them could not be stopped.
        """
        said = json.loads(self._run_in_pod(self._running_pod(name), "freeze", "stop"))
        if said["left"] or not said["processes"]:
            raise CommandFailed(f"{name} could not be frozen", checked=[f"PIDs that still run: {said['left']}"])
        what = f"all {said['processes']} processes that PID 1 of {name} has started are stopped (state T)"
        return (Evidence(clock.now(), "victim", what),)

    def thaw_node(self, name: str) -> None:
        """Resumes them; a container that was started since then has no stopped processes.

        Raises:
            CommandFailed: Some of them are still stopped.
        """
        try:
            pod = self._running_pod(name)
        except NoSuchTarget:
            return
        said = json.loads(self._run_in_pod(pod, "freeze", "go"))
        if said["left"]:
            raise CommandFailed(f"{name} is still frozen", checked=[f"PIDs that are still stopped: {said['left']}"])

    # -- health checks ----------------------------------------------------------------------------------------

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
        pod = self._pod_with(replica.identity)
        result = self._program(pod, "set_flag", str(replica.pid), mode)
        if result.returncode == in_pod.NO_DIRECTORY:
            raise Unsupported(
                f"pod {pod.name} has no directory for health flags",
                fix=[f"set the environment variable {names.FLAGS_VARIABLE} in the Ray containers"],
            )
        if result.returncode != 0:
            raise CommandFailed(f"no flag could be set in pod {pod.name}", checked=[result.stderr.strip()[-600:]])

    # -- Redis ------------------------------------------------------------------------------------------------

    def redis_keys(self) -> tuple[str, ...]:
        """All keys in Redis, by its own client in its own pod.

        Raises:
            Unsupported: The cluster has no Redis, or its password is not known.
            ObservationError: It gave no usable answer.
        """
        self._check_redis()
        store = self.redis_store
        if store.unknown:
            raise Unsupported(f"the password of Redis is unknown: {store.unknown}")
        try:
            pod = self._redis_pod()
            container = pod.main.name if pod.main else ""
            result = self._api.run(pod.name, container, store.list_keys, timeout=_REDIS_PATIENCE)
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
        self._check_redis()
        pod = self._redis_pod()
        watch = self._removal("redis", pod, port=6379)
        if hold:
            self._redis_is_held = True
            self.redis_store.scale(self._api, 0)
        try:
            self._api.delete_pod(pod.name, pod.uid, grace=0 if how == "kill" else None)
        except CommandFailed:
            # What runs it may have been quicker.
            if any(p.uid == pod.uid for p in self._api.pods(self._redis_selector or "")):
                raise
        return watch.evidence(by_force=how == "kill")

    def restore_redis(self) -> None:
        """Ends a hold: its pod is wanted again."""
        if self._redis_is_held:
            self.redis_store.scale(self._api, self.redis_store.replicas)
            self._redis_is_held = False

    def _redis_pod(self) -> Pod:
        pods = self._redis_pods()
        running = [pod for pod in pods if not pod.deleting and self._live(pod)]
        if not running:
            raise NoSuchTarget("Redis is not running", checked=[pod.summary for pod in pods] or ["no Redis pod"])
        return running[-1]

    def _check_redis(self) -> None:
        if self._redis_selector is None:
            raise Unsupported(
                "this cluster has no Redis of its own, or its GCS fault tolerance is off",
                fix=["ask for one with @pytest.mark.serve_cluster(gcs='redis')"],
            )
