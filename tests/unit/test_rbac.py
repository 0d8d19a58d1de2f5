"""Who may do what to an external RayService: what is reviewed, what the tiers give, and what the doctor says."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import cast

import pytest
import yaml

from pytest_serve_chaos.backends.kubernetes import KUBERNETES
from pytest_serve_chaos.cli import main
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.external import rights
from pytest_serve_chaos.cluster.kubernetes.external.access_tiers import TIERS, AccessRequest, Tier, manifests, rights_of
from pytest_serve_chaos.cluster.kubernetes.external.object_names import names_there
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.model import Json
from tests.unit.api_server import REVIEWS, ApiServer, Asked
from tests.unit.test_external_start import external, server, settings

__all__ = ["server"]  # the fixture

NODE_RULES = [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "patch"]}]


class Role:
    """Allows what its rules say, as Kubernetes does: one with names allows only what names one of them.

    Attributes:
        asked: What was asked of it.
    """

    def __init__(self, server: ApiServer, rules: Collection[Json]) -> None:
        self.rules = [cast("dict[str, list[str]]", rule) for rule in rules]
        self.asked: list[dict[str, str]] = []
        self._others = server.answer
        server.answer = self.answer  # type: ignore[method-assign]

    def answer(self, asked: Asked) -> tuple[int, Json]:
        if asked.path != REVIEWS:
            return self._others(asked)
        body = cast("dict[str, dict[str, dict[str, str]]]", asked.body)
        wanted = body["spec"]["resourceAttributes"]
        self.asked.append(wanted)
        return 201, {"status": {"allowed": any(self._allows(rule, wanted) for rule in self.rules)}}

    def _allows(self, rule: dict[str, list[str]], wanted: dict[str, str]) -> bool:
        resource = wanted["resource"] + (f"/{wanted['subresource']}" if wanted["subresource"] else "")
        named = rule.get("resourceNames")
        return (
            wanted["verb"] in rule["verbs"]
            and resource in rule["resources"]
            and wanted["group"] in rule["apiGroups"]
            and (named is None or wanted.get("name") in named)
        )


def rules(objects: Collection[Json]) -> list[Json]:
    """The rules of all roles in a list of manifests."""
    kinds = ("Role", "ClusterRole")
    found = [cast("dict[str, list[Json]]", one) for one in objects]
    return [rule for one in found if str(one["kind"]) in kinds for rule in one["rules"]]


# -- reviews -----------------------------------------------------------------------------------------------------------


def test_a_role_that_is_limited_to_the_rayservice_is_enough(server: ApiServer, tmp_path: Path) -> None:
    role = Role(
        server,
        [{"apiGroups": ["ray.io"], "resources": ["rayservices"], "resourceNames": ["ranker"], "verbs": ["get"]}],
    )
    api = KubeApi(server.kubeconfig(tmp_path), namespace="ml")
    assert rights.missing(api, rights.LOOK[:1], names_there(api, "ranker")) == ()
    assert role.asked[-1]["name"] == "ranker"
    assert rights.missing(api, rights.LOOK[:1], names_there(api, "another")) == rights.LOOK[:1]
    api.close()


@pytest.mark.parametrize(("names", "missing"), [(["node-1"], 0), (["node-1", "node-2"], 0), (["node-2"], 2), ([], 2)])
def test_a_role_that_is_limited_to_nodes_must_name_those_that_carry_pods(
    server: ApiServer, names: list[str], missing: int, tmp_path: Path
) -> None:
    limited = {"apiGroups": [""], "resources": ["nodes"], "resourceNames": names, "verbs": ["get", "patch"]}
    Role(server, [cast("Json", limited)])
    api = KubeApi(server.kubeconfig(tmp_path), namespace="ml")
    assert len(rights.missing(api, rights.DRAIN[:2], names_there(api, "ranker"))) == missing
    api.close()


def test_who_may_do_it_to_all_is_asked_no_further(server: ApiServer, tmp_path: Path) -> None:
    role = Role(server, cast("list[Json]", NODE_RULES))
    api = KubeApi(server.kubeconfig(tmp_path), namespace="ml")
    assert rights.missing(api, rights.DRAIN[:2], names_there(api, "ranker")) == ()
    assert [one.get("name") for one in role.asked] == [None, None]
    assert {asked.path for asked in server.asked} == set()
    api.close()


# -- tiers -------------------------------------------------------------------------------------------------------------


def request(tier: Tier, **changes: object) -> AccessRequest:
    return AccessRequest("ml", "ranker", tier, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("nodes", [(), ("node-1",)])
def test_a_tier_gives_all_of_its_rights_and_none_of_another(
    server: ApiServer, tier: Tier, nodes: tuple[str, ...], tmp_path: Path
) -> None:
    Role(server, rules(manifests(request(tier, nodes=nodes))))
    api = KubeApi(server.kubeconfig(tmp_path), namespace="ml")
    names = names_there(api, "ranker")
    assert rights.missing(api, rights_of(tier), names) == ()
    beyond = [right for right in rights_of("drain", "POST") if right not in rights_of(tier)]
    assert list(rights.missing(api, beyond, names)) == beyond
    api.close()


def test_the_tiers_give_what_the_plugin_asks_for(server: ApiServer, tmp_path: Path) -> None:
    everything = {*rights.look("GET"), *rights.BREAK, *rights.LEASE, *rights.LIMITS}
    assert everything <= set(rights_of("drain"))
    assert set(rights_of("look")) < set(rights_of("break")) < set(rights_of("drain"))


def test_only_the_verbs_of_looking_are_in_the_first_tier() -> None:
    verbs = {verb for rule in rules(manifests(request("look"))) for verb in cast("dict[str, list[str]]", rule)["verbs"]}
    assert verbs == {"get", "list", "watch"}


def test_nothing_is_given_in_the_whole_cluster_but_nodes() -> None:
    assert {one["kind"] for one in manifests(request("break"))} == {"ServiceAccount", "Role", "RoleBinding"}
    (role,) = (one for one in manifests(request("drain", nodes=["a", "b"])) if one["kind"] == "ClusterRole")
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["nodes"], "resourceNames": ["a", "b"], "verbs": ["get", "patch"]},
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]},
    ]


def test_what_the_operator_logs_is_read_in_its_namespace_alone() -> None:
    objects = [cast("dict[str, dict[str, Json]]", one) for one in manifests(request("look", operator_namespace="ops"))]
    assert [one["metadata"]["namespace"] for one in objects] == ["ml", "ml", "ml", "ops", "ops"]
    (there,) = (one for one in objects if str(one["kind"]) == "Role" and one["metadata"]["namespace"] == "ops")
    assert cast("Json", there["rules"]) == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    ]


def test_requests_by_another_method_need_its_verb() -> None:
    assert rights.Right("create", "pods/proxy") in rights_of("look", "POST")
    assert rights.Right("create", "pods/proxy") not in rights_of("look")


@pytest.mark.parametrize("name", ["", "Ranker", "a b", "a/b", "-a", "a'"])
def test_a_name_that_kubernetes_does_not_allow_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="is not a name that Kubernetes allows"):
        AccessRequest("ml", name, "look")


# -- the admission policy ----------------------------------------------------------------------------------------------


def policies(tier: Tier) -> dict[str, dict[str, Json]]:
    """The specs of the policies by the ends of their names."""
    found = manifests(request(tier, admission=True))
    kind = "ValidatingAdmissionPolicy"
    specs = [cast("dict[str, dict[str, Json]]", one) for one in found if one["kind"] == kind]
    return {str(one["metadata"]["name"]).rpartition("-")[2]: one["spec"] for one in specs}


def test_a_policy_is_about_the_account_alone_and_each_is_bound() -> None:
    for tier in TIERS:
        objects = manifests(request(tier, admission=True))
        specs = policies(tier)
        bindings = [one for one in objects if one["kind"] == "ValidatingAdmissionPolicyBinding"]
        assert len(bindings) == len(specs)
        for spec in specs.values():
            assert spec["failurePolicy"] == "Fail"
            assert spec["matchConditions"] == [
                {
                    "name": "account",
                    "expression": "request.userInfo.username == 'system:serviceaccount:ml:serve-chaos-ranker'",
                }
            ]


def test_each_tier_limits_what_it_gives() -> None:
    assert set(policies("look")) == {"proxy"}
    assert set(policies("break")) == {"proxy", "exec", "delete", "lease"}
    assert set(policies("drain")) == {"proxy", "exec", "delete", "lease", "evict", "nodes"}


def _pattern(spec: dict[str, Json]) -> str:
    (validation,) = cast("list[dict[str, str]]", spec["validations"])
    found = re.search(r"matches\('(.*)'\)", validation["expression"])
    assert found is not None
    return found[1].replace("\\\\", "\\")


@pytest.mark.parametrize(
    ("name", "matches"),
    [
        ("ranker-x7k2q-head-xyz24", True),
        ("ranker-x7k2q-small-worker-xyz24", True),
        ("ranker-raycluster-x7k2q-head-xyz24", True),
        ("redis-0", False),
        ("another-x7k2q-head-xyz24", False),
        ("my-ranker-x7k2q-head-xyz24", False),
        ("ranker-redis-0", False),
        ("ranker-proxy-59d4c6f5b-x7k2q", False),
        ("ranker-cache-0", False),
    ],
)
def test_a_pod_is_entered_if_it_is_named_as_the_rayservices_are(name: str, matches: bool) -> None:
    assert bool(re.search(_pattern(policies("break")["exec"]), name)) is matches


@pytest.mark.parametrize(
    ("owner", "matches"),
    [("ranker-x7k2q", True), ("ranker-two-x7k2q", False), ("ranker-x7k2qz", False), ("ranker", False)],
)
def test_a_pod_is_deleted_if_a_raycluster_of_the_rayservice_owns_it(owner: str, matches: bool) -> None:
    assert bool(re.search(_pattern(policies("break")["delete"]), owner)) is matches


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_prints_what_is_applied(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rbac", "ml/ranker", "--tier", "drain", "--node", "node-1", "--admission-policy"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# Apply this, and then: kubectl create token serve-chaos-ranker --namespace ml\n")
    assert list(yaml.safe_load_all(printed)) == manifests(request("drain", nodes=("node-1",), admission=True))


@pytest.mark.parametrize("given", ["ranker", "ml/", "/ranker", "ml/ranker/x"])
def test_the_command_says_how_a_rayservice_is_named(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rbac", given]) == 2
    assert "the RayService as NAMESPACE/NAME" in capsys.readouterr().err


def test_the_command_refuses_nodes_for_a_tier_that_drains_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rbac", "ml/ranker", "--tier", "break", "--node", "node-1"]) == 2
    assert "the tier break drains none" in capsys.readouterr().err


def test_the_command_takes_the_methods_that_a_run_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rbac", "ml/ranker", "--method", "post"]) == 0
    assert "pods/proxy" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["rbac", "ml/ranker", "--method", "FETCH"])
    assert "it must be one of GET, HEAD, POST" in capsys.readouterr().err


# -- the doctor --------------------------------------------------------------------------------------------------------


def lines(server: ApiServer, tier: Tier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the doctor says to somebody of that tier, by what it is about."""
    Role(server, rules(manifests(request(tier))))
    findings = list(KUBERNETES.doctor(settings(server, tmp_path, monkeypatch)))
    assert all(finding.ok or not finding.needed for finding in findings)
    return {finding.what: " ".join(finding.line.split()) for finding in findings}


