"""What may be changed on an external cluster: the pods of one RayService in one context, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from pytest_serve_chaos.cluster.kubernetes.client.access import EXEC, TRAFFIC
from pytest_serve_chaos.cluster.kubernetes.client.api_path import why_refused
from pytest_serve_chaos.errors import SafetyError

_POD = re.compile(r"/api/v1/namespaces/(?P<namespace>[^/]+)/pods/(?P<name>[^/]+)(?P<part>/[a-z]+)?")
_NODE = re.compile(r"/api/v1/nodes/(?P<name>[^/]+)")
_REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
"""Asks what this user may do; it is a POST that changes nothing."""

_ON_PODS = {("DELETE", None), (EXEC, "/exec"), ("POST", "/eviction")}
_READS = ("GET", "HEAD", "OPTIONS")
_PASSED_ON = re.compile(
    r"/api/v1/namespaces/(?P<namespace>[^/]+)/(?P<kind>pods|services)/(?P<name>[^/:]+)(?::[^/]+)?/proxy(?:/.*)?"
)
"""What the API server passes on to a pod or Service."""
_OPENS_MORE = re.compile(r".*/(?:exec|attach|portforward)/?|/api/v1/(?:proxy/.*|nodes/[^/]+/proxy(?:/.*)?)")
"""What a GET opens a way into: a program, a port, or a kubelet, which can run programs in all of its pods."""
_OUR_ANNOTATIONS = "pytest-serve-chaos/"


@dataclass(frozen=True, slots=True)
class Guard:
    """Checks every request to the API server of an external cluster before it is sent.

    Attributes:
        context: The kubeconfig context that the user named.
        namespace: The RayService's namespace.
        ray_service: Its name.
        allow: What else may be broken: ``node``.
        owns: Whether a pod of that name in the namespace is the RayService's.
        carries: Whether a pod of it is on the Kubernetes node of that name.
    """

    context: str
    namespace: str
    ray_service: str
    allow: Collection[str]
    owns: Callable[[str], bool]
    carries: Callable[[str], bool]

    def permit(self, method: str, path: str, body: object = None, /) -> None:
        """Lets a request pass.

        Args:
            method: ``GET``, ``DELETE``, ...; `EXEC` for a program in a pod, `TRAFFIC` for a request to its proxy.
            path: The path at the API server, without its address and without the query.
            body: What is sent, if the method is ``PATCH``.

        Raises:
            SafetyError: It would change what is not the RayService's, or what the user did not allow.
        """
        reason = why_refused(path)
        if reason:
            raise self._refusal(method, path, reason)
        passed_on = _PASSED_ON.fullmatch(path)
        if passed_on:
            self._pass_on(method, path, passed_on)
        elif _OPENS_MORE.fullmatch(path) and method != EXEC:
            raise self._refusal(method, path, "it opens a way past this guard")
        elif method not in _READS and path != _REVIEW:
            self._change(method, path, body)

    def _pass_on(self, method: str, path: str, found: re.Match[str]) -> None:
        if found["namespace"] != self.namespace:
            raise self._refusal(method, path, "it is not in the namespace of that RayService")
        if found["kind"] == "pods":
            if not self.owns(found["name"]):
                raise self._refusal(method, path, "it is not a pod of that RayService")
            if method == TRAFFIC:
                return
        if method not in _READS:
            raise self._refusal(method, path, "nothing but pods may be changed")

    def _change(self, method: str, path: str, body: object) -> None:
        pod, node = _POD.fullmatch(path), _NODE.fullmatch(path)
        if pod and (method, pod["part"]) in _ON_PODS:
            if pod["namespace"] == self.namespace and self.owns(pod["name"]):
                return
            raise self._refusal(method, path, "it is not a pod of that RayService")
        if node and method == "PATCH":
            if "node" not in self.allow:
                raise self._refusal(method, path, "faults on nodes are not allowed", "--serve-chaos-allow=node")
            if not _only_cordons(body):
                raise self._refusal(method, path, "it changes more of the node than spec.unschedulable")
            if self.carries(node["name"]):
                return
            raise self._refusal(method, path, "no pod of that RayService is on it")
        raise self._refusal(method, path, "nothing but pods may be changed")

    def _refusal(self, method: str, path: str, why: str, *fix: str) -> SafetyError:
        return SafetyError(
            f"refused on the external cluster: {method} {path}: {why}",
            checked=[f"context {self.context}, RayService {self.namespace}/{self.ray_service}"],
            fix=fix or ["use a cluster of your own: --serve-chaos-backend=kind"],
        )


def _only_cordons(body: object) -> bool:
    """Whether a patch of a node changes nothing but whether it takes pods, and annotations that are ours.

    It may say which version of the node it is for.
    """
    if not isinstance(body, dict) or not body or set(body) - {"spec", "metadata"}:
        return False
    spec, metadata = body.get("spec", {}), body.get("metadata", {})
    if not isinstance(spec, dict) or not isinstance(metadata, dict):
        return False
    annotations = metadata.get("annotations", {})
    return (
        set(spec) <= {"unschedulable"}
        and spec.get("unschedulable") in (True, False, None)
        and set(metadata) <= {"annotations", "resourceVersion"}
        and isinstance(annotations, dict)
        and all(str(name).startswith(_OUR_ANNOTATIONS) for name in annotations)
    )


def check_context(context: str, server: str, allowed: str | None) -> None:
    """Refuses a cluster that may be in production, unless the user has named it twice.

    Args:
        context: The kubeconfig context.
        server: The address of its API server.
        allowed: What ``--serve-chaos-allow-context`` says.

    Raises:
        SafetyError: It is not a kind cluster on this machine, and the user has not allowed it by its name.
    """
    if allowed == context:
        return
    host = urlsplit(server).hostname or ""
    if context.startswith("kind-") and (host in ("localhost", "::1") or host.startswith("127.")):
        return
    raise SafetyError(
        f"the context {context} is not a kind cluster on this machine, so you have to name it twice",
        checked=[f"its API server: {server}", f"--serve-chaos-allow-context: {allowed}"],
        fix=[f"if you mean it: --serve-chaos-allow-context={context}"],
    )
