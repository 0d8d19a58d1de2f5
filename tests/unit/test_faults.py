"""What a fault says of itself is checked, and what is not known is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, cast

import pytest

from pytest_serve_chaos.analysis.configuration import Configuration, Setup, check
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.kubernetes.external.policy import Grants, Terms
from pytest_serve_chaos.cluster.policy import Action, Touch
from pytest_serve_chaos.cluster.total_loss import with_a_way_out
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.faults.injection import Injection
from pytest_serve_chaos.faults.nodes import NodeDown
from pytest_serve_chaos.faults.registry import FaultRegistry
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.spec import FaultSpec, NoKeywords, keyword
from pytest_serve_chaos.kinds import Integer
from pytest_serve_chaos.model import ClusterDescription, ConfigWarning, Expectations
from tests.unit.histories import cluster, component

ANYTHING_GOES = Terms(ClusterSpec(), Grants(allow=("node",)), lambda: {"app#App": 2}, lambda: True)


def inject(rig: Rig, how: str, given: object, must_land: bool) -> Injection:
    raise NotImplementedError


def fault(name: str = "network_failure", **changes: object) -> FaultSpec[object]:
    said = {"breaks": "it", "verbs": ("drop",), "keywords": NoKeywords, "inject": inject} | changes
    return FaultSpec(name=name, expectations=Expectations(), **said)  # type: ignore[arg-type]


# -- what a test asks for --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [{"hwo": "stop"}, {"how": "kill", "which": "worker-1"}])
def test_keywords_that_a_fault_does_not_know_are_refused(given: Mapping[str, object]) -> None:
    with pytest.raises(SettingsError, match=r"has no keyword '(hwo|which)'"):
        BUILT_IN.choose("head_failure", given)


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(SettingsError, match="there is no fault 'network_failure'") as refusal:
        BUILT_IN.choose("network_failure")
    assert "head_failure, worker_failure" in str(refusal.value)


def test_what_a_marker_does_not_say_is_in_the_keywords_and_not_in_what_was_said() -> None:
    chosen = BUILT_IN.choose("proxy_failure", {"by": "ray"})
    assert chosen.options == {"how": "kill", "by": "ray"}
    assert chosen.keywords == BUILT_IN["proxy_failure"].keywords(on="workers", by="ray", for_=20.0)  # type: ignore[call-arg]


# -- what a fault may say --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bare:
    count: int = 2


@dataclass(frozen=True)
class SaysHow:
    how: int = keyword(Integer(1), 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "network failure"}, "cannot be the name of a fault"),
        ({"verbs": ()}, "has no verb"),
        ({"keywords": int}, "are not a dataclass"),
        ({"keywords": Bare}, "count of Bare cannot be a keyword"),
        ({"keywords": SaysHow}, "how of SaysHow cannot be a keyword"),
    ],
)
def test_a_fault_that_cannot_be_used_says_why_at_once(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        fault(**changes)  # type: ignore[arg-type]


def test_two_faults_with_one_name_are_refused() -> None:
    with pytest.raises(SettingsError, match="two faults with the name head_failure"):
        BUILT_IN.with_those_of_plugins([fault("head_failure")])


def test_a_plugin_that_gives_something_else_is_refused() -> None:
    with pytest.raises(SettingsError, match="gave 'head', which is not a FaultSpec"):
        BUILT_IN.with_those_of_plugins(["head"])


# -- external clusters -----------------------------------------------------------------------------------------------


def test_a_fault_that_does_not_say_what_it_touches_is_refused_on_an_external_cluster() -> None:
    reason = ANYTHING_GOES.why_not(fault().choose({}).touch(), ())
    assert reason == "network_failure does not say what it does to an external cluster, so it is refused"


@pytest.mark.parametrize("actions", [(), ("delete nodes",), ("delete pods", "pull plugs")])
def test_what_the_policy_does_not_know_is_refused(actions: tuple[str, ...]) -> None:
    touch = Touch(actions=cast("tuple[Action, ...]", actions))
    assert "it is unknown what this fault does" in ANYTHING_GOES.why_not(touch, ())
    assert "it is unknown what this fault does" in ANYTHING_GOES.forbidden(touch)


def test_what_the_policy_knows_is_allowed_where_nothing_is_against_it() -> None:
    assert ANYTHING_GOES.why_not(Touch(actions=("delete pods", "run in pods", "drain nodes")), ()) == ""


def test_each_fault_of_ours_says_what_it_does_to_an_external_cluster() -> None:
    assert [spec.name for spec in BUILT_IN if spec.external is None] == []


def test_what_a_fault_always_takes_away_counts_whatever_it_says_of_one_choice() -> None:
    only = Terms(ClusterSpec(), Grants(), lambda: {"app#App": 1}, lambda: True)
    spec = fault(loses=("replica",), external=lambda how, given: Touch(actions=("run in pods",)))
    assert only.why_not(spec.choose({}).touch(), ()) == with_a_way_out(
        "app#App has one replica, so losing it leaves none"
    )


# -- configuration ---------------------------------------------------------------------------------------------------


def test_a_fault_is_warned_about_what_it_takes_away_and_about_what_it_says_itself() -> None:
    def slow_network(configuration: Configuration) -> list[ConfigWarning]:
        return [ConfigWarning("slow_network", f"{configuration.description.backend} is slow", "it takes longer", "")]

    faults = FaultRegistry((fault("rack_failure", loses=("head",)), fault("network_failure", warnings=slow_network)))
    description = ClusterDescription("kind", "2.60.0", 2, "none", "app", "fast", 4, "http://127.0.0.1:1/")
    found = check(Configuration(description, Setup(), cluster(), {}), faults)
    assert [(warning.code, warning.faults) for warning in found] == [
        ("no_fault_tolerance", ("rack_failure",)),
        ("slow_network", ("network_failure",)),
    ]


# -- what is printed of it -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("machine", "how", "text"),
    [
        (None, "kill", "SIGKILL to all processes of worker-1"),
        (None, "stop", "SIGTERM, then SIGKILL after the grace period, to all processes of worker-1"),
        ("kind-worker2", "kill", "forced deletion of the pod of worker-1"),
        ("kind-worker2", "stop", "deletion of the pod of worker-1"),
    ],
)
def test_a_node_in_a_pod_gets_no_sigkill_from_us(machine: str | None, how: Literal["kill", "stop"], text: str) -> None:
    """The kubelet asks its processes to end first, even if the pod is deleted by force."""
    node = replace(component("worker", "worker-1"), machine=machine)
    replica = component("replica", "worker-1")
    assert NodeDown(cast("Rig", None), "worker_failure", "worker-1", how, False, (node, replica)).text == text
