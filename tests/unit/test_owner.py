"""The owner of an external RayService goes on with it: what is noticed, and what stays the plugin's to break."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest

from pytest_serve_chaos.cluster.capabilities import IS_EXTERNAL
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.records import mapped
from pytest_serve_chaos.cluster.kubernetes.external.owner import OwnerWatch, Pinned
from pytest_serve_chaos.cluster.kubernetes.external.start import OwnPods
from pytest_serve_chaos.errors import ObservationError
from pytest_serve_chaos.model import Json
from tests.capabilities import part
from tests.unit.external_services import WithFlags, external, owned_by, owned_pod, ray_service


def with_metadata(**changes: Json) -> dict[str, Json]:
    item = ray_service()
    return {**item, "metadata": {**mapped(item["metadata"]), **changes}}


def with_status(**statuses: Json) -> dict[str, Json]:
    item = ray_service()
    return {**item, "status": {**mapped(item["status"]), **statuses}}


AGAIN = with_metadata(uid="another")
UPGRADING = with_status(pendingServiceStatus={"rayClusterName": "ranker-fghij"})
UPGRADED = with_status(activeServiceStatus={"rayClusterName": "ranker-fghij"})


class Api:
    """An API server with one RayService; None: it was deleted."""

    def __init__(self, item: dict[str, Json] | None, *pods: dict[str, Json]) -> None:
        self.item = item
        self.pods = list(pods)

    def ray_service(self, name: str) -> dict[str, Json]:
        assert name == "ranker"
        if self.item is None:
            raise ObservationError("RayService ranker: status 404: not found") from NotFound()
        return self.item

    def raw_pods(self, selector: str) -> Sequence[dict[str, Json]]:
        wanted = selector.removeprefix("ray.io/cluster=")
        return [pod for pod in self.pods if wanted == _label(pod)]


def _label(pod: dict[str, Json]) -> Json:
    return mapped(mapped(pod["metadata"]).get("labels")).get("ray.io/cluster", "ranker-abcde")


class NotFound(Exception):
    """What the client raises."""

    status = 404


# -- what its owner does -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "change"),
    [
        (ray_service(), ""),
        (None, "RayService ranker was deleted"),
        (AGAIN, "RayService ranker was deleted and created again"),
        (with_metadata(deletionTimestamp="2026-12-01T14:00:00Z"), "RayService ranker is being deleted"),
        (UPGRADING, "RayService ranker is being upgraded to RayCluster ranker-fghij"),
        (UPGRADED, "RayCluster ranker-fghij serves for RayService ranker now, and no longer ranker-abcde"),
        (
            with_status(activeServiceStatus={}),
            "no RayCluster serves for RayService ranker now, and no longer ranker-abcde",
        ),
        (with_metadata(generation=2), "the spec of RayService ranker was edited (generation 1 to 2)"),
        (with_metadata(annotations={"note": "looked at"}, resourceVersion="7"), ""),
    ],
)
def test_what_its_owner_does_is_noticed(now: dict[str, Json] | None, change: str) -> None:
    watch = OwnerWatch(cast("KubeApi", Api(now)), Pinned.of(ray_service()))
    assert watch.change() == change


def test_an_api_server_that_is_away_does_not_say_that_nothing_was_done() -> None:
    class Away(Api):
        def ray_service(self, name: str) -> dict[str, Json]:
            raise ObservationError("RayService ranker: status 503: away")

    with pytest.raises(ObservationError, match="503"):
        OwnerWatch(cast("KubeApi", Away(None)), Pinned.of(ray_service())).change()


def test_an_external_cluster_says_what_its_owner_did() -> None:
    class Upgraded(WithFlags):
        def ray_service(self, name: str) -> dict[str, Json]:
            return UPGRADED

    assert "ranker-fghij serves" in part(external(api=Upgraded()), IS_EXTERNAL).owner_change()


# -- whose pods are whose ----------------------------------------------------------------------------------------------


def labelled(name: str, ray_cluster: str) -> dict[str, Json]:
    item = owned_pod(name, ray_cluster)
    return {**item, "metadata": {**mapped(item["metadata"]), "labels": {"ray.io/cluster": ray_cluster}}}


@pytest.mark.parametrize("now", [AGAIN, UPGRADED, UPGRADING])
def test_nothing_new_that_its_owner_makes_is_the_plugins_to_break(now: dict[str, Json]) -> None:
    api = Api(ray_service(), owned_pod("head"))
    own = OwnPods(cast("KubeApi", api), "ranker")
    assert own.owns("head")
    api.item = now
    api.pods = [labelled("new-head", "ranker-fghij"), *([owned_pod("same-name")] if now is AGAIN else [])]
    assert not own.owns("new-head")
    assert not own.owns("same-name")
    assert own.owns("head")


@pytest.mark.parametrize(
    "owner",
    [
        owned_by("ranker-abcde", uid="of another RayCluster of that name"),
        owned_by("ranker-abcde", apiVersion="example.com/v1"),
        owned_by("ranker-abcde", kind="Job"),
        owned_by("ranker-abcde", controller=False),
        owned_by("another"),
    ],
    ids=["uid", "group", "kind", "not its controller", "name"],
)
def test_a_pod_of_another_owner_is_left_alone_whatever_its_labels_say(owner: dict[str, Json]) -> None:
    stranger: dict[str, Json] = {"metadata": {"name": "stranger", "ownerReferences": [owner]}, "spec": {}}
    api = Api(ray_service(), owned_pod("head"))
    own = OwnPods(cast("KubeApi", api), "ranker")
    assert own.owns("head")
    api.pods.append(stranger)
    assert not own.owns("stranger")


def test_where_two_owners_have_that_name_neither_is_taken_for_it() -> None:
    stranger: dict[str, Json] = {
        "metadata": {"name": "stranger", "ownerReferences": [owned_by("ranker-abcde", uid="another")]},
        "spec": {},
    }
    own = OwnPods(cast("KubeApi", Api(ray_service(), owned_pod("head"), stranger)), "ranker")
    assert not own.owns("stranger")
    assert not own.owns("head")
