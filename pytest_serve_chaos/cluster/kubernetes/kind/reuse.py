"""A kind cluster that outlives its run: whose it is, the record on it, and whether it is as it was left."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.base import Progress
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.records import mapped, name_of, text
from pytest_serve_chaos.cluster.kubernetes.client.waits import newest_warnings, wait_for
from pytest_serve_chaos.cluster.kubernetes.install.stack import Stack
from pytest_serve_chaos.cluster.kubernetes.kind.nodes import KindNodes
from pytest_serve_chaos.cluster.kubernetes.kind.record import (
    Plan,
    Record,
    Wishes,
    fingerprint_of_spec,
    from_text,
    lacks,
    moved,
    placement,
    plan,
    to_text,
)
from pytest_serve_chaos.cluster.kubernetes.kind.repair import RAY_PODS, ClusterRepair
from pytest_serve_chaos.cluster.kubernetes.logs.operator import SELECTOR
from pytest_serve_chaos.cluster.rest import Dashboard, ServeStatus
from pytest_serve_chaos.errors import ClusterError, CommandFailed, ObservationError, SafetyError
from pytest_serve_chaos.model import Json

WHOLE_WITHIN = 45.0
"""Seconds in which everything that is reused must run; after that, recreating the RayService is the safer way."""

_ANSWERS = 120.0
"""Seconds for the API server on a control plane that was stopped to answer again."""
_READY = 180.0
"""Seconds for the nodes to be Ready."""
_OF_NODES = ("default", "kube-system")
"""The namespaces of the events of nodes, and of the pods without whose network no node is Ready."""
_HOLDS = 3.0
"""Seconds for which all must be well after a repair: Serve and Kubernetes are late to see a loss."""


class Kept:
    """A kind cluster that is to stay, or has stayed.

    Args:
        nodes: Its nodes.
        api: Its Kubernetes API, in our namespace.
        wishes: What should be in it.
        progress: Called with a line about what was repaired.
        record: What its namespace says of it; None where it says nothing.
        lost: What was found broken already, and ended what ran there.

    Attributes:
        api: As given.
        record: What its namespace says now.
    """

    def __init__(
        self,
        nodes: KindNodes,
        api: KubeApi,
        wishes: Wishes,
        progress: Progress,
        record: Record | None = None,
        lost: Sequence[str] = (),
    ) -> None:
        self.api = api
        self.record = record
        self._nodes = nodes
        self._wishes = wishes
        self._progress = progress
        self._repair = ClusterRepair(nodes, api, lost)

    # -- the record ---------------------------------------------------------------------------------------------

    @property
    def operator(self) -> str:
        """The operator's namespace, as far as is known."""
        return "default" if self.record is None else self.record.operator

    def note(self, record: Record) -> None:
        """Writes a record onto our namespace.

        Raises:
            CommandFailed: It was refused.
        """
        patch: dict[str, Json] = {"metadata": {"annotations": {names.KEPT: to_text(record)}}}
        what = "the record of what is in the cluster"
        self.api.objects.patch_namespace(names.NAMESPACE, patch, what=what)
        self.record = record

    def note_machines(self) -> None:
        """Says that there are machines, and nothing on them yet.

        Raises:
            CommandFailed: It was refused.
        """
        self.note(Record(machines=self._wishes.record.machines))

    def note_all(self, operator: str, status: ServeStatus) -> None:
        """Says that all of it is there and serves.

        Args:
            operator: The operator's namespace.
            status: What Serve says.

        Raises:
            ClusterError: It was refused.
        """
        self.note(replace(self._wishes.record, spec=self._spec(), operator=operator, placement=placement(status)))

    def _spec(self) -> str:
        redis = self._wishes.redis
        of_redis = {} if redis is None else self.api.workloads.pod_template(redis.kind, redis.name)
        return fingerprint_of_spec(self.api.ray_service(name_of(self._wishes.ray_service)), of_redis)

    def begin(self, **changes: str) -> None:
        """Says that a run uses it from now on, so that the next one relies on nothing, however this one ends.

        Args:
            **changes: What else changes in the record, where there is one.

        Raises:
            CommandFailed: It was refused.
        """
        if self.record is not None:
            self.note(replace(self.record, sound=False, **changes))  # type: ignore[arg-type]

    def vouch(self) -> None:
        """Says that all is as it was at first. Where that cannot be written, the next run will not rely on it."""
        if self.record is not None:
            try:
                self.note(replace(self.record, sound=True))
            except CommandFailed as error:
                self._progress(f"kind: the next run will recreate the RayService: {error.what}")

    # -- one that is there --------------------------------------------------------------------------------------

    def look(self) -> Plan:
        """Repairs the machines, and returns what to do with what is on them.

        Raises:
            SafetyError: It is of no use, and nothing says that this plugin made it, so it is not ours to delete.
            ClusterError: It cannot be inspected, or something cannot be repaired.
            WaitTimeout: Its nodes were not Ready in time.
        """
        machines = self._nodes.machines()
        found = plan(self.record, self._wishes.record, machines=len(machines) - 1, number=self._wishes.number)
        if found.step == "create":
            if self.record is None:
                raise _not_ours(self._nodes.name, f"{found.reason}, and nothing says that it may be deleted")
            return found
        self._repair_machines(machines)
        reason = self._astray() if found.step == "adopt" else ""
        return Plan("renew", reason) if reason else found

    def _repair_machines(self, machines: Mapping[str, str]) -> None:
        repair = self._repair
        repair.machines(machines)
        if repair.lost:
            self.begin()  # at once: a run that ends here would leave no other trace of it
        self._tell([*repair.lost, *repair.repaired])
        wait_for_nodes(self.api, self._progress, machines)

    def _tell(self, repaired: Sequence[str]) -> None:
        if repaired:
            self._progress(f"kind: repaired {self._nodes.name}: {'; '.join(repaired)}")

    def _astray(self) -> str:
        """Why what is there cannot be what was left there, whatever it says of itself; "" if it can."""
        if self._repair.lost:
            return f"what ran there was lost: {'; '.join(self._repair.lost)}"
        try:
            if self.record is None or self._spec() != self.record.spec:
                return "somebody has changed its RayService or its Redis"
            if self._wishes.redis is not None and not self._wishes.redis.is_available(self.api):
                return "its Redis was down, and has lost the state of the GCS"
            operator = self.api.pods(SELECTOR, namespace=self.operator)
        except ObservationError as error:
            return error.what
        return "" if any(pod.runs for pod in operator) else "its operator does not run"

    def repair_pods(self) -> None:
        """Resumes stopped processes, removes health flags, and restores the Serve config.

        Raises:
            ClusterError: Something could not be repaired, or not be inspected.
        """
        in_pods = self._repair.pods()
        config = self._repair.serve_config(name_of(self._wishes.ray_service), self._wishes.serve_config)
        self._tell([*in_pods, *config])

    def wait_until_whole(self, dashboard: Dashboard) -> None:
        """Waits until everything runs and nothing else does, and checks that it is where it was.

        Args:
            dashboard: That of the head.

        Raises:
            WaitTimeout: Something does not run.
            ClusterError: Replicas are elsewhere.
        """
        apps, number = self._wishes.apps, self._wishes.number
        since: float | None = None

        def probe() -> str | NotYet:
            nonlocal since
            try:
                status = dashboard.serve()
                wrong = lacks(self.api.pods(RAY_PODS), status, dashboard.nodes(), apps=apps, number=number)
            except ObservationError as error:
                wrong = [error.what]
            if wrong:
                since = None
                return NotYet("; ".join(wrong))
            since = clock.now() if since is None else since
            held = clock.now() - since
            if self._repair.repaired and held < _HOLDS:
                return NotYet(f"all is well, for {held:.1f} s now")
            return moved(placement(status), self.record.placement if self.record else {})

        elsewhere = clock.wait_until("all of it to run", probe, timeout=WHOLE_WITHIN, interval=0.3)
        if elsewhere:
            raise ClusterError(f"replicas have moved: {elsewhere}")

    def clear(self, stack: Stack) -> bool:
        """Takes the RayService and Redis off the nodes.

        Returns:
            False where they do not go, so that the nodes must.

        Raises:
            ClusterError: The same, and nothing says that this plugin made the cluster, so it is not ours to delete.
        """
        self.begin(service="")
        try:
            # KubeRay cleans up in it before it lets a RayCluster go.
            self._repair.redis(self._wishes.redis)
            stack.remove_left_overs()
        except ClusterError as error:
            if self.record is None:
                raise
            self._progress(
                f"kind: the RayService on {self._nodes.name} could not be deleted, so the plugin"
                f" deletes the whole cluster: {error.what}"
            )
            return False
        return True


