"""What is installed on a cluster of our own: KubeRay's operator, Redis and the RayService; taken away in order."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from pytest_serve_chaos import clock, manifests, scratch
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.base import Progress
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.records import inner, listed, mapped, text
from pytest_serve_chaos.cluster.kubernetes.client.waits import newest_warnings, wait_for
from pytest_serve_chaos.cluster.kubernetes.install.file_kinds import OF_THE_CLUSTER
from pytest_serve_chaos.cluster.kubernetes.logs.operator import SELECTOR, operator_errors
from pytest_serve_chaos.cluster.private_files import private_directory
from pytest_serve_chaos.errors import CommandFailed, WaitTimeout
from pytest_serve_chaos.json_text import read_json
from pytest_serve_chaos.manifests import Manifest
from pytest_serve_chaos.model import Json

REDIS_SELECTOR = f"{names.PART}=redis"

_APPLY = ("--server-side", "--force-conflicts", f"--field-manager={names.PROJECT}")
_CRD = "crd/rayservices.ray.io"
_LEFT_OVERS = (
    "service,configmap,secret,job,cronjob,daemonset,replicaset,replicationcontroller,pod,persistentvolumeclaim,"
    "serviceaccount,role,rolebinding,ingress,networkpolicy,resourcequota,limitrange,poddisruptionbudget,"
    "horizontalpodautoscaler"
)
_STORES = "deployment,statefulset"
_NO_OPERATOR = "app.kubernetes.io/component!=kuberay-operator"
"""All but KubeRay's operator, which carries our label, too."""
_ESTABLISHED = 60.0
"""Seconds for the API server to serve KubeRay's kinds."""
_REMOVED = 90.0
_PULLED = 600.0
"""Seconds for pods whose images may have to be pulled first."""


class Kubectl(Protocol):
    """Runs kubectl against the cluster and returns what it printed; raises `CommandFailed`."""

    def __call__(self, *arguments: str, timeout: float = 60.0) -> str:
        """Runs it with those arguments, for `timeout` seconds at most."""
        ...