def test_the_doctor_says_fault_by_fault_what_is_missing(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = lines(server, "look", tmp_path, monkeypatch)
    assert said["rights to look"].startswith("ok")
    assert said["lock on all machines"].startswith("missing")
    assert "kill: this user may not delete pods" in said["head_failure"]
    assert "To fix this: serve-chaos rbac ml/ranker --tier break" in said["head_failure"]
    assert "this user may not get pods/exec, create pods/exec" in said["controller_failure"]
    assert "To fix this: serve-chaos rbac ml/ranker --tier drain" in said["node_failure"]
    assert "never: " in said["redis_failure"]


def test_the_doctor_misses_only_nodes_in_the_second_tier(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = lines(server, "break", tmp_path, monkeypatch)
    assert [what for what, line in said.items() if line.startswith("missing")] == ["node_failure"]
    assert "drain: this user may not get nodes, patch nodes, create pods/eviction" in said["node_failure"]


def test_the_doctor_misses_nothing_in_the_third(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = lines(server, "drain", tmp_path, monkeypatch)
    assert not [what for what, line in said.items() if line.startswith("missing")]


def test_without_the_rights_to_look_nothing_is_ready(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Role(server, [])
    findings = {one.what: one for one in KUBERNETES.doctor(settings(server, tmp_path, monkeypatch))}
    assert (findings["rights to look"].ok, findings["rights to look"].needed) == (False, True)


def test_a_cluster_is_connected_to_with_the_first_tier(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = Role(server, rules(manifests(request("look"))))
    for rule in role.rules:
        rule["verbs"] = [verb for verb in rule["verbs"] if verb != "watch"]  # which would never end here
    external(settings(server, tmp_path, monkeypatch), tmp_path).close()
