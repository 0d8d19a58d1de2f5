"""A Serve cluster that is a RayService on Kubernetes: its nodes are pods."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

from pytest_serve_chaos import clock
from pytest_serve_chaos.analysis.configuration import Setup
from pytest_serve_chaos.cluster.base import ClusterSpec, NodeInfo
from pytest_serve_chaos.cluster.capabilities import (
    HAS_PROXY_ENDPOINTS,
    KILLS_ACTORS,
    KILLS_NODES,
    KNOWS_ITS_SETUP,
    SEES_PROCESSES,
    SHOWS_CONTROLLER_LOG,
    SHOWS_REPLICA_LOGS,
    STREAMS_LOGS,
    Capabilities,
    Capability,
    Endpoint,
    KeptLogs,
    Offer,
)
from pytest_serve_chaos.cluster.kubernetes import in_pod, names
from pytest_serve_chaos.cluster.kubernetes.client.api import ExecResult, KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.pod_watch import PodWatch
from pytest_serve_chaos.cluster.kubernetes.client.records import Container, Pod
from pytest_serve_chaos.cluster.kubernetes.logs import pod_logs
from pytest_serve_chaos.cluster.kubernetes.logs.pod_logs import PodLogs
from pytest_serve_chaos.cluster.kubernetes.logs.sources import LogSources, OtherClusters
from pytest_serve_chaos.cluster.kubernetes.logs.stream import LogAccess
from pytest_serve_chaos.cluster.kubernetes.rayservice.pod_names import PodNames, expected_names
from pytest_serve_chaos.cluster.kubernetes.rayservice.process_watch import Place, ProcessWatch, Row
from pytest_serve_chaos.cluster.kubernetes.rayservice.removal import RemovalWatch
from pytest_serve_chaos.cluster.kubernetes.rayservice.setup import setup_of, started_again
from pytest_serve_chaos.cluster.rest import Dashboard
from pytest_serve_chaos.cluster.serve_config import first_route, serve_config_text, serve_port
from pytest_serve_chaos.errors import CommandFailed, NoSuchTarget, ObservationError, Unsupported
from pytest_serve_chaos.model import HEAD, ClusterDescription, Component, Evidence, Identity, Json, Role

T = TypeVar("T")

ContainerProbe: TypeAlias = Callable[[str, str], "str | None"]
"""Says how a container ended (``exited with 137``), given its Kubernetes node and id; None while it runs."""


class KubeRayCluster:
    """A RayService and the pods under it.

    Args:
        spec: Which cluster was wanted.
        api: The Kubernetes API, in the RayService's namespace.
        ray_service: The RayService's name.
        ray_cluster: The name of the RayCluster that KubeRay made for it.
        dashboard: The dashboard of its head.
        serve_config: The Serve config that it runs.
        description: What it is, for reports; has the address for traffic.
        redis_selector: Labels of the Redis pod; None where there is none, or it is not ours.
        container_probe: Looks at containers on their node, where that can be done.
        pods: Tells which pods there are; None asks the API server each time.
        processes: Tells which processes run in Ray's containers; None where nothing may be run in them.
        logs: Which logs may be read.
        on_close: What ends all that was made for it; None where nothing was.
    """

    def __init__(
        self,
        spec: ClusterSpec,
        *,
        api: KubeApi,
        ray_service: str,
        ray_cluster: str,
        dashboard: Dashboard,
        serve_config: Mapping[str, Json],
        description: ClusterDescription,
        redis_selector: str | None = None,
        container_probe: ContainerProbe | None = None,
        pods: PodWatch | None = None,
        processes: ProcessWatch | None = None,
        logs: LogAccess | None = None,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.spec = spec
        self._api = api
        self._ray_service = ray_service
        self._ray_cluster = ray_cluster
        self._dashboard = dashboard
        self._serve_config = dict(serve_config)
        self._description = description
        self._redis_selector = redis_selector
        self._container_probe = container_probe
        self._pods = pods
        self._processes = processes
        self._on_close = on_close
        self._names = PodNames(spec.workers)
        access = logs or LogAccess()
        sources = LogSources(
            api,
            access.operator_namespace,
            ray_pods=self._named_pods,
            others=OtherClusters(api, ray_service, lambda: self._ray_cluster, self._pods_of),
            redis_pods=self._redis_pods,
            live=self._live,
        )
        self._logs = PodLogs(api, access, sources=sources.all, ray_pods=self._named_pods, live=self._live)

    @property
    def description(self) -> ClusterDescription:
        """What is under test, for every report."""
        return self._description

    @property
    def url(self) -> str:
        """Where traffic goes: the Service's address, with the app's route."""
        return self._description.url

    @property
    def dashboard(self) -> Dashboard:
        """Ray's state API and Serve's REST on the head."""
        return self._dashboard

    @property
    def serve_config(self) -> dict[str, Json]:
        """The Serve config that the RayService has."""
        return dict(self._serve_config)

    def apply_serve_config(self, config: Mapping[str, Json]) -> None:
        """Edits the RayService's `serveConfigV2`; KubeRay hands it to Serve within some 2 s of its next look.

        Raises:
            CommandFailed: The edit was refused.
        """
        self._api.patch_ray_service(self._ray_service, {"spec": {"serveConfigV2": serve_config_text(config)}})
        self._serve_config = dict(config)

    def capability(self, wanted: Capability[T]) -> T | None:
        """The object that has a capability of this cluster; None if it cannot do that."""
        return Capabilities(*self.offers()).get(wanted)

    def offers(self) -> tuple[Offer, ...]:
        """What it can do."""
        return (
            HAS_PROXY_ENDPOINTS.by(self),
            KILLS_ACTORS.by(self),
            KILLS_NODES.by(self),
            KNOWS_ITS_SETUP.by(self),
            SEES_PROCESSES.by(self),
            SHOWS_CONTROLLER_LOG.by(self),
            SHOWS_REPLICA_LOGS.by(self),
            STREAMS_LOGS.by(self),
        )

    # -- looking ----------------------------------------------------------------------------------------------

    def nodes(self) -> tuple[NodeInfo, ...]:
        """The nodes that should be there, head first, as their pods show them."""
        by_name = dict(sorted(self._named_pods(), key=_newest_last))
        return tuple(self._node_info(name, by_name.get(name)) for name in expected_names(self.spec.workers))

    def _node_info(self, name: str, pod: Pod | None) -> NodeInfo:
        if pod is None:
            return NodeInfo(name, None, False, state="it has no pod")
        container = self._live(pod)
        if container is None:
            return NodeInfo(name, pod.ip or None, False, state=_why_down(pod))
        return NodeInfo(name, pod.ip or None, True, container_identity(pod, container))

    @property
    def sees_processes(self) -> bool:
        """Whether the processes in the pods show actors and the GCS; else the GCS has to say who is alive."""
        return self._processes is not None

    def components(self) -> tuple[Component, ...]:
        """Head, workers, GCS, Redis and, by their processes, Serve's actors.

        Raises:
            ObservationError: The API server gave no usable answer.
        """
        named = self._named_pods()
        live = [(name, pod, container) for name, pod in named if (container := self._live(pod))]
        found = [self._node_component(name, pod, container) for name, pod, container in live]
        if self._processes is None:
            # `ray start --block` ends with its GCS, and the container with it: they live and die together.
            found += [self._gcs_of(pod, container) for name, pod, container in live if name == HEAD]
        else:
            rows = self._processes.rows({c.id: Place(pod.name, c.name) for _, pod, c in live})
            found += [_process(name, pod, c, row) for name, pod, c in live for row in rows.get(c.id, ())]
        return tuple(found + self._redis_components())

    def _redis_components(self) -> list[Component]:
        if self._redis_selector is None:
            return []
        live = [(pod, c) for pod in self._redis_pods() if (c := self._live(pod))]
        return [self._pod_component("redis", "redis", pod, container) for pod, container in live]

    def _node_component(self, name: str, pod: Pod, container: Container) -> Component:
        return self._pod_component("head" if name == HEAD else "worker", name, pod, container)

    def _pod_component(self, role: Role, node: str, pod: Pod, container: Container) -> Component:
        identity, state = container_identity(pod, container), self._state(pod, container)
        return Component(role, node, identity, state=state, machine=pod.node or None)

    def _gcs_of(self, pod: Pod, container: Container) -> Component:
        identity = Identity("container", (pod.uid, container.id[:12], "gcs"))
        return Component("gcs", HEAD, identity, state=self._state(pod, container))

    def _state(self, pod: Pod, container: Container) -> str:
        """Kubernetes' word for a pod whose container runs."""
        return "Terminating" if pod.deleting else "Ready" if container.ready else "NotReady"

    def _live(self, pod: Pod) -> Container | None:
        """The container of a pod that runs, as far as is known; None if it does not."""
        return pod.main if pod.main is not None and pod.main.running else None

    def proxy_of(self, client: tuple[str, int]) -> Identity | None:
        """None: on the way through a Service, nobody outside of the node knows where a connection ends."""
        del client
        return None

    def ask_proxy(self, proxy: Component, path: str, *, timeout: float) -> tuple[int, str]:
        """Sends GET `path` to that proxy's pod, through the API server; returns status and body.

        Raises:
            ObservationError: Its pod is gone, or it gave no answer in `timeout` seconds.
        """
        return self._api.proxy_get(self._pod_of(proxy).name, serve_port(self._serve_config), path, timeout=timeout)

    def proxy_endpoint(self, proxy: Component) -> Endpoint:
        """The way to that proxy's pod through the API server."""
        url, context = self._api.proxy_url(self._pod_of(proxy).name, serve_port(self._serve_config))
        return Endpoint(url + first_route(self.serve_config).lstrip("/"), ssl_context=context)

    def _pod_of(self, proxy: Component) -> Pod:
        pods = [pod for name, pod in sorted(self._named_pods(), key=_newest_last) if name == proxy.node]
        # The identity has the pod's UID where it came from pods; where it came from the GCS, the name has to do.
        own = [pod for pod in pods if pod.uid in proxy.identity.parts] or pods
        if not own:
            raise ObservationError(f"{proxy.name}: its pod is gone", checked=[str(proxy.identity)])
        return own[-1]

    def stream_logs(self, directory: Path) -> KeptLogs:
        """From now on, all that the pods log goes into files: a pod that is deleted takes its logs along."""
        return self._logs.stream(directory)

    def log_excerpt(self, since: float, *, pattern: str | None = None, lines: int = 40) -> tuple[str, ...]:
        """The last lines of Ray's and Serve's logs; of pods that are gone, where logs were streamed."""
        return tuple(self._logs.read(pod_logs.ALL, since=since, lines=lines, expression=pattern or "")[-lines:])

    def controller_log(self, *, pattern: str, since: float) -> tuple[str, ...]:
        """Lines of the controller's log after `since` (monotonic seconds) that match `pattern`."""
        return tuple(self._logs.read(["serve/controller_*"], since=since, lines=1000, expression=pattern, node=HEAD))

    def replica_log(self, replica: Component, *, since: float) -> tuple[str, ...]:
        """Lines of that replica's log after `since` (monotonic seconds)."""
        replica_id = (replica.replica or "").rpartition("#")[2]
        files = [f"serve/replica_*_{replica_id}.log"] if replica_id else []
        return tuple(self._logs.read(files, since=since, lines=2000, node=replica.node) if files else ())

    def setup(self) -> Setup:
        """What the pods say of how the cluster is set up."""
        try:
            named = self._named_pods()
            workers = self._api.raw_pods(f"{names.RAY_CLUSTER}={self._ray_cluster},{names.RAY_NODE_TYPE}=worker")
            redis = self._redis_items()
        except ObservationError:
            return Setup()
        machines = {name: pod.node for name, pod in named if pod.node}
        restarted = started_again(named, clock.wall_time())
        return setup_of(machines, workers, redis, self._description.ray_version, restarted=restarted)

    def _redis_items(self) -> Sequence[Mapping[str, Json]]:
        """Redis' pods as plain data, where they are known."""
        return self._api.raw_pods(self._redis_selector) if self._redis_selector is not None else ()

    # -- breaking ---------------------------------------------------------------------------------------------

    def kill_node(self, name: str, *, how: Literal["kill", "stop"], hold: bool) -> Sequence[Evidence]:
        """Deletes the node's pod and waits until nothing of it is left; KubeRay makes another one by itself.

        Args:
            name: ``head``, ``worker-1``, ...
            how: ``kill`` deletes by force (grace 0): the API forgets the pod at once, and the kubelet kills its
                containers when it hears of it. ``stop`` deletes gracefully.
            hold: Must be False.

        Raises:
            Unsupported: It was to be kept down.
            NoSuchTarget: There is no such pod.
            CommandFailed: The deletion was refused.
            WaitTimeout: The pod was not gone in time.
        """
        if hold:
            raise Unsupported(
                f"{name} cannot be kept down: KubeRay makes a new pod at once",
                fix=["run it without hold", "or use the backend `local`, where a node can stay down"],
            )
        pod = self._running_pod(name)
        watch = self._removal(name, pod)
        self._api.delete_pod(pod.name, pod.uid, grace=0 if how == "kill" else None)
        return watch.evidence(by_force=how == "kill")

    def restore_node(self, name: str) -> None:
        """Does nothing: no node is ever held."""

    def kill_actor(self, actor_id: str, *, no_restart: bool) -> float:
        """Does what `ray.kill` does, by a program in the head pod, since Ray's dashboard has no call for it.

        Returns:
            When it was killed, monotonic seconds; where that cannot be known exactly, a little earlier.

        Raises:
            NoSuchTarget: The GCS knows no such actor that is not DEAD.
            CommandFailed: It could not be killed.
            ObservationError: There is no head to ask.
        """
        name = next((row.name for row in self._dashboard.actors() if row.actor_id == actor_id), "")
        if not name:
            raise NoSuchTarget(f"there is no actor {actor_id} that has a name", checked=[self._dashboard.url])
        restart = "no_restart" if no_restart else "restart"
        head = self._running_pod(HEAD)
        started = clock.now()
        output = self._run_in_pod(head, "kill_actor", actor_id, name, names.SERVE_NAMESPACE, restart)
        return in_pod.moment(output, started)

    # -- the end ----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Ends everything that was made for this cluster. May be called twice."""
        on_close, self._on_close = self._on_close, None
        with contextlib.ExitStack() as ends:  # last first, and all of it, whatever goes wrong
            ends.callback(self._api.close)
            ends.callback(self._dashboard.close)
            if on_close is not None:
                ends.callback(on_close)
            self.stop_watching()  # before the pods go, which would be taken for a loss

    def stop_watching(self) -> None:
        """Ends the watches of pods, processes and logs; what is made for the cluster stays."""
        self._logs.close()
        for watch in (self._processes, self._pods):
            if watch is not None:
                watch.close()

    # -- how --------------------------------------------------------------------------------------------------

    def _ray_pods(self) -> tuple[Pod, ...]:
        return self._pods_of(self._ray_cluster)

    def _pods_of(self, ray_cluster: str) -> tuple[Pod, ...]:
        if self._pods is None:
            return self._api.pods(f"{names.RAY_CLUSTER}={ray_cluster},{names.RAY_NODES}")
        pods = self._pods.pods({names.RAY_CLUSTER: ray_cluster})
        return tuple(pod for pod in pods if pod.labels.get(names.RAY_NODE_TYPE) in ("head", "worker"))

    def _redis_pods(self) -> tuple[Pod, ...]:
        if self._redis_selector is None:
            return ()
        if self._pods is None:
            return self._api.pods(self._redis_selector)
        return self._pods.pods(dict([self._redis_selector.split("=", 1)]))

    def _named_pods(self) -> list[tuple[str, Pod]]:
        """Ray's pods with their names, head first."""
        pods = self._ray_pods()
        pod_names = self._names.of(pods)
        return sorted(((pod_names[pod.uid], pod) for pod in pods), key=lambda named: (named[0] != HEAD, named[0]))

    def _running_pod(self, name: str) -> Pod:
        named = self._named_pods()
        running = [pod for n, pod in named if n == name and not pod.deleting and self._live(pod)]
        if not running:
            raise NoSuchTarget(
                f"{name} is not running",
                checked=[f"{n}: {pod.summary}" for n, pod in named] or ["no Ray pod at all"],
            )
        return running[-1]

    def _removal(self, name: str, pod: Pod, port: int = names.AGENT_PORT) -> RemovalWatch:
        """Watches that pod go. Made before its end is asked for."""
        return RemovalWatch(
            self._api,
            name,
            pod,
            container_probe=self._container_probe,
            dashboard=self._dashboard,
            port=port,
            pods=self._pods,
        )

    def _program(self, pod: Pod, program: str, *arguments: str) -> ExecResult:
        container = pod.main.name if pod.main else ""
        return self._api.run(pod.name, container, ["python", "-c", in_pod.source(program), *arguments])

    def _run_in_pod(self, pod: Pod, program: str, *arguments: str) -> str:
        result = self._program(pod, program, *arguments)
        if result.returncode != 0:
            raise CommandFailed(
                f"{program} failed in pod {pod.name} with exit status {result.returncode}",
                checked=[" ".join(arguments), result.stderr.strip()[-600:]],
            )
        return result.stdout


def _newest_last(pair: tuple[str, Pod]) -> tuple[bool, str]:
    _, pod = pair
    return not pod.deleting, pod.created


def _why_down(pod: Pod) -> str:
    """Kubernetes' own reason; of a machine that is lost it goes on to say that all runs there."""
    state = "lost, though Kubernetes calls it Running" if pod.runs else pod.state
    return f"{state} on {pod.node}" if pod.node else state


def _process(name: str, pod: Pod, container: Container, row: Row) -> Component:
    identity = Identity("process", (pod.uid, container.id[:12], str(row.pid), str(row.started)))
    state = "frozen" if row.frozen else "running"
    return Component(row.role, name, identity, row.pid, deployment=row.deployment, state=state)


def container_identity(pod: Pod, container: Container) -> Identity:
    """Which incarnation of a pod's container it is."""
    return Identity("container", (pod.uid, container.id[:12], str(container.restarts)))
