"""One run at a time tests an external RayService, whichever machine it is on."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
from kubernetes.config import kube_config

from pytest_serve_chaos import clock
from pytest_serve_chaos.backends.kubernetes import KUBERNETES
from pytest_serve_chaos.backends.kubernetes_lock import hold_for_undo
from pytest_serve_chaos.cluster.capabilities import IS_EXTERNAL
from pytest_serve_chaos.cluster.kubernetes.client import lease as module
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.lease import RunLease, lease_name
from pytest_serve_chaos.cluster.kubernetes.client.lease_holder import Holder, this_process
from pytest_serve_chaos.cluster.kubernetes.client.server_identity import FirstServer
from pytest_serve_chaos.errors import ClusterError, Locked
from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.settings import Settings
from tests.capabilities import part
from tests.unit.api_server import ApiServer, Asked, api_server
from tests.unit.external_services import ray_service
from tests.unit.test_external_start import external, server, settings

__all__ = ["server"]  # the fixture

LEASES = "/apis/coordination.k8s.io/v1/namespaces/ml/leases"
LEASE = f"{LEASES}/serve-chaos-ranker"
RAY_SERVICE = "/apis/ray.io/v1/namespaces/ml/rayservices/ranker"
ELSEWHERE = Holder("ann@laptop", 4711, 99, "0123456789abcdef")


class Leases:
    """Keeps leases as an API server does: a change names the version that it is made to.

    Attributes:
        refuses: The status with which all requests about them are refused; 0: none.
    """

    def __init__(self, server: ApiServer) -> None:
        self.refuses = 0
        self._server = server
        self._others = server.answer
        self._version = 0
        server.answer = self.answer  # type: ignore[method-assign]

    @property
    def spec(self) -> dict[str, Json]:
        return cast("dict[str, dict[str, Json]]", self._server.objects[LEASE])["spec"]

    @property
    def is_there(self) -> bool:
        return LEASE in self._server.objects

    def put(self, holder: Holder | str, *, renewed: str = "") -> None:
        """Has somebody else hold it."""
        spec: Json = {
            "holderIdentity": str(holder),
            "renewTime": renewed or module._now().isoformat(),
            "leaseDurationSeconds": 60,
        }
        self._store({"metadata": {"name": lease_name("ranker")}, "spec": spec})

    def delete(self) -> None:
        del self._server.objects[LEASE]

    def answer(self, asked: Asked) -> tuple[int, Json]:
        if not asked.path.startswith(LEASES):
            return self._others(asked)
        if self.refuses:
            return self.refuses, {"kind": "Status", "message": "refused"}
        body = cast("dict[str, dict[str, Json]]", asked.body)
        if asked.method == "GET":
            return self._others(asked)
        if asked.method == "POST":
            return (409, {}) if self.is_there else (201, self._store(body))
        if not self.is_there:
            return 404, {}
        there = cast("dict[str, dict[str, Json]]", self._server.objects[LEASE])["metadata"]
        named = body["preconditions"] if asked.method == "DELETE" else body["metadata"]
        if named["resourceVersion"] != there["resourceVersion"]:
            return 409, {"kind": "Status", "message": "the object has been modified"}
        if asked.method == "PUT":
            return 200, self._store(body)
        self.delete()
        return 200, {}

    def _store(self, lease: Mapping[str, Json]) -> Json:
        self._version += 1
        metadata: Json = {
            **cast("dict[str, Json]", lease["metadata"]),
            "resourceVersion": str(self._version),
            "uid": "u",
        }
        self._server.objects[LEASE] = {**lease, "metadata": metadata}
        return self._server.objects[LEASE]


@pytest.fixture
def leases(server: ApiServer) -> Leases:
    return Leases(server)


@pytest.fixture
def given(server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    return settings(server, tmp_path, monkeypatch)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RENEWED_EVERY", 0.01)


def until(what: str, holds: Callable[[], object]) -> None:
    clock.wait_until(what, lambda: holds() or clock.NotYet("not yet"), timeout=5.0, interval=0.01)


# -- while a run goes on ----------------------------------------------------------------------------------------------


def test_a_run_holds_the_lease_and_gives_it_back(given: Settings, leases: Leases) -> None:
    with KUBERNETES.locked(given):
        assert leases.spec["holderIdentity"] == str(this_process())
        assert leases.spec["leaseDurationSeconds"] == module.DURATION
        given.lease.check()
    assert not leases.is_there


def test_a_run_on_another_machine_keeps_this_one_away(given: Settings, leases: Leases) -> None:
    leases.put(ELSEWHERE)
    with pytest.raises(Locked, match="another run is testing RayService ml/ranker: ann@laptop") as refusal:
        KUBERNETES.locked(given).__enter__()
    assert "kubectl delete lease serve-chaos-ranker" in refusal.value.fix[1]
    assert leases.spec["holderIdentity"] == str(ELSEWHERE)


@pytest.mark.usefixtures("leases")
def test_another_run_on_this_machine_is_kept_away_by_the_lock_whatever_it_calls_the_cluster(
    given: Settings, server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with KUBERNETES.locked(given):
        other = settings(server, tmp_path, monkeypatch, context="kind-other")
        with pytest.raises(Locked, match="another run is using the cluster kind-other/ml/ranker"):
            KUBERNETES.locked(other).__enter__()


@pytest.mark.usefixtures("quick")
def test_the_lease_is_renewed(given: Settings, leases: Leases) -> None:
    with KUBERNETES.locked(given):
        first = leases.spec["renewTime"]
        until("a renewal", lambda: leases.spec["renewTime"] != first)
        given.lease.check()


def renewed(ago: float) -> str:
    return (module._now() - timedelta(seconds=ago)).isoformat()


def test_a_lease_that_nobody_renews_ends_with_a_margin_for_other_clocks(given: Settings, leases: Leases) -> None:
    leases.put(ELSEWHERE, renewed=renewed(module.DURATION + module._MARGIN - 5))
    with pytest.raises(Locked):
        KUBERNETES.locked(given).__enter__()
    leases.put(ELSEWHERE, renewed=renewed(module.DURATION + module._MARGIN + 5))
    with KUBERNETES.locked(given):
        assert leases.spec["holderIdentity"] == str(this_process())
        assert leases.spec["leaseTransitions"] == 1


@pytest.mark.parametrize("when", ["", "yesterday", "9999-99-99T00:00:00Z"])
def test_a_lease_whose_end_nobody_can_tell_is_not_taken(given: Settings, leases: Leases, when: str) -> None:
    leases.put("somebody")
    leases.spec["renewTime"] = when
    with pytest.raises(Locked, match="somebody"):
        KUBERNETES.locked(given).__enter__()


def test_what_a_killed_run_of_this_machine_held_is_free_at_once(given: Settings, leases: Leases) -> None:
    text = "from pytest_serve_chaos.cluster.kubernetes.client.lease_holder import this_process; print(this_process())"
    said = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True).stdout.strip()
    leases.put(said)
    with KUBERNETES.locked(given):
        assert leases.spec["holderIdentity"] == str(this_process())


def test_a_process_knows_itself_and_no_other() -> None:
    holder = this_process()
    assert Holder.parse(str(holder)) == holder
    assert (holder.is_this_process, holder.is_over) == (True, False)
    again = replace(holder, start=holder.start + 1)  # another one had the PID
    assert (again.is_this_process, again.is_over) == (False, True)
    assert (ELSEWHERE.is_this_process, ELSEWHERE.is_over) == (False, False)
    assert Holder.parse("kube-scheduler_abc") is None


def test_a_process_of_another_user_that_proc_hides_may_live(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where /proc is mounted with `hidepid=2`."""

    def refuses(pid: int, number: int) -> None:
        raise PermissionError(pid, number)

    hidden = replace(this_process(), pid=2**22)  # there is no such file
    assert hidden.is_over
    monkeypatch.setattr(os, "kill", refuses)
    assert not hidden.is_over


