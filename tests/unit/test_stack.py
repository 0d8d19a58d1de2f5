"""What is installed on a cluster of our own is checked first, once the API server knows KubeRay's kinds."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import yaml

from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.install import stack
from pytest_serve_chaos.cluster.kubernetes.install.stack import Stack
from pytest_serve_chaos.errors import WaitTimeout
from pytest_serve_chaos.model import Json

CONFIG: dict[str, Json] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs"}}


class Kubectl:
    """Answers with the next of the conditions that a test has for KubeRay's resource definition, the last for ever."""

    def __init__(self, *conditions: Json) -> None:
        self.conditions = list(conditions)
        self.ran: list[str] = []
        self.files: list[Path] = []
        self.applied = ""

    def __call__(self, *arguments: str, timeout: float = 60.0) -> str:
        self.ran.append(" ".join(arguments))
        if "apply" in arguments:
            self.files.append(Path(arguments[-1]))
            self.applied += self.files[-1].read_text()
        if "get" not in arguments:
            return ""
        now = self.conditions.pop(0) if len(self.conditions) > 1 else self.conditions[0]
        return json.dumps({"status": {"conditions": now}})


def condition(status: str) -> Json:
    return [{"type": "NamesAccepted", "status": "True"}, {"type": "Established", "status": status}]


IN_OURS = cast("KubeApi", SimpleNamespace(namespace="serve-chaos"))


def check(kubectl: Kubectl, directory: Path) -> None:
    Stack(kubectl, IN_OURS, directory, print).check([CONFIG])


def test_objects_are_checked_once_the_kinds_are_served(tmp_path: Path) -> None:
    kubectl = Kubectl(None, condition("False"), condition("True"))
    check(kubectl, tmp_path)
    assert ["get" in ran for ran in kubectl.ran] == [True, True, True, False]
    assert "--dry-run=server" in kubectl.ran[-1]
    assert "name: theirs" in (tmp_path / "private" / "checked.yaml").read_text()


def test_what_names_no_namespace_is_put_into_that_of_the_rayservice(tmp_path: Path) -> None:
    kubectl = Kubectl(condition("True"))
    stack = Stack(kubectl, cast("KubeApi", SimpleNamespace(namespace="ranking")), tmp_path, print)
    other: dict[str, Json] = {**CONFIG, "metadata": {"name": "alias", "namespace": "data"}}
    kept: dict[str, Json] = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "data"}}
    stack.install("services", [CONFIG, other, kept])
    found = {item["kind"] + item["metadata"]["name"]: item for item in yaml.safe_load_all(kubectl.applied)}
    assert found["ConfigMaptheirs"]["metadata"]["namespace"] == "ranking"
    assert found["ConfigMapalias"]["metadata"]["namespace"] == "data"
    assert "namespace" not in found["Namespacedata"]["metadata"]
    assert " -n " not in kubectl.ran[-1]


def test_kinds_that_are_never_served_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "_ESTABLISHED", 0.2)
    kubectl = Kubectl(None)
    with pytest.raises(WaitTimeout, match=r"conditions of crd/rayservices.ray.io: none yet"):
        check(kubectl, tmp_path)
    assert not any("apply" in ran for ran in kubectl.ran)


SECRETS = cast(
    "list[dict[str, Json]]",
    [
        {"kind": "Secret", "metadata": {"name": "theirs"}, "data": {"password": "aHVudGVyMg=="}},
        {"kind": "Secret", "metadata": {"name": "also"}, "stringData": {"token": "hunter3"}},
    ],
)


def test_what_secrets_hold_is_applied_and_not_kept(tmp_path: Path) -> None:
    kubectl = Kubectl(condition("True"))
    stack = Stack(kubectl, IN_OURS, tmp_path, print)
    stack.check([CONFIG, *SECRETS])
    stack.install_redis([CONFIG, *SECRETS])

    for secret in ("aHVudGVyMg==", "hunter3"):
        assert kubectl.applied.count(secret) == 2
        assert not any(secret in file.read_text() for file in tmp_path.rglob("*.yaml"))
    for name in ("checked", "redis"):
        kept = (tmp_path / "private" / f"{name}.yaml").read_text()
        assert all(word in kept for word in ("theirs", "also", "password: (not kept)", "token: (not kept)"))
    assert not any(file.exists() for file in kubectl.files)


def test_what_is_left_over_is_gone_with_its_pods_before_the_next_is_applied(tmp_path: Path) -> None:
    # In the background, which is kubectl's default, the pods of a deleted Deployment stay Ready while they terminate.
    kubectl = Kubectl(condition("True"))
    api = cast("KubeApi", SimpleNamespace(pods=lambda selector: (), namespace="serve-chaos"))
    Stack(kubectl, api, tmp_path, print).remove_left_overs()

    for ran in kubectl.ran:
        if "deployment" in ran or "configmap" in ran:
            assert "app.kubernetes.io/component!=kuberay-operator" in ran, "the operator stays"
    [namespaces] = [ran for ran in kubectl.ran if "delete namespace" in ran]
    assert "--field-selector=metadata.name!=serve-chaos" in namespaces, "ours says what is in the cluster"
    [left_overs] = [ran for ran in kubectl.ran if "configmap" in ran]
    for kind in ("resourcequota", "limitrange", "networkpolicy"):
        assert kind in left_overs, "it would limit the pods of the next"
    [stores] = [ran for ran in kubectl.ran if "deployment,statefulset" in ran]
    assert "--cascade=foreground" in stores
    assert "--wait" in stores
