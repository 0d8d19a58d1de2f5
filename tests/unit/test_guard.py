from __future__ import annotations

import pytest

from pytest_serve_chaos.errors import SafetyError
from pytest_serve_chaos.safety.guard import Guard, check_context

PODS = "/api/v1/namespaces/ml/pods"
OWN = f"{PODS}/ranker-abcde-head-xyz12"
OPERATOR = "/api/v1/namespaces/kuberay-system/pods/kuberay-operator-1"


def guard(*allow: str) -> Guard:
    own, under = "ranker-abcde-head-xyz12", "node-7"
    return Guard("staging", "ml", "ranker", allow, lambda name: name == own, lambda node: node == under)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/namespaces/other/secrets"),
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"),
        ("GET", f"{OWN}/log"),
        ("GET", f"{OPERATOR}/log"),
        ("DELETE", OWN),
        ("EXEC", f"{OWN}/exec"),
        ("POST", f"{OWN}/eviction"),
    ],
)
def test_looking_and_the_pods_of_the_rayservice_are_permitted(method: str, path: str) -> None:
    guard().permit(method, path)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", f"{PODS}/somebody-elses"),
        ("DELETE", OWN.replace("/ml/", "/other/")),
        ("DELETE", PODS),  # all of them at once
        ("DELETE", OPERATOR),
        ("EXEC", f"{OPERATOR}/exec"),
        ("POST", f"{OPERATOR}/eviction"),
        ("DELETE", f"{OWN}/exec"),
        ("EXEC", f"{PODS}/redis-0/exec"),
        ("POST", f"{PODS}/somebody-elses/eviction"),
        ("PATCH", OWN),
        ("PATCH", "/apis/ray.io/v1/namespaces/ml/rayservices/ranker"),
        ("PATCH", "/apis/apps/v1/namespaces/ml/deployments/redis/scale"),
        ("POST", "/api/v1/namespaces"),
        ("PUT", "/api/v1/nodes/node-7"),
        ("DELETE", "/api/v1/nodes/node-7"),
        ("PATCH", "/api/v1/nodes/node-7"),
    ],
)
def test_everything_else_is_refused(method: str, path: str) -> None:
    with pytest.raises(SafetyError, match="refused on the external cluster") as refusal:
        guard().permit(method, path)
    assert refusal.value.checked == ("context staging, RayService ml/ranker",)


def test_nodes_under_its_pods_may_be_cordoned_where_the_user_says_so() -> None:
    guard("node").permit("PATCH", "/api/v1/nodes/node-7")
    with pytest.raises(SafetyError, match="no pod of that RayService is on it"):
        guard("node").permit("PATCH", "/api/v1/nodes/node-8")
    with pytest.raises(SafetyError):
        guard("node").permit("DELETE", "/api/v1/nodes/node-7")
    with pytest.raises(SafetyError) as refusal:
        guard().permit("PATCH", "/api/v1/nodes/node-7")
    assert refusal.value.fix == ("--serve-chaos-allow=node",)


@pytest.mark.parametrize(
    ("context", "server", "allowed"),
    [
        ("kind-serve-chaos", "https://127.0.0.1:41231", None),
        ("kind-x", "https://localhost:41231", None),
        ("staging", "https://10.0.0.1", "staging"),
    ],
)
def test_a_kind_cluster_here_or_a_context_that_is_named_twice_may_be_used(
    context: str, server: str, allowed: str | None
) -> None:
    check_context(context, server, allowed)


@pytest.mark.parametrize(
    ("context", "server", "allowed"),
    [
        ("staging", "https://10.0.0.1", None),
        ("production", "https://10.0.0.1", "staging"),
        ("kind-of-production", "https://k8s.example.com", None),
        ("staging", "https://127.0.0.1:41231", None),
    ],
)
def test_any_other_context_is_refused(context: str, server: str, allowed: str | None) -> None:
    with pytest.raises(SafetyError, match="have to name it twice") as refusal:
        check_context(context, server, allowed)
    assert refusal.value.fix == (f"if you mean it: --serve-chaos-allow-context={context}",)
