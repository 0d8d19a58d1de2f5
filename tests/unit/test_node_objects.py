"""What a Kubernetes node that was deleted has again when it is back."""

from __future__ import annotations

from typing import cast

from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.node_objects import register, registration
from pytest_serve_chaos.model import Json
from tests.unit.rayservices import KubeCalls

NODE: dict[str, Json] = {
    "metadata": {"name": "kind-worker", "uid": "1", "labels": {"role": "ray"}, "annotations": {"cri": "socket"}},
    "spec": {"podCIDR": "10.244.2.0/24", "podCIDRs": ["10.244.2.0/24"], "providerID": "kind://1", "taints": []},
    "status": {"conditions": []},
}


class Api(KubeCalls):
    """Nodes that can be read and made."""

    def __init__(self, *nodes: dict[str, Json]) -> None:
        self.there = list(nodes)

    def call(self, method: str, *arguments: object, what: str, **options: object) -> dict[str, Json]:
        if method == "list_node":
            return {"items": [*self.there]}
        if method == "read_node":
            return self.there[0]
        assert method == "create_node"
        self.there.append(cast("dict[str, Json]", arguments[0]))
        return {}


def kube(api: Api) -> KubeApi:
    """It stands for the API."""
    return cast("KubeApi", api)


def test_a_node_that_is_registered_again_has_the_addresses_of_its_pods_and_its_labels() -> None:
    before, after = Api(NODE), Api()

    register(kube(after), registration(kube(before), "kind-worker"))

    (made,) = after.there
    assert made["metadata"] == {"name": "kind-worker", "labels": {"role": "ray"}, "annotations": {"cri": "socket"}}
    assert made["spec"] == {"podCIDR": "10.244.2.0/24", "podCIDRs": ["10.244.2.0/24"], "providerID": "kind://1"}


def test_a_node_that_has_registered_by_itself_stays_as_it_is() -> None:
    api = Api(NODE)

    register(kube(api), registration(kube(api), "kind-worker"))

    assert api.there == [NODE]
