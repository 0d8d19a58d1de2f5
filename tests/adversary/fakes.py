"""Worlds that are fake clusters: what is broken in them, how, and what is true of that."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.testing import QUICK, FakeBehaviour, FakeCluster, FakeProxies, Reply, Slot
from tests.adversary.worlds import Readable
from tests.plugin.test_at_the_end import CrashLoop, LosesProxies

Victim: TypeAlias = Literal["head", "worker", "controller", "replica"]
Aftermath: TypeAlias = Literal[
    "all is back", "replicas stay away", "replicas crash again and again", "a proxy stays away"
]

_MARKERS: dict[Victim, str] = {
    "head": "head_failure",
    "worker": "worker_failure",
    "controller": "controller_failure",
    "replica": "replica_failure",
}
_FOREVER = 60.0
_WINDOW = 2.0


@dataclass(frozen=True, repr=False)
class Broken(Readable):
    """A fake cluster that is broken.

    Attributes:
        victim: What is killed.
        by_hand: By a test that injects itself; else by an experiment.
        harmless: The fault does nothing.
        away: Seconds in which nobody gets a good answer after the fault.
        stalls: Whether those wait until then; else they are refused.
        aftermath: What becomes of the parts.
    """

    victim: Victim = "replica"
    by_hand: bool = False
    harmless: bool = False
    away: float = 0.0
    stalls: bool = False
    aftermath: Aftermath = "all is back"

    # -- the truth ----------------------------------------------------------------------------------------------

    @property
    def allowed(self) -> float:
        """Seconds that an outage may last: half of a true one, or more than a busy machine makes of none."""
        return self.away / 2 if self.away else 10.0

    @property
    def never_passed(self) -> bool:
        """Whether something was not tested, or is not as it has to be."""
        return self.harmless or self.away > 0 or (not self.by_hand and self.aftermath != "all is back")

    @property
    def never_failed(self) -> bool:
        """Whether nothing is wrong with the app."""
        return self.harmless or (not self.away and self.aftermath == "all is back")

    # -- the cluster and the test -------------------------------------------------------------------------------

    @property
    def behaviour(self) -> FakeBehaviour:
        """What fakes can do by themselves."""
        waits = replace(QUICK, signs_within=0.5 if self.harmless else QUICK.signs_within)
        if self.aftermath != "all is back":  # nobody waits for long for what does not come
            waits = replace(waits, whole_within=1.0)
        return FakeBehaviour(harmless=self.harmless, keeps_holes=self.aftermath == "replicas stay away", waits=waits)

    @property
    def cluster(self) -> type[FakeCluster]:
        """A class of clusters that do all of this."""
        plan = self

        class World(_World):
            broken = plan

        class Cluster(FakeCluster):
            world_class = World
            proxies_class = _Proxies

        return Cluster

    @property
    def source(self) -> str:
        """The file of the test."""
        demands = f'availability=0.1, longest_outage="{self.allowed}s", window="{_WINDOW}s"'
        if not self.by_hand:
            # Who is waited for in vain is not waited for long.
            back = _FOREVER if self.aftermath == "all is back" else 1.5
            return f"""
                import pytest

                @pytest.mark.{_MARKERS[self.victim]}
                def test_it(experiment):
                    experiment.run({demands}, persistent_availability=None, traffic_back="{_FOREVER}s",
                                   redundancy_back="{back}s", spread=False)
            """
        verb = {"head": "head", "worker": 'node("worker-1")', "controller": "controller", "replica": "replica()"}
        return f"""
            import time

            def test_it(chaos, traffic):
                with traffic() as requests:
                    chaos.{verb[self.victim]}.kill()
                    time.sleep({max(_WINDOW, self.away) + 1})
                requests.assert_available({demands.replace("availability=", "", 1)})
        """


class _World(CrashLoop, LosesProxies):
    """What lives in it."""

    broken = Broken()

    def __init__(self, spec: ClusterSpec, behaviour: FakeBehaviour) -> None:
        self.away_until = 0.0
        super().__init__(spec, behaviour)

    def kill(self, slots: list[Slot], *, new_controller: bool = False) -> None:
        """The first time, the rest of the plan begins too."""
        first = not self.away_until
        self.away_until = self.away_until or clock.now() + self.broken.away
        super().kill(slots, new_controller=new_controller)
        if self.broken.aftermath != "replicas crash again and again":
            self.crashing.clear()
        if first and self.broken.aftermath == "a proxy stays away":
            self.lose("worker-2")

    @property
    def left(self) -> float:
        """Seconds for which it is still away."""
        return max(0.0, self.away_until - clock.now())


class _Proxies(FakeProxies):
    """Whose clients wait, or are refused, as long as the world is away."""

    @property
    def _plan(self) -> _World:
        assert isinstance(self.world, _World)
        return self.world

    def wait(self, path: str) -> float:
        return self._plan.left if self._plan.broken.stalls and not path.startswith("/-/") else 0.0

    def serve(self, pid: int, path: str) -> Reply:
        if self._plan.left and not self._plan.broken.stalls:
            return Reply(503, "unavailable")
        return super().serve(pid, path)


def drawn(number: int, seed: int) -> Iterator[Broken]:
    """So many clusters, each broken in another way as far as there are that many."""
    chance = random.Random(seed)
    every: list[Broken] = []
    for victim in _MARKERS:
        for by_hand in (False, True):
            every.append(Broken(victim, by_hand))
            every.append(Broken(victim, by_hand, harmless=True))
            every.append(Broken(victim, by_hand, away=2.5))
            every.append(Broken(victim, by_hand, away=2.5, stalls=True))
        every.append(Broken(victim, aftermath="a proxy stays away"))
    every += [Broken(aftermath="replicas stay away"), Broken("worker", aftermath="replicas stay away")]
    every.append(Broken(aftermath="replicas crash again and again"))
    chance.shuffle(every)
    yield from every[:number]
