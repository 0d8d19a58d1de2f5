from __future__ import annotations

import pytest

from pytest_serve_chaos.errors import SafetyError
from pytest_serve_chaos.safety.guard import Guard, check_context

PODS = "/api/v1/namespaces/ml/pods"
OWN = f"{PODS}/ranker-abcde-head-xyz12"
CORDON = {"spec": {"unschedulable": True}}
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
    guard("node").permit("PATCH", "/api/v1/nodes/node-7", CORDON)
    with pytest.raises(SafetyError, match="no pod of that RayService is on it"):
        guard("node").permit("PATCH", "/api/v1/nodes/node-8", CORDON)
    with pytest.raises(SafetyError):
        guard("node").permit("DELETE", "/api/v1/nodes/node-7")
    with pytest.raises(SafetyError) as refusal:
        guard().permit("PATCH", "/api/v1/nodes/node-7", CORDON)
    assert refusal.value.fix == ("--serve-chaos-allow=node",)


@pytest.mark.parametrize(
    "body",
    [
        {"spec": {"unschedulable": True}},
        {"spec": {"unschedulable": None}},
        {"spec": {"unschedulable": True}, "metadata": {"annotations": {"pytest-serve-chaos/undo": "{}"}}},
        {"spec": {"unschedulable": None}, "metadata": {"annotations": {}, "resourceVersion": "7"}},
    ],
)
def test_a_node_may_be_cordoned_and_carry_a_note_of_ours(body: object) -> None:
    guard("node").permit("PATCH", "/api/v1/nodes/node-7", body)


@pytest.mark.parametrize(
    "body",
    [
        None,
        {},
        [],
        [{"op": "replace", "path": "/spec/unschedulable", "value": True}],
        {"spec": {"unschedulable": True, "taints": []}},
        {"spec": {"unschedulable": "yes"}},
        {"spec": {"unschedulable": {"a": 1}}},
        {"metadata": {"labels": {"team": "us"}}},
        {"metadata": {"annotations": {"theirs": "1"}}},
        {"metadata": {"annotations": {"pytest-serve-chaos/undo": "{}"}, "finalizers": []}},
        {"status": {}, "spec": {"unschedulable": True}},
    ],
)
def test_nothing_else_of_a_node_is_changed(body: object) -> None:
    with pytest.raises(SafetyError, match=r"it changes more of the node than spec\.unschedulable"):
        guard("node").permit("PATCH", "/api/v1/nodes/node-7", body)


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
@pytest.mark.parametrize(
    "path",
    [
        f"{OWN}/exec",
        f"{OWN}/exec/",
        f"{OWN}/attach",
        f"{OWN}/portforward",
        f"{OPERATOR}/exec",
        "/api/v1/nodes/node-7/proxy",
        "/api/v1/nodes/node-7/proxy/run/ml/pod/container",
        "/api/v1/proxy/nodes/node-7/exec",
    ],
)
def test_nothing_that_opens_a_way_past_the_guard_is_permitted_however_it_is_asked_for(method: str, path: str) -> None:
    with pytest.raises(SafetyError, match="refused on the external cluster"):
        guard("node").permit(method, path)


@pytest.mark.parametrize(
    "path",
    [
        f"{OWN}/../../../../namespaces/ml",
        f"{OWN}/%2e%2e/somebody-elses",
        f"{PODS}//ranker-abcde-head-xyz12",
        f"{PODS}/./ranker-abcde-head-xyz12",
        f"{PODS}/ranker-abcde-head-xyz12%2f..%2fsomebody-elses",
        f"{PODS}/..",
        f"{OWN};x",
        f"{OWN}?x",
        f"{OWN}#x",
        f"{OWN}\n",
    ],
)
@pytest.mark.parametrize("method", ["GET", "DELETE", "EXEC"])
def test_a_path_that_could_name_something_else_is_refused_whatever_is_done_there(method: str, path: str) -> None:
    with pytest.raises(SafetyError, match="refused on the external cluster"):
        guard().permit(method, path)


# -- what the API server passes on --

PROXY = f"{OWN}:8000/proxy"
HEAD = "/api/v1/namespaces/ml/services/ranker-abcde-head-svc:8265/proxy"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("TRAFFIC", PROXY),
        ("TRAFFIC", f"{PROXY}/rank"),
        ("TRAFFIC", f"{PROXY}/rank/a%2Fb/.well-known/x"),
        ("GET", f"{PROXY}/-/healthz"),
        ("GET", f"{HEAD}/api/v0/actors"),
    ],
)
def test_traffic_may_go_to_the_proxies_of_the_rayservice_and_looks_to_its_dashboard(method: str, path: str) -> None:
    guard().permit(method, path)


@pytest.mark.parametrize(
    "path",
    [
        "/../../..",
        "/..",
        "/rank/../../../../../secrets",
        "/%2e%2e/%2e%2e/secrets",
        "/%2E./x",
        "/%252e%252e/x",
        "/..%2f..%2fsecrets",
        "/..;/x",
        "/..\\x",
        "/rank//x",
        "//x",
        "/%2f%2fx",
        "/rank/%00",
    ],
)
@pytest.mark.parametrize("method", ["TRAFFIC", "GET"])
def test_no_path_leads_out_of_the_pod(method: str, path: str) -> None:
    with pytest.raises(SafetyError, match="refused on the external cluster"):
        guard().permit(method, PROXY + path)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("TRAFFIC", f"{PODS}/somebody-elses:8000/proxy/rank"),
        ("TRAFFIC", PROXY.replace("/ml/", "/other/")),
        ("TRAFFIC", f"{HEAD}/api/serve/applications/"),  # it could be a PUT
        ("TRAFFIC", "/api/v1/namespaces/ml"),
        ("GET", f"{PODS}/somebody-elses:8000/proxy/rank"),
        ("GET", HEAD.replace("/ml/", "/other/")),
        ("PUT", f"{HEAD}/api/serve/applications/"),
        ("PUT", f"{PROXY}/api/serve/applications/"),
    ],
)
def test_nothing_else_is_passed_on(method: str, path: str) -> None:
    with pytest.raises(SafetyError, match="refused on the external cluster"):
        guard().permit(method, path)


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
