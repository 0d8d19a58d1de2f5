"""The names and labels that everything made on Kubernetes carries, and the labels that KubeRay gives to Ray's pods."""

from __future__ import annotations

NAMESPACE = "serve-chaos"
OF_KUBERNETES = ("default", "kube-system", "kube-public", "kube-node-lease", "local-path-storage")
"""The namespaces that every kind cluster has."""
RAY_SERVICE = "serve-chaos"
REDIS = "redis"
"""The Deployment, the Service and the Secret of the Redis under the GCS."""
KEPT_CLUSTER = "serve-chaos"
"""The kind cluster that `keep` leaves there and takes over."""
OF_ONE_RUN = r"serve-chaos-[0-9a-f]{6}"
"""The names of kind clusters that live no longer than a run."""
CODE_CONFIG_MAP = "serve-chaos-code"
CODE_PATH = "/opt/serve-chaos/code"

FLAGS_VARIABLE = "SERVE_CHAOS_FLAGS"
"""What the health checks of our apps read: the directory in which a file named after a replica's PID makes it fail."""
FLAGS_PATH = "/tmp/serve-chaos-flags"

MANAGED_BY = "app.kubernetes.io/managed-by"
PROJECT = "pytest-serve-chaos"
ROLE = "pytest-serve-chaos/role"
"""A node label: ``services`` for the node that no fault touches, ``ray`` for the others."""
PART = "pytest-serve-chaos/part"
"""A pod label: ``ray`` or ``redis``."""
RUN = "pytest-serve-chaos/run"
KEPT = "pytest-serve-chaos/kept"
"""The annotation of our namespace on a kind cluster that is kept: what is in it."""
UNDO = "pytest-serve-chaos/undo"
"""The annotation of what a run has changed, so that no journal is needed: of a cordoned node the RayService that was
drained, of what runs Redis its number of pods, of a RayService the Serve config of before."""
NO_HEAD = "pytest-serve-chaos/no-head"
"""A node's taint: it takes no head. Workers tolerate it."""
NO_WORKER = "pytest-serve-chaos/no-worker"
"""A node's taint: it takes no worker. The head tolerates it."""

TRAFFIC_NODE_PORT = 30800
DASHBOARD_NODE_PORT = 30865
DASHBOARD_SERVICE = "serve-chaos-dashboard"
UPGRADE = "pytest-serve-chaos/upgrade"
"""An annotation of the head's pod template: how often the RayService was upgraded."""

NOWHERE = "pytest-serve-chaos/nowhere"
"""A node label that no node has: a pod that wants it never starts."""

SERVE_NAMESPACE = "serve"
"""Ray's namespace of all of Serve's actors; ray/serve/_private/constants.py."""
AGENT_PORT = 52365
"""The dashboard agent of every Ray pod; KubeRay's probes ask it, so it listens on the pod's address."""

# constant.go of KubeRay's ray-operator/controllers/ray/utils
RAY_CLUSTER = "ray.io/cluster"
RAY_NODE_TYPE = "ray.io/node-type"
SERVES = "ray.io/serve"
"""Says ``true`` on the pods to which KubeRay's Service sends requests, as far as they are Ready."""
RAY_NODES = f"{RAY_NODE_TYPE} in (head,worker)"
"""Selects the pods that are Ray nodes."""
FT_ENABLED = "ray.io/ft-enabled"
"""The annotation with which GCS fault tolerance was asked for before `gcsFaultToleranceOptions`."""
STORAGE_NAMESPACE = "ray.io/external-storage-namespace"
"""The annotation that, in that style, names the namespace of the GCS's keys."""
