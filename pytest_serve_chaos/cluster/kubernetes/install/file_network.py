"""What the NetworkPolicies of a file must let in on kind: the node ports, and KubeRay's operator.

The network of kind enforces them since kind 0.24. In production traffic comes from an ingress, and the operator from a
namespace, that kind does not have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.records import inner, listed, mapped, name_of, text
from pytest_serve_chaos.cluster.kubernetes.install.file_pods import Say
from pytest_serve_chaos.cluster.kubernetes.install.file_rules import SERVE_PORT
from pytest_serve_chaos.manifests import Manifest
from pytest_serve_chaos.model import Json

_DASHBOARD_PORT = 8265
_GIVEN_LATER = ("ray.io/", "app.kubernetes.io/")
"""How the labels begin that KubeRay gives to Ray's pods, with values that are not known before."""


def with_ways_in(policy: Manifest, ray_service: Mapping[str, Json], say: Say) -> Manifest:
    """A NetworkPolicy that lets in what the plugin and KubeRay's operator need, if it may be about Ray's pods.

    Args:
        policy: The policy, as the file has it.
        ray_service: The file's RayService.
        say: Called with a sentence about the change.
    """
    spec = mapped(policy.get("spec"))
    types, rules = spec.get("policyTypes"), listed(spec.get("ingress"))
    limits_ingress = not types or (isinstance(types, list) and "Ingress" in types)
    about_ray = any(_may_select(mapped(spec.get("podSelector")), labels) for labels in _labels(ray_service))
    if not (limits_ingress and about_ray) or any(not rule.get("from") and not rule.get("ports") for rule in rules):
        return policy
    say(
        f"NetworkPolicy {name_of(policy)} also lets everybody in at the ports {SERVE_PORT} and {_DASHBOARD_PORT}:"
        " traffic comes through a node port, and KubeRay's operator may be in another namespace than in production"
    )
    ports: list[Json] = [{"port": port, "protocol": "TCP"} for port in (SERVE_PORT, _DASHBOARD_PORT)]
    return {**policy, "spec": {**spec, "ingress": [*rules, {"ports": ports}]}}


def _labels(ray_service: Mapping[str, Json]) -> Iterable[dict[str, str]]:
    """The labels of the pods of each group, as far as they are known before they are made."""
    cluster = inner(ray_service, "spec", "rayClusterConfig")
    for group in (mapped(cluster.get("headGroupSpec")), *listed(cluster.get("workerGroupSpecs"))):
        own = inner(group, "template", "metadata", "labels")
        yield {**{key: str(value) for key, value in own.items()}, names.PART: "ray", names.MANAGED_BY: names.PROJECT}


def _may_select(selector: Mapping[str, Json], labels: Mapping[str, str]) -> bool:
    """Whether a selector may be about a pod that has these labels, and some of KubeRay."""
    wanted = {key: [str(value)] for key, value in mapped(selector.get("matchLabels")).items()}
    expressions = listed(selector.get("matchExpressions"))
    return all(_may_be(labels, key, "In", values) for key, values in wanted.items()) and all(
        _may_be(labels, text(one, "key"), text(one, "operator"), _words(one.get("values"))) for one in expressions
    )


def _may_be(labels: Mapping[str, str], key: str, operator: str, values: Sequence[str]) -> bool:
    if key.startswith(_GIVEN_LATER):
        return True
    holds = {"In": labels.get(key) in values, "Exists": key in labels}
    opposite = {"NotIn": "In", "DoesNotExist": "Exists"}
    return not holds[opposite[operator]] if operator in opposite else holds.get(operator, True)


def _words(values: Json) -> list[str]:
    return [str(value) for value in values] if isinstance(values, list) else []
