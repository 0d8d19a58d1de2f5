"""The namespace of KubeRay's operator reaches the backend `kubernetes`, here past an API server that speaks HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest
from kubernetes.config import kube_config

from pytest_serve_chaos.backends.kubernetes import KUBERNETES
from pytest_serve_chaos.cluster.base import ClusterSpec, Progress
from pytest_serve_chaos.settings import Settings
from pytest_serve_chaos.testing import FakeCluster
from tests.unit.api_server import ApiServer
from tests.unit.test_external_start import server

__all__ = ["server"]  # the fixture

NAMESPACE = "kuberay-system"
LOST = "serve-chaos: kubernetes: the log of KubeRay's operator will not be kept: this user may not get pods/log in"
GIVEN = (
    "--serve-chaos",
    "--serve-chaos-backend=kubernetes",
    "--serve-chaos-context=kind-test",
    "--serve-chaos-rayservice=ml/ranker",
    "--serve-chaos-url=http://127.0.0.1:9/rank",
)


class Connecting:
    """A plugin that connects to the cluster that is asked for, leaves it, and goes on with a fake, which has pods."""

    def pytest_serve_chaos_start_cluster(
        self, spec: ClusterSpec, settings: Settings, directory: Path, progress: Progress
    ) -> FakeCluster:
        KUBERNETES.start(spec, settings, directory, progress).close()
        return FakeCluster(spec)


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess(*GIVEN, *arguments, plugins=[Connecting()])


@pytest.fixture(autouse=True)
def kubeconfig(server: ApiServer, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pytest is given leads to the server, where this user may not read the operator's log."""
    server.lacking.add(f"get pods/log in {NAMESPACE}")
    file = server.kubeconfig(pytester.path)
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(file))
    pytester.makepyfile("def test_it(serve_cluster): print(serve_cluster.spec)")


def test_it_is_asked_for_there_and_what_is_missing_is_said(pytester: pytest.Pytester) -> None:
    ran = run(pytester, f"--serve-chaos-operator-namespace={NAMESPACE}")
    ran.assert_outcomes(passed=1)
    ran.stdout.fnmatch_lines([f"{LOST} namespace {NAMESPACE}"])


def test_it_may_stand_in_the_configuration(pytester: pytest.Pytester) -> None:
    pytester.makeini(f"[pytest]\nserve_chaos_operator_namespace = {NAMESPACE}")
    run(pytester).stdout.fnmatch_lines([f"{LOST} namespace {NAMESPACE}"])


def test_without_it_nothing_is_said_of_the_operator(pytester: pytest.Pytester) -> None:
    ran = run(pytester)
    ran.assert_outcomes(passed=1)
    ran.stdout.no_fnmatch_line("*KubeRay's operator*")


def test_a_wrong_value_says_what_is_right(pytester: pytest.Pytester) -> None:
    ran = run(pytester, "--serve-chaos-operator-namespace=Kube_Ray")
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    ran.stderr.fnmatch_lines(["*--serve-chaos-operator-namespace 'Kube_Ray'*must be the name of a namespace*"])
