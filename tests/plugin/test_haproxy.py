"""Experiments where HAProxy takes the requests, on a cluster that is sound, and on some that are not."""

from __future__ import annotations

import signal
from typing import cast

import pytest

from pytest_serve_chaos.observe import haproxy_check
from pytest_serve_chaos.testing import FakeBehaviour
from tests.plugin.conftest import SOON_GIVEN_UP, RunChaos
from tests.plugin.haproxy_cluster import (
    HAProxyCluster,
    LingeringHAProxy,
    Reloading,
    StaleHAProxy,
    WithoutHAProxy,
)
from tests.plugin.test_verdicts import failed_with, inconclusive_with, one


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(haproxy_check, "HEARS_WITHIN", 1.0)
    monkeypatch.setattr(haproxy_check, "ENDS_WITHIN", 0.5)


def signals_of(run: object) -> list[tuple[str, int]]:
    return cast("HAProxyCluster", run).haproxy.signals


@pytest.mark.parametrize(
    ("part", "hit"), [("", "haproxy"), ('part="haproxy"', "haproxy"), ('part="manager"', "manager")]
)
def test_a_kill_hits_the_part_that_is_named(run_chaos: RunChaos, part: str, hit: str) -> None:
    ran = run_chaos(one(f"proxy_failure({part})"), cluster=HAProxyCluster)

    ran.outcomes(passed=1)
    (cluster,) = ran.backend.clusters
    assert (hit, signal.SIGKILL) in signals_of(cluster)
    what = "HAProxy" if hit == "haproxy" else "manager"
    ran.result.stdout.fnmatch_lines([f"*inject: SIGKILL to the {what} of the proxy on worker-*"])
    assert "HAProxy; app" in ran.text


def test_a_reload_is_not_the_loss_of_a_proxy(run_chaos: RunChaos) -> None:
    run_chaos(one("replica_failure"), cluster=Reloading).outcomes(passed=1)


def test_a_kill_without_effect_is_inconclusive(run_chaos: RunChaos) -> None:
    harmless = FakeBehaviour(harmless=True, waits=SOON_GIVEN_UP.waits)
    ran = run_chaos(one("proxy_failure"), behaviour=harmless, cluster=HAProxyCluster)

    inconclusive_with(ran, "the fault did not land*")


def test_a_manager_that_stands_still_without_effect_is_inconclusive(run_chaos: RunChaos) -> None:
    harmless = FakeBehaviour(harmless=True, waits=SOON_GIVEN_UP.waits)
    marker = 'proxy_failure(how="freeze", part="manager", for_="1s")'
    inconclusive_with(run_chaos(one(marker), behaviour=harmless, cluster=HAProxyCluster), "the fault did not land*")


def test_a_stale_list_of_servers_fails(run_chaos: RunChaos) -> None:
    failed_with(
        run_chaos(one("replica_failure"), cluster=StaleHAProxy),
        "*the servers of HAProxy are stale: HAProxy on worker-2 (PID *) sends requests to *, which Serve does not run*",
    )


def test_a_haproxy_that_was_replaced_and_lives_on_fails(run_chaos: RunChaos) -> None:
    failed_with(
        run_chaos(one("replica_failure"), cluster=LingeringHAProxy),
        "*a HAProxy that was replaced lives on: HAProxy on head (PID 77) should have stopped (hard-stop-after is 0 s)*",
    )


def test_without_haproxy_a_part_of_a_proxy_is_skipped_with_the_reason(run_chaos: RunChaos) -> None:
    ran = run_chaos(one('proxy_failure(part="manager")'), "-rs")

    ran.outcomes(skipped=1)
    assert "cannot tell HAProxy from its manager" in ran.text


def test_ray_kill_of_haproxy_is_refused_before_there_is_a_cluster(run_chaos: RunChaos) -> None:
    ran = run_chaos(one('proxy_failure(by="ray", part="haproxy")'))

    ran.result.stderr.fnmatch_lines(["*HAProxy is not an actor*"])
    assert ran.backend.clusters == []


def test_a_ray_that_does_not_know_haproxy_is_an_error_at_the_start(run_chaos: RunChaos) -> None:
    ran = run_chaos(one("proxy_failure"), cluster=WithoutHAProxy)

    ran.outcomes(errors=1)
    assert "HAProxy was asked for, and Serve runs its own proxies" in ran.text