class Stack:
    """KubeRay, Redis and a RayService on one cluster.

    Args:
        kubectl: Runs kubectl.
        api: The Kubernetes API, in our namespace.
        directory: That of the run; the manifests that were applied are kept in its private part.
        progress: Prints a line about each phase.
        operator_namespace: Where the operator is, if it is installed.

    Attributes:
        operator_namespace: Where the operator is.
    """

    def __init__(
        self,
        kubectl: Kubectl,
        api: KubeApi,
        directory: Path,
        progress: Progress,
        operator_namespace: str = "default",
    ) -> None:
        self.operator_namespace = operator_namespace
        self._kubectl = kubectl
        self._api = api
        self._directory = directory
        self._progress = progress
        self._applied: list[str] = []

    def install_operator(self, text: str) -> None:
        """Applies KubeRay's manifests. Server-side, for its resource definitions do not fit into an annotation.

        Args:
            text: The manifests; the operator's Deployment says in which namespace it is.
        """
        deployment = text[text.find("\nkind: Deployment") :]
        found = re.search(r"^  namespace: (\S+)", deployment, re.MULTILINE)
        self.operator_namespace = found[1] if found else "default"
        file = self._file("kuberay-operator")
        file.write_text(text, encoding="utf-8")
        self._apply(file.stem, str(file), "-n", self.operator_namespace)

    def wait_for_operator(self) -> None:
        """Waits until the operator runs.

        Raises:
            WaitTimeout: It does not.
        """
        _wait_for_pods(
            self._api, self._progress, "the KubeRay operator to run", SELECTOR, self.operator_namespace, self.complaints
        )

    def check(self, documents: Sequence[Manifest]) -> None:
        """Lets the API server look at objects that were not made here, and changes nothing.

        Raises:
            CommandFailed: It would not take them.
            WaitTimeout: It does not serve KubeRay's kinds.
        """

        def established() -> bool | NotYet:
            # Not `kubectl wait`, nor a jsonpath: both fail where the conditions are null, as they are at first.
            try:
                crd = mapped(read_json(self._kubectl("get", _CRD, "-o", "json")))
            except ValueError as error:
                return NotYet(f"{_CRD}: {error}")
            status = mapped(crd.get("status"))
            said = {text(c, "type"): text(c, "status") for c in listed(status.get("conditions"))}
            return said.get("Established") == "True" or NotYet(f"the conditions of {_CRD}: {said or 'none yet'}")

        what = "the API server to serve KubeRay's kinds"
        wait_for(what, established, timeout=_ESTABLISHED, progress=self._progress)
        with self._kept("checked", documents) as file:
            self._kubectl("apply", *_APPLY, "--dry-run=server", "-f", file)

    def install_redis(self, documents: Sequence[Manifest]) -> None:
        """Applies Redis, and what else must be there before the RayService."""
        self.install("redis", documents)

    def wait_for_redis(self) -> None:
        """Waits until Redis is ready.

        Raises:
            WaitTimeout: It is not.
        """
        _wait_for_pods(self._api, self._progress, "Redis to be ready", REDIS_SELECTOR, self._api.namespace)

    def install(self, name: str, documents: Sequence[Manifest]) -> None:
        """Applies other objects: namespaces, Services, code, the RayService."""
        with self._kept(name, documents) as file:
            self._apply(name, file)

    def complaints(self) -> Sequence[str]:
        """What the operator complains about."""
        return operator_errors(self._api, self.operator_namespace)

    def remove(self) -> None:
        """Deletes the RayService, waits until its pods are gone, then deletes Redis.

        In this order because KubeRay cleans Redis up when the RayCluster goes, and waits for that.

        Raises:
            CommandFailed: Something could not be deleted in time.
        """
        for name in reversed([name for name in self._applied if name in ("redis", "rayservice")]):
            start = clock.now()
            file = str(self._file(name))
            options = ("--ignore-not-found", "--wait", "--timeout", f"{_REMOVED:g}s")
            self._kubectl("delete", "-f", file, *options, timeout=_REMOVED + 10)
            if name == "rayservice":
                _wait_until_no_ray_pods(self._api, self._progress)
            self._applied.remove(name)
            self._progress(f"kuberay: deleted {name} in {clock.now() - start:.1f} s")

    def remove_left_overs(self) -> None:
        """Deletes the RayService of an earlier run, its additional heads, its Redis and what else belonged to it.

        Raises:
            CommandFailed: They could not be deleted in time.
        """
        options = ("--ignore-not-found", "--wait", "--timeout", f"{_REMOVED:g}s")
        known = self._kubectl("get", "crd", "rayservices.ray.io", "--ignore-not-found", "-o", "name").strip()
        of_ray = ("rayservice.ray.io", "raycluster.ray.io") if known else ()
        for kind in of_ray:
            self._kubectl("delete", kind, "-A", "--all", *options, timeout=_REMOVED + 10)
        ours = ("-A", "-l", f"{names.MANAGED_BY}={names.PROJECT},{_NO_OPERATOR}")
        # Until their pods are gone: a Redis that is being deleted is still Ready, and would be taken for the new one.
        self._kubectl("delete", _STORES, *ours, "--cascade=foreground", *options, timeout=_REMOVED + 10)
        _wait_until_no_ray_pods(self._api, self._progress)
        # A Service of another name would keep the node port that the next one needs.
        self._kubectl("delete", _LEFT_OVERS, *ours, *options, timeout=_REMOVED + 10)
        # Those of the user's files; ours has the record of what is in the cluster.
        others = ("-l", f"{names.MANAGED_BY}={names.PROJECT}", f"--field-selector=metadata.name!={names.NAMESPACE}")
        self._kubectl("delete", "namespace", *others, *options, timeout=_REMOVED + 10)
        self._kubectl("delete", "priorityclass", *ours[1:], *options, timeout=_REMOVED + 10)

    def remove_operator(self) -> None:
        """Deletes the operator. Applied over it, another image under the same name would change nothing.

        Raises:
            CommandFailed: It could not be deleted in time.
        """
        options = ("--ignore-not-found", "--wait", "--timeout", f"{_REMOVED:g}s")
        command = ("-n", self.operator_namespace, "delete", "deployment,pod", "-l", SELECTOR)
        self._kubectl(*command, *options, timeout=_REMOVED + 10)

    def describe(self) -> None:
        """Writes what can be learned of a cluster that went wrong into the directory."""
        private = private_directory(self._directory)  # for what shows the environments of containers
        logs, ray = ("logs", "-l"), f"{names.PART}=ray"
        for where, file, arguments in (
            (self._directory, "pods.txt", ("get", "all", "-A", "-o", "wide")),
            (self._directory, "events.txt", ("get", "events", "-A", "--sort-by=.lastTimestamp")),
            (private, "rayservices.yaml", ("get", "rayservices,rayclusters", "-A", "-o", "yaml")),
            (private, "describe-pods.txt", ("-n", self._api.namespace, "describe", "pods")),
            (self._directory, "operator.log", ("-n", self.operator_namespace, *logs, SELECTOR, "--tail=2000")),
            (self._directory, "ray-pods.log", ("-n", self._api.namespace, *logs, ray, "--tail=500", "--prefix")),
        ):
            try:
                said = self._kubectl(*arguments, timeout=20.0)
            except CommandFailed as error:
                said = str(error)
            (where / file).write_text(said, encoding="utf-8")

    def _apply(self, name: str, file: str, *options: str) -> None:
        self._applied.append(name)
        self._kubectl(*options, "apply", *_APPLY, "-f", file)

    def _file(self, name: str) -> Path:
        """Where what was applied under that name is kept."""
        return private_directory(self._directory) / f"{name}.yaml"

    @contextlib.contextmanager
    def _kept(self, name: str, documents: Sequence[Manifest]) -> Iterator[str]:
        """The path of a file with these objects. What is kept of it, for reports, is without what Secrets hold."""
        placed = [_placed(document, self._api.namespace) for document in documents]
        whole = manifests.dump(tuple(placed))
        without = manifests.dump(tuple(_without_secrets(document) for document in placed))
        self._file(name).write_text(without, encoding="utf-8")
        with tempfile.NamedTemporaryFile(
            "w", dir=scratch.of_this_process(), suffix=".yaml", encoding="utf-8"
        ) as file:  # only we can read it
            file.write(whole)
            file.flush()
            try:
                yield file.name
            except CommandFailed as error:
                checked = [line.replace(file.name, str(self._file(name))) for line in error.checked]
                raise CommandFailed(error.what, checked=checked, fix=error.fix) from error


