"""The fault `proxy_failure`: one of Serve's proxies is killed or frozen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from pytest_serve_chaos.cluster.capabilities import SHOWS_HAPROXY
from pytest_serve_chaos.cluster.policy import Touch
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.faults.actors import (
    ON,
    SERVING_NEEDS,
    By,
    Part,
    ServingTarget,
    break_serving,
    by,
    choose_component,
)
from pytest_serve_chaos.faults.defaults import unless_frozen, with_profile
from pytest_serve_chaos.faults.injection import Injection
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.spec import FaultSpec, Need, freeze_for, keyword
from pytest_serve_chaos.kinds import Choice
from pytest_serve_chaos.model import HEAD, Expectations
from pytest_serve_chaos.prediction import serve_rules

NAME = "proxy_failure"
HAS_PARTS = "tell HAProxy from its manager"
PART = Choice(*get_args(Part))


@dataclass(frozen=True)
class ProxyKeywords:
    """What its marker can say."""

    on: str = keyword(ON, "workers")
    by: By = by()
    for_: float = freeze_for()
    part: Part | None = keyword(PART, None)

    def __post_init__(self) -> None:
        if self.by == "ray" and self.part == "haproxy":
            raise SettingsError(
                "part='haproxy' does not go with by='ray': HAProxy is not an actor: ray.kill would kill its manager",
                fix=["leave by='ray' out", "or say part='manager'"],
            )


def target(rig: Rig, on: str | None, part: Part | None = None) -> ServingTarget:
    """A proxy: ``chaos.proxy(on=..., part=...)``. Where only the head has one, that stands for those on workers.

    Raises:
        Unsupported: A part is named, and no HAProxy takes the requests.
    """
    if part is not None:
        rig.require((SHOWS_HAPROXY,), HAS_PARTS)
    if on == "workers" and rig.health.shape.proxies == {HEAD}:
        rig.progress("only the head has a proxy (proxy_location: HeadOnly), so that one is broken")
        on = HEAD
    return ServingTarget(rig, NAME, choose_component(rig, "proxy", on=on), part)


def _inject(rig: Rig, how: str, given: ProxyKeywords, must_land: bool) -> Injection:
    chosen = target(rig, given.on, given.part)
    return break_serving(chosen, how, by=given.by, for_=given.for_, must_land=must_land)


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
    needs=(
        *SERVING_NEEDS,
        *(Need((SHOWS_HAPROXY,), HAS_PARTS, only={"part": part}) for part in get_args(Part)),
    ),
    external=_touch,
    loses=("proxy",),
    target="chaos.proxy(on, part)",
    effect="one proxy",
    dry_run=True,
    predict=serve_rules.proxy,
)
