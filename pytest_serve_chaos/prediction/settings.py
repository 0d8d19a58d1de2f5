"""The settings that decide how long a recovery takes, each with its value, and with the source of its default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_serve_chaos.model import minor_version

READ_IN = "2.60"
"""The release of Ray in whose source the defaults and the rules were read."""

REPLICA_PERIOD = "health_check_period_s"
REPLICA_TIMEOUT = "health_check_timeout_s"
REPLICA_FAILURES = "REPLICA_HEALTH_CHECK_UNHEALTHY_THRESHOLD"
STOP_LOOP = "graceful_shutdown_wait_loop_s"
STOP_TIMEOUT = "graceful_shutdown_timeout_s"
AT_ONCE = "max_ongoing_requests"
ROLLING_SHARE = "rolling_update_percentage"
PROXY_PERIOD = "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S"
PROXY_TIMEOUT = "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S"
PROXY_FAILURES = "PROXY_HEALTH_CHECK_UNHEALTHY_THRESHOLD"
PROXY_DRAIN = "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S"
DRAIN_CHECK = "PROXY_DRAIN_CHECK_PERIOD_S"
INGRESS_DRAIN = "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S"
DRAIN = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
GCS_DELAY = "RAY_health_check_initial_delay_ms"
GCS_PERIOD = "RAY_health_check_period_ms"
GCS_TIMEOUT = "RAY_health_check_timeout_ms"
GCS_FAILURES = "RAY_health_check_failure_threshold"
RECONNECT = "RAY_gcs_rpc_server_reconnect_timeout_s"
RESTART_DELAY = "restart delay of the profile"
TERMINATION_GRACE = "terminationGracePeriodSeconds"
DELETION_DELAY = "rayClusterDeletionDelaySeconds"
READY_DELAY = "initialDelaySeconds of KubeRay's readiness probe"
READY_PERIOD = "periodSeconds of KubeRay's readiness probe"
RECONCILE = "KubeRay's reconcile period"
NODE_GRACE = "node-monitor-grace-period"
NODE_PERIOD = "node-monitor-period"
HEARTBEAT = "the kubelet's nodeStatusUpdateFrequency"
GRPC_CONNECT = "gRPC's MIN_CONNECT_TIMEOUT"

_SERVE = "ray/serve/_private/constants.py"
_CONFIG = "ray_config_def.h"
_KUBERAY = "KubeRay 1.6.2, ray-operator/controllers/ray"


@dataclass(frozen=True, slots=True)
class Default:
    """What a setting is unless somebody sets it.

    Attributes:
        value: In the setting's own unit.
        source: Where that stands.
        seconds: Seconds of one unit; 0: it is a number of something.
    """

    value: float
    source: str
    seconds: float = 1.0


DEFAULTS: Mapping[str, Default] = {
    REPLICA_PERIOD: Default(10, f"{_SERVE}, DEFAULT_HEALTH_CHECK_PERIOD_S"),
    REPLICA_TIMEOUT: Default(30, f"{_SERVE}, DEFAULT_HEALTH_CHECK_TIMEOUT_S"),
    REPLICA_FAILURES: Default(3, _SERVE, 0),
    STOP_LOOP: Default(2, f"{_SERVE}, DEFAULT_GRACEFUL_SHUTDOWN_WAIT_LOOP_S"),
    STOP_TIMEOUT: Default(20, f"{_SERVE}, DEFAULT_GRACEFUL_SHUTDOWN_TIMEOUT_S"),
    AT_ONCE: Default(5, f"{_SERVE}, DEFAULT_MAX_ONGOING_REQUESTS", 0),
    ROLLING_SHARE: Default(0.2, f"{_SERVE}, DEFAULT_ROLLING_UPDATE_PERCENTAGE", 0),
    PROXY_PERIOD: Default(10, _SERVE),
    PROXY_TIMEOUT: Default(10, _SERVE),
    PROXY_FAILURES: Default(3, _SERVE, 0),
    PROXY_DRAIN: Default(30, _SERVE),
    DRAIN_CHECK: Default(5, _SERVE),
    INGRESS_DRAIN: Default(30, _SERVE),
    DRAIN: Default(30, "ray/_private/ray_constants.py"),
    GCS_DELAY: Default(5000, _CONFIG, 0.001),
    GCS_PERIOD: Default(3000, _CONFIG, 0.001),
    GCS_TIMEOUT: Default(10000, _CONFIG, 0.001),
    GCS_FAILURES: Default(5, _CONFIG, 0),
    RECONNECT: Default(60, _CONFIG),
    RESTART_DELAY: Default(5, "the profile of the local backend"),
    TERMINATION_GRACE: Default(30, "Kubernetes, PodSpec"),
    DELETION_DELAY: Default(60, f"{_KUBERAY}/rayservice_controller.go"),
    READY_DELAY: Default(10, f"{_KUBERAY}/utils/constant.go"),
    READY_PERIOD: Default(5, f"{_KUBERAY}/utils/constant.go; a failureThreshold of 1 for a worker of a RayService"),
    RECONCILE: Default(2, f"{_KUBERAY}/rayservice_controller.go, ServiceDefaultRequeueDuration"),
    NODE_GRACE: Default(50, "kube-controller-manager from Kubernetes 1.32 on (kubernetes#126287)"),
    NODE_PERIOD: Default(5, "kube-controller-manager"),
    HEARTBEAT: Default(10, "the kubelet: a lease is renewed each quarter of its 40 s"),
    GRPC_CONNECT: Default(20, "gRPC, connection backoff"),
}
"""Every setting that a rule asks for. Names that begin with RAY_ are environment variables of Ray's processes."""