def _wait_for_pods(
    api: KubeApi,
    progress: Progress,
    what: str,
    selector: str,
    namespace: str,
    complaints: Callable[[], Sequence[str]] = lambda: (),
) -> None:
    def probe() -> bool | NotYet:
        pods = api.pods(selector, namespace=namespace)
        ready = any(pod.is_ready for pod in pods)
        return ready or NotYet("; ".join(pod.summary for pod in pods) or "no pods")

    def why() -> Sequence[str]:
        return [*newest_warnings(api, namespace), *complaints()]

    wait_for(what, probe, timeout=_PULLED, progress=progress, why=why)


def _wait_until_no_ray_pods(api: KubeApi, progress: Progress) -> None:
    def probe() -> bool | NotYet:
        pods = api.pods(f"{names.PART}=ray")
        return not pods or NotYet("; ".join(pod.summary for pod in pods))

    try:
        wait_for("Ray's pods to be gone", probe, timeout=_REMOVED, progress=progress)
    except WaitTimeout as error:
        raise CommandFailed("the RayService's pods did not go", checked=[str(error)]) from error


def _placed(document: Manifest, namespace: str) -> Manifest:
    """An object of ours that names no namespace is in that of the RayService."""
    if document.get("kind") in OF_THE_CLUSTER or inner(document, "metadata").get("namespace"):
        return document
    return manifests.merge(document, {"metadata": {"namespace": namespace}})


def _without_secrets(document: Manifest) -> Manifest:
    """A Secret with the names of what it holds alone; all else as it is."""
    if document.get("kind") != "Secret":
        return document
    held: Json = {name: "(not kept)" for key in ("data", "stringData") for name in mapped(document.get(key))}
    return {**{key: value for key, value in document.items() if key != "data"}, "stringData": held}
