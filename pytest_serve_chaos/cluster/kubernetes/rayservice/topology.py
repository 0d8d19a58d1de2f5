"""Who is alive in a RayService: its nodes, and by their processes Serve's actors and the GCS."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_serve_chaos.cluster.base import NodeInfo
from pytest_serve_chaos.cluster.haproxy import HAProxies, Seen
from pytest_serve_chaos.cluster.kubernetes.client.records import Container, Pod
from pytest_serve_chaos.cluster.kubernetes.rayservice.pods import RayPods, expected_names, newest_last, number_of
from pytest_serve_chaos.cluster.kubernetes.rayservice.process_watch import Place, ProcessWatch, Row
from pytest_serve_chaos.model import HEAD, Component, Identity, Role


class PodTopology:
    """Who is alive in a RayService, without asking Ray. Has the capability `SeesProcesses`.

    Args:
        pods: Its pods.
        workers: The number of workers that should be there; the least where an autoscaler scales them.
        processes: Tells which processes run in Ray's containers; None where nothing may be run in them.
        scaled: Whether more workers may be there.
        haproxy: Whether HAProxy is known to take the requests.

    Attributes:
        haproxies: Which processes are proxies then.
    """

    def __init__(
        self,
        pods: RayPods,
        workers: int,
        processes: ProcessWatch | None,
        *,
        scaled: bool = False,
        haproxy: bool = False,
    ) -> None:
        self._pods = pods
        self._workers = workers
        self._scaled = scaled
        self._processes = processes
        self.haproxies = HAProxies(expected=haproxy)

    @property
    def sees_processes(self) -> bool:
        """Whether the processes in the pods show actors and the GCS; else the GCS has to say who is alive."""
        return self._processes is not None

    def unseen(self) -> tuple[str, ...]:
        """The pods of which nobody knows what runs in them now, in words."""
        return () if self._processes is None else self._processes.silent()

    def nodes(self) -> tuple[NodeInfo, ...]:
        """The nodes that should be there, head first, as their pods show them."""
        by_name = dict(sorted(self._pods.named(), key=newest_last))
        names = expected_names(self._workers)
        if self._scaled:
            there = [name for name in by_name if name != HEAD]
            lacking = [name for name in names[1:] if name not in there][: max(0, self._workers - len(there))]
            names = (HEAD, *sorted([*there, *lacking], key=number_of))
        return tuple(self._node(name, by_name.get(name)) for name in names)

    def _node(self, name: str, pod: Pod | None) -> NodeInfo:
        if pod is None:
            return NodeInfo(name, None, False, state="it has no pod")
        container = self._pods.live(pod)
        if container is None:
            return NodeInfo(name, pod.ip or None, False, state=_why_down(pod))
        return NodeInfo(name, pod.ip or None, True, _container_identity(pod, container))

    def components(self) -> tuple[Component, ...]:
        """Head, workers, GCS, Redis and, by their processes, Serve's actors.

        Raises:
            ObservationError: The API server gave no usable answer.
        """
        live = self._pods.live_named()
        found = [self._of_pod("head" if name == HEAD else "worker", name, pod, c) for name, pod, c in live]
        if self._processes is None:
            # `ray start --block` ends with its GCS, and the container with it: they live and die together.
            found += [self._gcs(pod, container) for name, pod, container in live if name == HEAD]
        else:
            seen = {c.id: Place(pod.name, c.name, pod.uid) for _, pod, c in live if not pod.shares_processes}
            rows = self._processes.rows(seen)
            found += self._processes_of(
                _process(name, pod, c, row) for name, pod, c in live for row in rows.get(c.id, ())
            )
        redis = [(pod, c) for pod in self._pods.redis() if (c := self._pods.live(pod))]
        return (*found, *(self._of_pod("redis", "redis", pod, container) for pod, container in redis))

    def _processes_of(self, all_processes: Iterable[Component | Seen]) -> list[Component]:
        found = tuple(all_processes)
        proxies = self.haproxies.proxies(one for one in found if isinstance(one, Seen))
        fallback = self.haproxies.used
        others = (one for one in found if isinstance(one, Component) and not (fallback and one.role == "proxy"))
        return [*others, *proxies]

    def _of_pod(self, role: Role, node: str, pod: Pod, container: Container) -> Component:
        identity, state = _container_identity(pod, container), self._pods.state(pod, container)
        return Component(role, node, identity, state=state, machine=pod.node or None)

    def _gcs(self, pod: Pod, container: Container) -> Component:
        identity = Identity("container", (pod.uid, container.id[:12], "gcs"))
        return Component("gcs", HEAD, identity, state=self._pods.state(pod, container))


def _why_down(pod: Pod) -> str:
    """Kubernetes' own reason; of a machine that is lost it goes on to say that all runs there."""
    state = "lost, though Kubernetes calls it Running" if pod.runs else pod.state
    return f"{state} on {pod.node}" if pod.node else state


def _process(name: str, pod: Pod, container: Container, row: Row) -> Component | Seen:
    identity = Identity("process", (pod.uid, container.id[:12], str(row.pid), str(row.started)))
    if row.part == "manager" or row.part == "haproxy":
        return Seen(name, identity, row.pid, row.parent, row.started, row.part, row.frozen, row.command)
    state = "frozen" if row.frozen else "running"
    return Component(row.part, name, identity, row.pid, deployment=row.deployment, state=state)


def _container_identity(pod: Pod, container: Container) -> Identity:
    """Which incarnation of a pod's container it is."""
    return Identity("container", (pod.uid, container.id[:12], str(container.restarts)))
