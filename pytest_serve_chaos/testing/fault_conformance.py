"""The tests that every fault must pass, for authors of faults to inherit."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar
from unittest import mock

import pytest

from pytest_serve_chaos.analysis.demands import with_demands
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import AnyCapability
from pytest_serve_chaos.cluster.dry_run import DryRunCluster
from pytest_serve_chaos.cluster.policy import Touch
from pytest_serve_chaos.cluster.waits import HAS_OWN_WAITS
from pytest_serve_chaos.errors import Unsupported
from pytest_serve_chaos.fault_plan import plan_of
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.spec import FaultChoice, FaultSpec, Keyword
from pytest_serve_chaos.load import Load, Traffic
from pytest_serve_chaos.model import Component, Evidence, Expectations, Json
from pytest_serve_chaos.testing.behaviour import FakeBehaviour
from pytest_serve_chaos.testing.cluster import FakeCluster
from pytest_serve_chaos.testing.experiments import FAKE_LOAD, fake_experiment, fake_rig
from pytest_serve_chaos.testing.whole import still_wrong

_LOSSY_FOR = 2.0
_DEMANDED = 0.9


class _Interrupted(Exception):
    """The error in the middle of a fault."""


@dataclass(frozen=True)
class _Trial:
    """What became of one injection on a fake cluster that is well.

    Attributes:
        landed: Whether it landed.
        evidence: The signs that were seen.
        kind: The name that the injected fault gives itself.
        options: What its marker would say, by itself.
        left: What was still broken after it was healed.
        error: The error that ended it; None if there was none.
    """

    landed: bool = False
    evidence: tuple[Evidence, ...] = ()
    kind: str = ""
    options: Mapping[str, object] | None = None
    left: tuple[str, ...] = ()
    error: Exception | None = None


class FaultConformance:
    """The tests that every fault must pass, on a fake cluster.

    A subclass whose name begins with ``Test`` names the fault, and pytest runs the tests for each of its verbs::

        class TestReplicasPause(FaultConformance):
            fault = FAULT
            keywords = {"for_": "3s"}

    Attributes:
        fault: The fault.
        keywords: What its marker says, each keyword with the verbs that it goes with. A fault that ends by itself
            should end after a few seconds.
        cluster: A class of fake clusters on which the fault works. For a fault that needs a capability of its own it is
            a subclass of `FakeCluster` that offers it, and that calls `World.strike` when something is broken.
        spec: Which cluster the fault needs.
        load: The traffic.
        heals_within: Seconds in which the cluster must be whole again after the fault was healed.
    """

    fault: ClassVar[FaultSpec[object]]
    keywords: ClassVar[Mapping[str, object]] = {}
    cluster: ClassVar[type[FakeCluster]] = FakeCluster
    spec: ClassVar[ClusterSpec] = ClusterSpec()
    load: ClassVar[Load] = FAKE_LOAD
    heals_within: ClassVar[float] = 20.0

    _trials: ClassVar[dict[str, _Trial]]

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        cls._trials = {}

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Runs each test that takes `how` for each verb of the fault."""
        if "how" in metafunc.fixturenames:
            metafunc.parametrize("how", self.fault.verbs)

    # -- what the fault says of itself --------------------------------------------------------------------------

    def test_it_is_documented(self) -> None:
        """Its line of documentation reads well after "the test breaks"."""
        breaks = self.fault.breaks
        assert breaks.strip(), "FaultSpec.breaks is empty: say what the test breaks"
        assert "\n" not in breaks, "FaultSpec.breaks must be one line"
        assert not breaks.endswith("."), "FaultSpec.breaks must not end with a period: the marker's text adds one"

    def test_its_keywords_take_their_defaults(self) -> None:
        """The default of each keyword can be written into the marker, with each verb that it goes with."""
        for option in self.fault.options:
            assert option.verbs, f"{option.name} goes with none of the verbs {', '.join(self.fault.verbs)}"
            assert option.default is None or _valid(option, option.default), (
                f"{option.name}={option.default!r} is the default, and not {option.kind.must}"
            )

    def test_its_default_expectations_are_valid(self, how: str) -> None:
        """What a test demands that says nothing else could also be demanded by the test itself."""
        for profile in ("fast", "guide"):
            expected = self._choice(how).expectations(replace(self.spec, profile=profile))
            said = {name: value for name, value in asdict(expected).items() if name != "send_lag_limit"}
            assert with_demands(Expectations(), said) == replace(expected, send_lag_limit=None)

    def test_it_says_what_it_does_to_an_external_cluster(self, how: str) -> None:
        """It is refused there, or says what it does."""
        touch = self._choice(how).touch()
        assert isinstance(touch, Touch)
        assert touch.refused or touch.actions, (
            "FaultSpec.external returned a Touch without actions, so an external cluster cannot judge it: name them, or"
            " say why it is refused"
        )

    # -- what it does -------------------------------------------------------------------------------------------

    def test_it_declares_what_it_needs(self, how: str) -> None:
        """It works on a cluster that has the capabilities in `FaultSpec.needs`, and no others."""
        error = self._trial(how).error
        assert not isinstance(error, Unsupported), (
            f"the cluster has all that FaultSpec.needs names, and the fault wants more: {error}"
        )

    def test_a_cluster_that_cannot_be_broken_so_is_refused(self, how: str) -> None:
        """Without a capability that it needs nothing is changed, and the reason names what cannot be done."""
        choice = self._choice(how)
        needs = [need for need in self.fault.needs if need.applies(how, choice.keywords)]
        if not needs:
            pytest.skip("it needs no capability")
        for need in needs:
            assert need.action.strip(), "Need.action is empty: say what the backend cannot do"
            with self._rig(hidden=need.capabilities) as rig:
                with pytest.raises(Unsupported) as refused:
                    choice.inject(rig)
                assert need.action in str(refused.value)
                assert not _struck(rig), "the cluster was broken before the fault was refused"

    def test_it_lands_with_two_signs(self, how: str) -> None:
        """Two independent signs show that it landed: one of the victim's, and one of the cluster's."""
        trial = self._completed(how)
        sides = {sign.side for sign in trial.evidence}
        assert trial.landed, f"it did not land; signs of it: {[sign.text for sign in trial.evidence] or 'none'}"
        assert sides == {"victim", "cluster"}, f"all signs are of one side: {sides}"

    def test_its_options_are_those_of_its_marker(self, how: str) -> None:
        """`Fault.kind` and `Fault.options` say what the marker said, by which an external cluster judges the fault."""
        trial = self._completed(how)
        assert trial.kind == self.fault.name, "Fault.kind is not the name of the FaultSpec"
        assert self.fault.choose(trial.options or {}).how == how, f"Fault.options names another verb: {trial.options}"

    def test_it_heals_what_it_broke(self, how: str) -> None:
        """When it was healed, twice, the cluster is whole again."""
        left = self._completed(how).left
        assert not left, f"after the fault was healed: {'; '.join(left)}"

    def test_an_error_in_the_middle_is_healed(self, how: str) -> None:
        """An error after the fault has struck, and before it has landed, leaves nothing broken."""
        with self._rig() as rig:
            with suppress(_Interrupted), _interrupting(rig):
                self._choice(how).inject(rig)
                raise _Interrupted
            rig.heal_all()
            left = self.left_broken(rig)
        assert not left, f"after an error in the middle: {'; '.join(left)}"

    def test_a_dry_run_shows_it_and_changes_nothing(self, how: str) -> None:
        """A dry run shows its victims and its first change, and the cluster is as it was."""
        if not self.fault.dry_run:
            pytest.skip("FaultSpec.dry_run is not set, so a dry run does not call it")
        before = _Before()
        with fake_rig(self.fault, cluster=self.cluster, spec=self.spec, seen_as=before.withhold) as rig:
            plan = plan_of(rig, self._choice(how))
            world, config = before.cluster.world, before.cluster.serve_config
        assert not plan.refused, f"it has all that FaultSpec.needs names, and is refused: {plan.refused}"
        assert plan.victims, "Fault.victims is empty, so a dry run cannot show what it would hit"
        assert plan.steps, "it has changed nothing by a capability of the cluster, so FaultSpec.dry_run must not be set"
        assert world.struck is None, "the dry run has broken the cluster"
        assert config == before.config, "the dry run has changed the Serve config"

    # -- the verdict --------------------------------------------------------------------------------------------

    def test_a_fault_that_does_nothing_is_inconclusive(self, how: str) -> None:
        """On a cluster to which faults do nothing the verdict is inconclusive."""
        result = self._measured(how, FakeBehaviour(harmless=True))
        assert result == "inconclusive", (
            f"the fault did nothing, and the verdict is {result}: its signs do not look at the victim"
        )

    def test_a_cluster_that_loses_requests_fails(self, how: str) -> None:
        """On a cluster that loses every second request for two seconds after the fault the verdict is failed."""
        if not self._completed(how).landed:
            pytest.skip("it did not land")
        result = self._measured(how, FakeBehaviour(lossy_for=_LOSSY_FOR))
        assert result == "failed", f"every second request was lost after the fault, and the verdict is {result}"

    # -- what a subclass may extend -----------------------------------------------------------------------------

    def left_broken(self, rig: Rig) -> list[str]:
        """What is still broken after the fault was healed, in words; empty if nothing is.

        A fault that breaks more than nodes, processes and the Serve config extends this.

        Args:
            rig: The cluster and what is around it.
        """
        missing = still_wrong(rig, rig.health.missing, within=self.heals_within, interval=0.1)
        if missing:
            return [missing]
        if rig.cluster.serve_config != rig.serve_config:
            return ["the Serve config is another one"]
        return []

    # -- how ----------------------------------------------------------------------------------------------------

    def _choice(self, how: str) -> FaultChoice:
        options = {option.name: option for option in self.fault.options}
        given = {name: value for name, value in self.keywords.items() if self._goes(options.get(name), how)}
        return self.fault.choose({"how": how, **given})

    def _goes(self, option: Keyword | None, how: str) -> bool:
        """Whether a marker takes a keyword with that verb; one that is unknown is left for the fault to refuse."""
        if option is None:
            return True
        needed = option.only_with.get(how)
        return how in option.verbs and (needed is None or self.keywords.get(needed) is True)

    @contextmanager
    def _rig(self, hidden: tuple[AnyCapability, ...] = (), behaviour: FakeBehaviour | None = None) -> Iterator[Rig]:
        behaviour = replace(behaviour or FakeBehaviour(), lacks=hidden)
        with fake_rig(self.fault, behaviour=behaviour, cluster=self.cluster, spec=self.spec) as rig:
            yield rig

    def _trial(self, how: str) -> _Trial:
        """What became of it on a cluster that is well; it is tried once."""
        if how not in self._trials:
            self._trials[how] = self._try(how)
        return self._trials[how]

    def _completed(self, how: str) -> _Trial:
        trial = self._trial(how)
        if isinstance(trial.error, Unsupported):
            pytest.skip(f"the cluster cannot do it: {trial.error}")
        if trial.error is not None:
            raise trial.error
        return trial

    def _try(self, how: str) -> _Trial:
        choice = self._choice(how)
        needed = {key for need in self.fault.needs if need.applies(how, choice.keywords) for key in need.capabilities}
        with self._rig() as rig:
            assert isinstance(rig.cluster, FakeCluster)
            offered = {offer.key for offer in rig.cluster.offers()}
            rig.cluster.hidden |= offered - needed - {HAS_OWN_WAITS}
            try:
                with Traffic(rig, self.load):
                    injection = choice.inject(rig)
                    injection.close()
                injection.fault.heal()
            except Exception as error:
                return _Trial(error=error)
            left = tuple(self.left_broken(rig))
            fault = injection.fault
            return _Trial(injection.landed, injection.evidence, fault.kind, fault.options, left)

    def _measured(self, how: str, behaviour: FakeBehaviour) -> str:
        """The outcome of an experiment that demands a share of good answers."""
        choice = self._choice(how)
        with fake_experiment(
            self.fault, choice.options, behaviour=behaviour, cluster=self.cluster, spec=self.spec, load=self.load
        ) as experiment:
            result = experiment.measure(availability=_DEMANDED, window=_LOSSY_FOR)
        print(*result.reasons, sep="\n")
        return result.outcome


class _Before:
    """A fake cluster in a dry run, and what it was before."""

    cluster: FakeCluster
    config: Mapping[str, Json]

    def withhold(self, cluster: FakeCluster) -> DryRunCluster:
        self.cluster, self.config = cluster, cluster.serve_config
        return DryRunCluster(cluster)


def _valid(option: Keyword, value: object) -> bool:
    try:
        option.kind.take(value, Path())
    except ValueError:
        return False
    return True


def _struck(rig: Rig) -> bool:
    assert isinstance(rig.cluster, FakeCluster)
    return rig.cluster.world.struck is not None


@contextmanager
def _interrupting(rig: Rig) -> Iterator[None]:
    """Once the cluster is broken, the next look of this thread at it raises."""
    cluster = rig.cluster
    assert isinstance(cluster, FakeCluster)
    here, components = threading.current_thread(), cluster.components

    def interrupted() -> tuple[Component, ...]:
        if threading.current_thread() is here and cluster.world.struck is not None:
            raise _Interrupted
        return components()

    with mock.patch.object(cluster, "components", interrupted):
        yield