def open_kept(nodes: KindNodes, wishes: Wishes, progress: Progress) -> Kept:
    """Opens a cluster that is there, and starts its control plane if that does not run.

    Raises:
        SafetyError: It does not carry our label, so it is somebody else's; nothing was touched.
        ClusterError: It does not answer.
        WaitTimeout: The same.
    """
    state = nodes.machines().get(nodes.control_plane, "gone")
    if state != "running" and not nodes.publishes(names.TRAFFIC_NODE_PORT, names.DASHBOARD_NODE_PORT):
        raise _not_ours(nodes.name, f"{nodes.control_plane} is {state}, and does not publish our node ports")
    # Only the control plane, for only the API can tell whose the rest is.
    lost = [] if state == "running" else [f"{nodes.control_plane} was {state}"]
    if state == "paused":
        nodes.docker.unpause_machine(nodes.control_plane)
    elif state != "running":
        nodes.docker.start_machine(nodes.control_plane)
    nodes.export_kubeconfig()
    api = KubeApi(nodes.kubeconfig, namespace=wishes.namespace)
    clock.wait_until("the API server to answer", lambda: _answers(api), timeout=_ANSWERS, interval=0.5)
    if "services" not in _roles(api.nodes.items()):
        api.close()
        raise _not_ours(nodes.name, f"its nodes have no label {names.ROLE}")
    return Kept(nodes, api, wishes, progress, read_record(api), lost)