NOT_TO_BE_SET = frozenset({RESTART_DELAY, RECONCILE})
"""What decides a time as settings do, and no cluster of a user has: one of this package, and a constant of KubeRay."""

_OF_OLD_KUBERNETES = Default(40, "kube-controller-manager before Kubernetes 1.32")

_OF_RAY = (_SERVE, _CONFIG, "ray/_private")


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of the cluster under test.

    Attributes:
        name: What it is called.
        value: Its value, in its own unit.
        seconds: The same in seconds; a plain number where it counts something.
        source: Where its default, and what it does, were read.
    """

    name: str
    value: float
    seconds: float
    source: str

    @property
    def words(self) -> str:
        """The setting with its value: ``RAY_health_check_period_ms = 1000``."""
        return f"{self.name} = {self.value:g}"

    @property
    def can_be_set(self) -> bool:
        """Whether a user can give it another value: it belongs to Ray, Serve or Kubernetes, and is no constant."""
        return self.name not in NOT_TO_BE_SET


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one cluster.

    Attributes:
        given: Name -> value, as far as they are known to differ from the defaults.
        ray_version: ``2.60.0``.
        kubernetes_version: ``v1.34.2``; "" where there is none, or nobody knows.
        start_delay: Seconds that the constructor of a replica takes; None: nobody knows.
        assumed: Whether nobody looked at the environment of Ray's processes, so that defaults are a guess.
    """

    given: Mapping[str, float]
    ray_version: str = READ_IN
    kubernetes_version: str = ""
    start_delay: float | None = None
    assumed: bool = False

    def __getitem__(self, name: str) -> Setting:
        default = self._default(name)
        value = self.given.get(name, default.value)
        of_ray = default.source.startswith(_OF_RAY)
        source = f"{default.source} (Ray {READ_IN})" if of_ray else default.source
        return Setting(name, value, value * (default.seconds or 1.0), source)

    def seconds(self, name: str) -> float:
        """The value in seconds, or the plain number of what it counts."""
        return self[name].seconds

    def _default(self, name: str) -> Default:
        if name == NODE_GRACE and self._is_old_kubernetes:
            return _OF_OLD_KUBERNETES
        return DEFAULTS[name]

    @property
    def _is_old_kubernetes(self) -> bool:
        try:
            return minor_version(self.kubernetes_version.removeprefix("v")) < (1, 32)
        except ValueError:
            return False

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why the values or the rules may be others here."""
        found = []
        if not self.ray_version.startswith(f"{READ_IN}."):
            found.append(f"the rules were read in Ray {READ_IN}, and this is {self.ray_version}")
        if self.assumed:
            found.append("the environment of Ray's processes was not read, so Ray's defaults are assumed")
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Known:
    """Where the settings of a cluster come from.

    Attributes:
        environment: The environment variables of Ray's processes.
        deployment: The options of the deployment that the fault concerns.
        platform: Those of what starts Ray's nodes, by their names here.
    """

    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    deployment: Mapping[str, float] = field(default_factory=dict)
    platform: Mapping[str, float] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, float]:
        """All of them that are numbers, by name."""
        return {**self._of_environment(), **self.deployment, **self.platform}

    def _of_environment(self) -> dict[str, float]:
        found = {}
        for name, text in self.environment.items():
            if name in DEFAULTS:
                try:
                    found[name] = float(text)
                except ValueError:
                    continue  # Ray takes its default, or does not start
        return found
