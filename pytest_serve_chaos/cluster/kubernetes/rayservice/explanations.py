"""What a call of a RayService cluster's capabilities does: requests to the API server, and programs in pods."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from signal import SIGSTOP, Signals

from pytest_serve_chaos.cluster.dry_run import Explanations, Step
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.records import Pod, mapped
from pytest_serve_chaos.cluster.kubernetes.in_pod import freeze
from pytest_serve_chaos.cluster.kubernetes.machines import Machines
from pytest_serve_chaos.cluster.kubernetes.rayservice.process_faults import signal_program
from pytest_serve_chaos.cluster.kubernetes.rayservice.programs import freeze_program
from pytest_serve_chaos.cluster.kubernetes.rayservice.redis import RedisStore
from pytest_serve_chaos.cluster.kubernetes.rayservice.upgrades import change_for_upgrade, change_in_vain
from pytest_serve_chaos.cluster.kubernetes.rayservice.view import RayServiceView
from pytest_serve_chaos.cluster.profiles import timing
from pytest_serve_chaos.cluster.watchdog import expiry
from pytest_serve_chaos.errors import NoSuchTarget
from pytest_serve_chaos.model import HEAD, Component, Identity, Json

Undo = Callable[[str], str]
"""What the undo journal gets before something is done to the pod, or node, of that name; "" for nothing."""


def _nothing(_: str) -> str:
    return ""


class PodExplanations(Explanations):
    """Explains what would be done to pods. Has the capability `ExplainsChanges`.

    Args:
        view: The RayService.
        undo_pod: What the undo journal gets for a pod in which something is stopped, or flagged.
    """

    def __init__(self, view: RayServiceView, *, undo_pod: Undo = _nothing) -> None:
        self._view = view
        self._pods = view.pods
        self._undo_pod = undo_pod

    def kill_node(self, name: str, how: str, hold: bool) -> Sequence[Step]:
        """The deletion of its pod."""
        del hold
        return (self._deletion(self._pods.running(name), how),)

    def freeze_node(self, name: str, lasts: float | None = None) -> Sequence[Step]:
        """A program in its pod that stops all processes but the first, and leaves a watchdog."""
        program = freeze_program("stop", freeze.ALL, lasts=lasts)
        return (self._program(self._pods.running(name), *program, undone=True),)

    def signal_process(self, identity: Identity, signal: int, lasts: float | None = None) -> Sequence[Step]:
        """A program in the process' container that signals it; with SIGSTOP it leaves a watchdog."""
        name = Signals(signal).name
        if identity.kind == "container":
            return self._signal_container(identity, name)
        pid, started = identity.parts[2:4]
        pod = self._pods.with_process(identity)
        program = signal_program(pid, started, signal, lasts=lasts)
        return (self._program(pod, *program, undone=signal == SIGSTOP),)

    def kill_actor(self, actor_id: str, no_restart: bool) -> Sequence[Step]:
        """A program in the head's pod that calls `ray.kill`."""
        restart = "no_restart" if no_restart else "restart"
        return (self._program(self._pods.running(HEAD), "kill_actor", actor_id, restart),)

    def set_health_flag(self, replica: Component, mode: str, lasts: float | None = None) -> Sequence[Step]:
        """A program in the replica's container that writes the flag."""
        pod = self._pods.with_process(replica.identity)
        return (self._program(pod, "set_flag", str(replica.pid), mode, f"{expiry(lasts):g}", undone=True),)

    def _signal_container(self, identity: Identity, signal: str) -> Sequence[Step]:
        return (Step(f"refused: {identity} takes no {signal} from inside of its container"),)

    def _deletion(self, pod: Pod, how: str) -> Step:
        grace = 0.0 if how == "kill" else pod.grace
        return Step(f"DELETE pods/{pod.name}{self._where} (UID {pod.uid}, grace period {grace:g} s)")

    def _program(self, pod: Pod, *command: str, undone: bool = False) -> Step:
        container = pod.main.name if pod.main else ""
        text = f"EXEC in container {container} of pods/{pod.name}{self._where} (UID {pod.uid}): {' '.join(command)}"
        return Step(text, self._undo_pod(pod.name) if undone else "")

    @property
    def _where(self) -> str:
        return f" in namespace {self._view.api.namespace}"


