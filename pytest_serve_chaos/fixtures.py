"""The fixtures: thin, for all that they do can be done from plain Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
    from pytest_serve_chaos.traffic.request_kind import RequestKind
    from pytest_serve_chaos.traffic.transports.base import Transport


class MakeTraffic(Protocol):
    """The value of the fixture `traffic`."""

    def __call__(
        self,
        rate: float | str | None = None,
        *,
        arrivals: Pattern | None = None,
        route: str | None = None,
        path: str | None = None,
        requests: Sequence[RequestKind] | None = None,
        app: str | Sequence[str] | None = None,
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
            route: Below the address of the cluster; everything goes there. None: see `path` and `app`.
            path: Of the requests, with the route of their app. None: as set for the run.
            requests: The kinds of requests. None: as set for the run.
            app: The name of the app that is asked, or several. None: all that have a route.
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
    from pytest_serve_chaos.load import Traffic, with_changes

    session = request.config.stash[SESSION]
    load, keep = session.load, session.results.keeper(request.node)

    def make(
        rate: float | str | None = None,
        *,
        arrivals: Pattern | None = None,
        route: str | None = None,
        path: str | None = None,
        requests: Sequence[RequestKind] | None = None,
        app: str | Sequence[str] | None = None,
        timeout: float | str | None = None,
        check: Callable[[Answer], bool] | None = None,
        transport: Transport | None = None,
        wait: bool = True,
    ) -> Traffic:
        said = {
            "rate": rate,
            "arrivals": arrivals,
            "path": path,
            "requests": requests,
            "app": app,
            "timeout": timeout,
            "check": check,
            "transport": transport,
        }
        changes: dict[str, object] = {name: value for name, value in said.items() if value is not None}
        if route is not None:
            base = (load.url or _serve_chaos_rig.cluster.url).rstrip("/")
            changes["url"] = f"{base}/{route.lstrip('/')}"
        wanted = with_changes(load, changes)
        return Traffic(_serve_chaos_rig, wanted, wait=wait, on_result=keep)

    return make


@pytest.fixture
def experiment(request: pytest.FixtureRequest, _serve_chaos_rig: Rig) -> Experiment:
    """The experiment that the test's fault marker names: ``experiment.run(...)`` or ``experiment.measure(...)``."""
    return request.config.stash[SESSION].experiment(request.node, _serve_chaos_rig)