def check_ours(nodes: KindNodes) -> None:
    """Looks whether this plugin made a kind cluster, by all that can be seen of it; it may not be made to its end.

    Raises:
        SafetyError: Its control plane does not publish our node ports, or its nodes do not carry our label.
    """
    if nodes.control_plane not in nodes.machines():
        return  # one that never had it, or has lost it, is of no use to anybody
    if not nodes.publishes(names.TRAFFIC_NODE_PORT, names.DASHBOARD_NODE_PORT):
        raise _not_ours(nodes.name, f"{nodes.control_plane} does not publish our node ports")
    try:
        nodes.export_kubeconfig()
        with contextlib.closing(KubeApi(nodes.kubeconfig, namespace=names.NAMESPACE)) as api:
            items = api.nodes.items()
    except ClusterError:
        return  # the API does not answer, or not yet; the ports are ours
    if items and "services" not in _roles(items):
        raise _not_ours(nodes.name, f"its nodes have no label {names.ROLE}")


def _roles(nodes: Sequence[Mapping[str, Json]]) -> list[Json]:
    return [mapped(mapped(item.get("metadata")).get("labels")).get(names.ROLE) for item in nodes]


def is_finished(nodes: KindNodes) -> bool:
    """Whether a kind cluster that was to be kept was made to the end, so that it says what is in it."""
    try:
        nodes.export_kubeconfig()
        api = KubeApi(nodes.kubeconfig, namespace=names.NAMESPACE)
        try:
            return read_record(api) is not None
        finally:
            api.close()
    except ClusterError:
        return False


def read_record(api: KubeApi) -> Record | None:
    """What our namespace says is in the cluster; None where there is no such namespace, or it says nothing.

    Raises:
        CommandFailed: The API server gave no usable answer.
    """
    items = api.objects.namespaces(names.NAMESPACE)
    annotations = [mapped(mapped(item.get("metadata")).get("annotations")) for item in items]
    return next((from_text(text(found, names.KEPT)) for found in annotations), None)


def wait_for_nodes(api: KubeApi, progress: Progress, wanted: Collection[str] = ()) -> None:
    """Waits until the nodes are Ready, those that are named among them.

    Raises:
        WaitTimeout: They are not.
    """

    def probe() -> bool | NotYet:
        ready = api.nodes.ready()
        late = [node for node, ok in ready.items() if not ok] + [node for node in wanted if node not in ready]
        return NotYet(", ".join(f"{node} not Ready" for node in late) or "no nodes") if late or not ready else True

    def why() -> Sequence[str]:
        return newest_warnings(api, *_OF_NODES)

    wait_for("the nodes to be Ready", probe, timeout=_READY, progress=progress, why=why, who="kind")


def _answers(api: KubeApi) -> bool | NotYet:
    try:
        return bool(api.nodes.items()) or NotYet("no nodes")
    except CommandFailed as error:
        return NotYet(error.what)


def _not_ours(name: str, seen: str) -> SafetyError:
    return SafetyError(
        f"there is a kind cluster {name} that this plugin did not make",
        checked=[seen],
        fix=["give another name", f"or delete it: kind delete cluster --name {name}"],
    )