class OwnedExplanations(PodExplanations):
    """Explains what would be done to a RayService of our own, to its Redis and to its machines.

    It has many methods: one for each call of a capability that it explains, by its name and with its arguments.

    Args:
        view: The RayService.
        machines: Its machines.
        redis: What runs its Redis; None where there is none that is ours.
    """

    def __init__(self, view: RayServiceView, machines: Machines, redis: RedisStore | None) -> None:
        super().__init__(view)
        self._machines = machines
        self._redis = redis or RedisStore()

    def kill_node(self, name: str, how: str, hold: bool) -> Sequence[Step]:
        """The deletion of its pod; with `hold`, taints before that."""
        taint = names.NO_HEAD if name == HEAD else names.NO_WORKER
        taints = [Step(f"PATCH nodes/{machine}: taint {taint}=held:NoSchedule") for machine in self._ray_nodes(hold)]
        return (*taints, *super().kill_node(name, how, hold))

    def kill_redis(self, how: str, hold: bool) -> Sequence[Step]:
        """The deletion of its pod; with `hold`, no pod is wanted before that."""
        store = self._redis
        scale = f"PATCH {store.kind.lower()}s/{store.name}{self._where}: spec.replicas 0"
        return (*((Step(scale),) if hold else ()), self._deletion(self._pods.running_redis(), how))

    def kill_machine(self, name: str, how: str, lasts: float | None = None) -> Sequence[Step]:
        """The end of a machine."""
        del lasts  # the machine is started again by the run
        return (self._on_machine(how, name),)

    def freeze_machine(self, name: str, lasts: float | None = None) -> Sequence[Step]:
        """Everything on it is stopped."""
        del lasts
        return (self._on_machine("pause", name),)

    def delete_machine(self, name: str, within: float) -> Sequence[Step]:
        """The deletion of its object."""
        del within
        return (Step(f"DELETE nodes/{self._machine(name)}"),)

    def drain_machine(self, name: str) -> Sequence[Step]:
        """A cordon, and evictions of all pods of our namespace."""
        machine = self._machine(name)
        pods = [pod for pod in self._view.api.pods() if pod.node == machine and pod.owner != "DaemonSet"]
        return drain(machine, pods, self._where)

    def upgrade(self) -> Sequence[Step]:
        """A change of the RayService's spec."""
        return (self._patch(change_for_upgrade(self._spec, self._delay)),)

    def begin_in_vain(self) -> Sequence[Step]:
        """A change of the RayService's spec for which no node takes the head."""
        return (self._patch(change_in_vain(self._spec, self._delay)[0]),)

    def apply_serve_config(self, config: Mapping[str, Json]) -> Sequence[Step]:
        """A change of the RayService's `serveConfigV2`."""
        del config
        return (Step(f"PATCH rayservices/{self._view.ref.ray_service}{self._where}: spec.serveConfigV2"),)

    def _signal_container(self, identity: Identity, signal: str) -> Sequence[Step]:
        pod, container = self._pods.with_container(identity)
        who = f"the first process of container {container.name} of pods/{pod.name}{self._where}"
        return (Step(f"on machine {pod.node}: {signal} to {who}"),)

    def _on_machine(self, verb: str, name: str) -> Step:
        return Step(f"{self._machines.witness.lower()} {verb} {self._machine(name)}")

    def _machine(self, name: str) -> str:
        machine = self._pods.running(name).node
        if machine not in self._machines.ray_nodes():
            raise NoSuchTarget(f"{name} is on {machine}, which is not a machine for faults")
        return machine

    def _ray_nodes(self, hold: bool) -> Sequence[str]:
        return self._machines.ray_nodes() if hold else ()

    @property
    def _spec(self) -> Mapping[str, Json]:
        return mapped(self._view.api.ray_service(self._view.ref.ray_service).get("spec"))

    @property
    def _delay(self) -> float:
        return timing(self._view.ref.spec.profile).deletion_delay

    def _patch(self, change: Mapping[str, Json]) -> Step:
        name = self._view.ref.ray_service
        return Step(f"PATCH rayservices/{name}{self._where}: spec {json.dumps(change, sort_keys=True)}")


def drain(machine: str, pods: Sequence[Pod], where: str, undo: str = "") -> Sequence[Step]:
    """A cordon of a Kubernetes node, and the evictions of these pods."""
    evictions = [Step(f"POST pods/{pod.name}/eviction{where} (UID {pod.uid})") for pod in pods]
    return (Step(f"PATCH nodes/{machine}: spec.unschedulable true", undo), *evictions)
