"""The fault `proxy_failure`: one of Serve's proxies is killed or frozen."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_serve_chaos.cluster.policy import Touch
from pytest_serve_chaos.faults.actors import ON, SERVING_NEEDS, By, ServingTarget, break_serving, by, choose_component
from pytest_serve_chaos.faults.defaults import unless_frozen, with_profile
from pytest_serve_chaos.faults.injection import Injection
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.spec import FaultSpec, freeze_for, keyword
from pytest_serve_chaos.model import HEAD, Expectations

NAME = "proxy_failure"


@dataclass(frozen=True)
class ProxyKeywords:
    """What its marker can say."""

    on: str = keyword(ON, "workers")
    by: By = by()
    for_: float = freeze_for()


def target(rig: Rig, on: str | None) -> ServingTarget:
    """A proxy: ``chaos.proxy(on=...)``. Where only the head has one, that stands for those on workers."""
    if on == "workers" and rig.health.shape.proxies == {HEAD}:
        rig.progress("only the head has a proxy (proxy_location: HeadOnly), so that one is broken")
        on = HEAD
    return ServingTarget(rig, NAME, choose_component(rig, "proxy", on=on))


def _inject(rig: Rig, how: str, given: ProxyKeywords, must_land: bool) -> Injection:
    return break_serving(target(rig, given.on), how, by=given.by, for_=given.for_, must_land=must_land)


def _touch(how: str, given: ProxyKeywords) -> Touch:
    return Touch(actions=("run in pods",))


FAULT = FaultSpec(
    name=NAME,
    breaks="a proxy",
    verbs=("kill", "freeze"),
    keywords=ProxyKeywords,
    inject=_inject,
    expectations=Expectations(
        replaced=("proxy@victims",), kept=("head", "gcs", "controller", "replica", "proxy@others")
    ),
    adapt=unless_frozen(with_profile),
    needs=SERVING_NEEDS,
    external=_touch,
    loses=("proxy",),
    target="chaos.proxy(on)",
    effect="one proxy",
)