def test_what_is_left_of_a_process_is_not_a_process() -> None:
    with subprocess.Popen(["true"]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        assert replace(this_process(), pid=ended.pid).is_over


# -- a lease that is lost ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_a_run_that_has_lost_its_lease_breaks_nothing_more(
    given: Settings, leases: Leases, server: ApiServer, tmp_path: Path
) -> None:
    server.lacking.discard("get pods/exec")
    with KUBERNETES.locked(given):
        cluster = external(given, tmp_path)
        head_failure = BUILT_IN.choose("head_failure", {"how": "stop"}).touch()
        part(cluster, IS_EXTERNAL).admit(head_failure, ())
        leases.put(ELSEWHERE)
        until("the loss", lambda: given.lease._lost)
        with pytest.raises(Locked, match=r"lost its lease on the RayService, so it breaks nothing more: .*ann@laptop"):
            part(cluster, IS_EXTERNAL).admit(head_failure, ())
        cluster.close()
    assert leases.spec["holderIdentity"] == str(ELSEWHERE), "what is another's is not given back"


@pytest.mark.usefixtures("quick")
def test_an_api_server_that_is_away_costs_the_lease_only_when_that_has_ended(
    given: Settings, leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    with KUBERNETES.locked(given):
        leases.refuses = 500
        until("a failure", lambda: given.lease._trouble)
        given.lease.check()
        running = module._running
        monkeypatch.setattr(module, "_running", lambda: running() + module.DURATION + 1)
        with pytest.raises(Locked, match="lost its lease"):
            given.lease.check()
        leases.refuses = 0
        until("a renewal", lambda: not given.lease._trouble)
        given.lease.check()


@pytest.mark.usefixtures("quick")
def test_a_lease_that_somebody_deleted_is_taken_again(given: Settings, leases: Leases) -> None:
    with KUBERNETES.locked(given):
        leases.delete()
        until("the lease", lambda: leases.is_there)
        given.lease.check()


def test_a_lease_that_cannot_be_given_back_stops_nothing(given: Settings, leases: Leases) -> None:
    with KUBERNETES.locked(given):
        leases.refuses = 500
    leases.refuses = 0
    assert leases.is_there, "it ends by itself"


def test_two_that_take_it_at_once_do_not_both_have_it(server: ApiServer, leases: Leases, tmp_path: Path) -> None:
    kubeconfig = server.kubeconfig(tmp_path)
    won: list[str] = []

    def take(name: str) -> None:
        api = KubeApi(kubeconfig, namespace="ml")
        client = module._Client(api, "ranker")
        client._holder = str(replace(ELSEWHERE, who=name))
        try:
            client.take()
            won.append(name)
        except Locked:
            pass
        api.close()

    threads = [threading.Thread(target=take, args=(f"run-{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


# -- without the right to it -------------------------------------------------------------------------------------------


def test_without_the_right_to_leases_the_lock_of_this_machine_has_to_do_and_that_is_said(
    given: Settings, leases: Leases, tmp_path: Path
) -> None:
    leases.refuses = 403
    said: list[str] = []
    with KUBERNETES.locked(given):
        given.lease.check()
        external(given, tmp_path, said.append).close()
        with pytest.raises(Locked, match="another run is using the cluster"):
            KUBERNETES.locked(given).__enter__()
    assert any("no run on another machine is kept away" in line for line in said)


def test_an_api_server_that_fails_is_not_taken_for_a_lack_of_rights(given: Settings, leases: Leases) -> None:
    leases.refuses = 500
    with pytest.raises(ClusterError):
        KUBERNETES.locked(given).__enter__()


# -- undo --------------------------------------------------------------------------------------------------------------


@contextmanager
def undoing(server: ApiServer, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    first = FirstServer()
    kubeconfig = server.kubeconfig(directory)
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig))
    reader = KubeApi(None, context="kind-test", namespace="ml", first=first)
    try:
        with hold_for_undo(reader, "kind-test", "ranker", first):
            yield
    finally:
        reader.close()


def test_undo_takes_the_lease_and_keeps_away_from_a_run_that_goes_on(
    given: Settings, leases: Leases, server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del given
    with undoing(server, tmp_path, monkeypatch):
        assert leases.spec["holderIdentity"] == str(this_process())
    leases.put(ELSEWHERE)
    with pytest.raises(Locked, match="ann@laptop"), undoing(server, tmp_path, monkeypatch):
        pytest.fail("it must not begin")


def test_a_run_undoes_what_earlier_ones_left_under_its_own_lease(
    given: Settings, leases: Leases, server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with KUBERNETES.locked(given):
        with undoing(server, tmp_path, monkeypatch):
            pass
        assert leases.is_there


def test_a_rayservice_that_is_gone_is_tested_by_nobody(
    given: Settings, leases: Leases, server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del given
    del server.objects[RAY_SERVICE]
    with undoing(server, tmp_path, monkeypatch):
        assert not leases.is_there


def test_another_rayservice_of_that_name_has_another_lock(
    given: Settings, server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with KUBERNETES.locked(given), api_server() as there:
        there.objects = {RAY_SERVICE: ray_service()}
        other = settings(there, tmp_path, monkeypatch)
        with KUBERNETES.locked(other):
            assert server.address != there.address


def test_a_lease_that_was_not_asked_for_is_not_missed() -> None:
    RunLease().check()
