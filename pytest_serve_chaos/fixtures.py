"""The fixtures: thin, for all that they do can be done from plain Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from pytest_serve_chaos.experiment import Experiment
    from pytest_serve_chaos.faults.chaos import Chaos
    from pytest_serve_chaos.faults.rig import Rig
    from pytest_serve_chaos.handle import ServeCluster
    from pytest_serve_chaos.load import Traffic
    from pytest_serve_chaos.schedule import Pattern
    from pytest_serve_chaos.session.chaos_session import ChaosSession
    from pytest_serve_chaos.traffic.request import Answer
    from pytest_serve_chaos.traffic.transports.base import Transport


class MakeTraffic(Protocol):
    """The value of the fixture `traffic`."""

    def __call__(
        self,
        rate: float | str | None = None,
        *,
        arrivals: Pattern | None = None,
        route: str | None = None,
        timeout: float | str | None = None,
        check: Callable[[Answer], bool] | None = None,
        transport: Transport | None = None,
        wait: bool = True,
    ) -> Traffic:
        """Traffic as a context manager; entering waits for steady state.

        Args:
            rate: Requests per second on fresh connections, or stages, ``"20/s for 30s, 100/s for 30s"``, which begin
                in steady state; None: as set for the run.
            arrivals: ``constant`` or ``poisson``; None: as set for the run.
            route: Below the address of the cluster; None: that of its first app.
            timeout: Until a request without an answer is lost.
            check: Whether an answer is right.
            transport: How requests are sent; None: by HTTP.
            wait: Whether to wait for steady state.
        """
        ...


SESSION: pytest.StashKey[ChaosSession] = pytest.StashKey()

OFF = "needs --serve-chaos: it brings up a Ray Serve cluster and breaks it"


def wants_cluster(item: pytest.Item) -> bool:
    """Whether a test uses our fixtures; one of somebody else's that happens to be called `traffic` is not ours."""
    return "_serve_chaos_rig" in getattr(item, "fixturenames", ())


@pytest.fixture
def _serve_chaos_rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    session = request.config.stash.get(SESSION, None)
    if session is None:  # asked for by `getfixturevalue`, which nobody sees before
        pytest.skip(OFF)
    yield from session.lending.lend(request.node)


@pytest.fixture
def serve_cluster(_serve_chaos_rig: Rig) -> ServeCluster:
    """The cluster under test, in steady shape, as the test's marker `serve_cluster` wants it."""
    from pytest_serve_chaos.handle import ServeCluster

    return ServeCluster(_serve_chaos_rig)


@pytest.fixture
def chaos(_serve_chaos_rig: Rig) -> Chaos:
    """What can be broken in the cluster; all that was broken is healed when the test ends."""
    from pytest_serve_chaos.faults.chaos import Chaos

    return Chaos(_serve_chaos_rig)


@pytest.fixture
def traffic(request: pytest.FixtureRequest, _serve_chaos_rig: Rig) -> MakeTraffic:
    """Makes open-loop traffic on the cluster: a context manager that begins in steady state."""
    from pytest_serve_chaos.clock import seconds
    from pytest_serve_chaos.load import Traffic

    session = request.config.stash[SESSION]
    load, keep = session.load, session.results.keeper(request.node)

    def make(
        rate: float | str | None = None,
        *,
        arrivals: Pattern | None = None,
        route: str | None = None,
        timeout: float | str | None = None,
        check: Callable[[Answer], bool] | None = None,
        transport: Transport | None = None,
        wait: bool = True,
    ) -> Traffic:
        wanted = replace(load, rate=load.rate if rate is None else rate, check=check or load.check)
        wanted = replace(wanted, transport=transport or load.transport, arrivals=arrivals or load.arrivals)
        if timeout is not None:
            wanted = replace(wanted, timeout=seconds(timeout, name="timeout"))
        if route is not None:
            base = (load.url or _serve_chaos_rig.cluster.url).rstrip("/")
            wanted = replace(wanted, url=f"{base}/{route.lstrip('/')}")
        return Traffic(_serve_chaos_rig, wanted, wait=wait, on_result=keep)

    return make


@pytest.fixture
def experiment(request: pytest.FixtureRequest, _serve_chaos_rig: Rig) -> Experiment:
    """The experiment that the test's fault marker names: ``experiment.run(...)`` or ``experiment.measure(...)``."""
    return request.config.stash[SESSION].experiment(request.node, _serve_chaos_rig)
