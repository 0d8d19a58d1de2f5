"""The fault `redis_failure`: the Redis under the GCS is killed, stopped or frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import seconds
from pytest_serve_chaos.cluster.capabilities import HAS_REDIS, SIGNALS_PROCESSES
from pytest_serve_chaos.cluster.policy import Touch
from pytest_serve_chaos.cluster.storage import no_redis
from pytest_serve_chaos.errors import NoSuchTarget, ObservationError, Unsupported
from pytest_serve_chaos.faults import signs
from pytest_serve_chaos.faults.actors import ActorFrozen
from pytest_serve_chaos.faults.defaults import FREEZE_FOR, freeze_seconds, unless_away
from pytest_serve_chaos.faults.fault import Strike
from pytest_serve_chaos.faults.injection import Injection
from pytest_serve_chaos.faults.nodes import for_so_long, hold_seconds
from pytest_serve_chaos.faults.reconnect import inject_without_gcs
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.spec import FaultSpec, Need, away_for, hold
from pytest_serve_chaos.model import NO_DEMANDS, Component, Evidence
from pytest_serve_chaos.prediction import node_rules

NAME = "redis_failure"


@dataclass
class RedisDown:
    """Redis is taken down; without its store the GCS exits."""

    rig: Rig
    how: Literal["kill", "stop"]
    hold: bool
    victims: tuple[Component, ...]
    lasts: float | None = None
    kind: str = NAME
    serves: bool = False
    sick: tuple[Component, ...] = ()
    sign_within: float = 60.0

    @property
    def options(self) -> Mapping[str, object]:
        """How it goes down, whether it stays down, and for how long."""
        return {"how": self.how, "hold": self.hold, **({} if self.lasts is None else {"for_": self.lasts})}

    @property
    def text(self) -> str:
        """A description of the fault, for people."""
        held = f", which stays down{for_so_long(self.lasts)}" if self.hold else ""
        return f"{'SIGKILL' if self.how == 'kill' else 'SIGTERM'} to Redis{held}"

    def strike(self) -> Strike:
        """Takes it down."""
        cluster = self.rig.capability(HAS_REDIS, "break Redis")
        asked = clock.now()
        evidence: Sequence[Evidence] = cluster.kill_redis(how=self.how, hold=self.hold)
        return Strike(asked, evidence)

    def sign(self, struck: float) -> Evidence | None:
        """The GCS does not answer, or the head has a new one: it exits without its store."""
        now = self.rig.watcher.topology.of("gcs")
        if now and all(c.identity not in {v.identity for v in self.victims} for c in now):
            return Evidence(clock.now(), "cluster", "the head has a new GCS")
        return signs.gcs_is_silent(self.rig)

    def heal(self) -> None:
        """Lets it come back."""
        self.rig.capability(HAS_REDIS, "bring Redis back").restore_redis()


@dataclass
class RedisFrozen(ActorFrozen):
    """Redis is stopped for a while."""

    def sign(self, struck: float) -> Evidence | None:
        """It does not answer."""
        try:
            self.rig.capability(HAS_REDIS, "ask Redis").redis_keys()
        except ObservationError as error:
            return Evidence(clock.now(), "cluster", str(error))
        return None


@dataclass(frozen=True)
class RedisTarget:
    """Redis: ``chaos.redis``."""

    rig: Rig

    def kill(self, *, hold: bool = False, for_: float | str | None = None, must_land: bool = True) -> Injection:
        """SIGKILL.

        Args:
            hold: Whether it stays down until it is healed.
            for_: With `hold`: seconds after which it may come back by itself.
            must_land: Whether it is an error if nothing shows that it went down.

        Raises:
            NotLanded: Nothing shows that it went down, and it must (`must_land`).
            SettingsError: There is a `for_` without `hold`.
        """
        return self._down("kill", hold, for_, must_land)

    def stop(self, *, hold: bool = False, for_: float | str | None = None, must_land: bool = True) -> Injection:
        """SIGTERM. Arguments: those of `kill`.

        Raises:
            NotLanded: Nothing shows that it went down, and it must (`must_land`).
            SettingsError: There is a `for_` without `hold`.
        """
        return self._down("stop", hold, for_, must_land)

    def freeze(self, for_: float | str = FREEZE_FOR, *, must_land: bool = True) -> Injection:
        """SIGSTOP for so many seconds.

        Raises:
            NotLanded: Nothing shows that it stands still, and it must (`must_land`).
            NoSuchTarget: There is no Redis.
            Unsupported: It cannot be asked, so that its silence would show nothing.
        """
        topology = self.rig.watcher.sample()
        if not topology.of("redis"):
            gcs = self.rig.cluster.spec.gcs
            raise NoSuchTarget("Redis is not running") if gcs == "redis" else no_redis(gcs)
        hold_for = seconds(for_, name="for_")
        self._check_that_it_answers()
        fault = RedisFrozen(self.rig, NAME, topology.of("redis")[0], lasts=hold_for)
        return Injection(self.rig, fault, hold_for=hold_for, must_land=must_land)

    def _check_that_it_answers(self) -> None:
        """Makes sure that its silence will mean something: a client that is refused hears nothing before the fault."""
        try:
            self.rig.capability(HAS_REDIS, "ask Redis").redis_keys()
        except ObservationError as error:
            raise Unsupported(
                "Redis does not answer the plugin, so that a freeze could not be seen",
                checked=[str(error)],
                fix=["see whether user, password and certificates are those that the RayService has"],
            ) from error

    def _down(self, how: Literal["kill", "stop"], hold: bool, for_: float | str | None, must_land: bool) -> Injection:
        lasts = hold_seconds(for_, hold=hold)
        topology = self.rig.watcher.sample()
        victims = (*topology.of("redis"), *topology.of("gcs"))
        fault = RedisDown(self.rig, how, hold, victims, lasts)
        return inject_without_gcs(self.rig, fault, lasts, must_land=must_land)


# -- the fault ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RedisKeywords:
    """What its marker can say."""

    hold: bool = hold()
    for_: float | None = away_for()


def _inject(rig: Rig, how: str, given: RedisKeywords, must_land: bool) -> Injection:
    redis = RedisTarget(rig)
    if how == "freeze":
        return redis.freeze(freeze_seconds(given.for_), must_land=must_land)
    return (redis.kill if how == "kill" else redis.stop)(hold=given.hold, for_=given.for_, must_land=must_land)


def _touch(how: str, given: RedisKeywords) -> Touch:
    return Touch(refused="Redis does not belong to the RayService, so it is left alone")


FAULT = FaultSpec(
    name=NAME,
    breaks="the Redis under the GCS",
    verbs=("kill", "stop", "freeze"),
    keywords=RedisKeywords,
    inject=_inject,
    expectations=NO_DEMANDS,
    adapt=unless_away(lambda expected, _: expected),
    needs=(
        Need((HAS_REDIS,), "break Redis"),
        Need((SIGNALS_PROCESSES,), "send signals to processes", verbs=("freeze",)),
    ),
    external=_touch,
    loses=("redis",),
    target="chaos.redis",
    gcs=("redis",),
    effect="the store of the GCS",
    dry_run=True,
    predict=node_rules.redis,
)
