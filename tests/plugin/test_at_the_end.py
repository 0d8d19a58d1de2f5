"""Recovered means at the end too: what was there for a moment, or in another place, is no recovery."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

import pytest

from pytest_serve_chaos import clock, final_check, restore
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import KILLS_NODES, Offer
from pytest_serve_chaos.model import HEAD, Json
from pytest_serve_chaos.observe import post_recovery
from pytest_serve_chaos.testing import FakeBehaviour, FakeCluster, FakeNodes, Slot, World
from tests.plugin.conftest import RunChaos
from tests.plugin.test_verdicts import SHORT, failed_with, one

DIES_AFTER = 0.8


class CrashLoop(World):
    """What comes in place of a replica that was killed dies soon, for ever; the proxies know at once."""

    def __init__(self, spec: ClusterSpec, behaviour: FakeBehaviour) -> None:
        self.dies_at: dict[Slot, float] = {}
        self.crashing: set[Slot] = set()
        super().__init__(spec, behaviour)

    def kill(self, slots: list[Slot], *, new_controller: bool = False) -> None:
        """And so will what comes after it."""
        super().kill(slots, new_controller=new_controller)
        self.crashing |= {slot for slot in slots if slot.role == "replica"}
        for slot in slots:
            self.dies_at.pop(slot, None)

    def tick(self) -> None:
        """Kills what has lived long enough."""
        super().tick()
        with self.lock:
            for slot in self.crashing & self.parts.keys():
                if clock.now() >= self.dies_at.setdefault(slot, clock.now() + DIES_AFTER):
                    self.kill([slot])


class CrashLooping(FakeCluster):
    world_class = CrashLoop


def test_a_successor_that_dies_again_and_again_is_no_recovery(run_chaos: RunChaos) -> None:
    ran = run_chaos(one("replica_failure", 'availability=0.7, window="3s"'), cluster=CrashLooping)

    failed_with(ran, "replica sleepy_pid#SleepyPid on * died again and again: * times since redundancy was first back")


class Lopsided(World):
    """What a lost worker held starts on the other one, and stays there; a node without replicas has no proxy."""

    def __init__(self, spec: ClusterSpec, behaviour: FakeBehaviour) -> None:
        self.left = ""
        super().__init__(spec, behaviour)

    def kill_node(self, node: str) -> None:
        """And remembers it."""
        with self.lock:
            super().kill_node(node)
            self.left = self.left or node

    def slots(self) -> list[Slot]:
        """All that does not start there again."""
        found = super().slots()
        if not self.left:
            return found
        survivor = next(node for node in self.plan.node_names if node not in (HEAD, self.left))
        away = [s for s in found if s.role in ("replica", "proxy") and s.node == self.left]
        moved = [Slot("replica", survivor, s.deployment, 100 + s.number) for s in away if s.role == "replica"]
        return [s for s in found if s not in away] + moved


class LopsidedCluster(FakeCluster):
    world_class = Lopsided


def test_all_replicas_on_one_node_are_no_recovery_unless_that_is_allowed(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        f"""
        import pytest

        @pytest.mark.worker_failure
        def test_by_default(experiment):
            experiment.run({SHORT})

        @pytest.mark.worker_failure
        def test_if_allowed(experiment):
            result = experiment.run({SHORT}, spread=False)
            assert any("all 4 replicas are on worker-" in remark for remark in result.remarks)
        """,
        cluster=LopsidedCluster,
    )

    ran.outcomes(failed=1, passed=1)
    ran.result.stdout.fnmatch_lines(["*SleepyPid: all 4 replicas are on worker-*, before 2/2: *spread=False*"])


class LosesProxies(World):
    """Proxies that were lost for good have no place any more."""

    def __init__(self, spec: ClusterSpec, behaviour: FakeBehaviour) -> None:
        self.lost: tuple[Slot, ...] = ()
        super().__init__(spec, behaviour)

    def slots(self) -> list[Slot]:
        """Without them."""
        return [slot for slot in super().slots() if slot not in self.lost]

    def lose(self, *nodes: str) -> None:
        """Their proxies die for good."""
        with self.lock:
            self.lost = tuple(Slot("proxy", node) for node in nodes)
            self.kill([slot for slot in self.lost if slot in self.parts])


class UpdateKillsProxies(FakeCluster):
    """The first update of the Serve config costs some proxies their lives, and they never come back."""

    world_class = LosesProxies
    victims: ClassVar[tuple[str, ...]] = ("worker-1",)

    def apply_serve_config(self, config: Mapping[str, Json]) -> None:
        """Takes it, and loses them."""
        super().apply_serve_config(config)
        assert isinstance(self.world, LosesProxies)
        if self.world.plan.canaries() and not self.world.lost:
            self.world.lose(*self.victims)


class UpdateKillsAllProxies(UpdateKillsProxies):
    victims = (HEAD, "worker-1", "worker-2")


@pytest.mark.parametrize(
    ("cluster", "missing"),
    [(UpdateKillsProxies, "worker-1"), (UpdateKillsAllProxies, HEAD)],
    ids=["one of three", "all"],
)
def test_a_proxy_that_dies_of_the_check_for_good_fails(
    run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch, cluster: type[FakeCluster], missing: str
) -> None:
    monkeypatch.setattr(post_recovery, "HEARS_WITHIN", 0.5)
    ran = run_chaos(one("replica_failure", 'availability=0.1, window="1s", longest_outage=None'), cluster=cluster)

    failed_with(ran, f"*the post-recovery check was not passed: *no proxy on {missing}*")


class CostlyNodes(FakeNodes):
    """Who brings a node back loses the proxy of another one for good."""

    def restore_node(self, name: str) -> None:
        """Brings it back, at that price."""
        super().restore_node(name)
        assert isinstance(self.world, LosesProxies)
        self.world.lose("worker-2")


class HealingCosts(FakeCluster):
    world_class = LosesProxies

    def offers(self) -> tuple[Offer, ...]:
        return (*super().offers(), KILLS_NODES.by(CostlyNodes(self.world)))


def test_a_first_shape_that_cannot_be_restored_fails(run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore, "SHAPE_WITHIN", 0.5)
    ran = run_chaos(one("head_failure"), cluster=HealingCosts)

    failed_with(ran, "the first shape could not be restored: *proxy on worker-2*")


def test_a_replica_that_by_chance_got_no_request_yet_is_pointed_out(
    run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(final_check, "_LONGEST_LOOK", 0.5)
    ran = run_chaos(one("controller_failure"), behaviour=FakeBehaviour(forgets=True))

    ran.outcomes(passed=1)
    # On a busy machine more than one of them got none, and the note takes more than one line.
    text = " ".join(ran.text.split())
    assert re.search(r"note: replica sleepy_pid#SleepyPid on .* answered nothing in the .* may be chance", text), text
