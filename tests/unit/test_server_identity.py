"""All that a run sends goes to the API server that it looked at first."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from kubernetes.config import kube_config

from pytest_serve_chaos import clock
from pytest_serve_chaos.backends.kubernetes import KUBERNETES
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import IS_EXTERNAL
from pytest_serve_chaos.cluster.kubernetes.client import access
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.server_identity import (
    NO_CA,
    SYSTEM_CA,
    FirstServer,
    ServerIdentity,
)
from pytest_serve_chaos.errors import CommandFailed, SafetyError
from pytest_serve_chaos.faults.catalogue import BUILT_IN
from tests.capabilities import part
from tests.unit.api_server import ApiServer, api_server
from tests.unit.test_external_start import external, server, settings

__all__ = ["server"]  # the fixture


def pem(*bodies: bytes) -> bytes:
    """Certificates, as far as a hash of them is concerned."""
    return b"".join(
        b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(body) + b"-----END CERTIFICATE-----\n" for body in bodies
    )


@pytest.mark.parametrize(
    "url",
    [
        "https://K8S.example.com",
        "https://k8s.example.com:443/",
        "HTTPS://k8s.example.com.",
        " https://k8s.example.com ",
    ],
)
def test_a_server_has_one_identity_however_its_url_is_spelled(url: str) -> None:
    assert ServerIdentity.of(url, None) == ServerIdentity("https://k8s.example.com:443", SYSTEM_CA)


@pytest.mark.parametrize(
    "url",
    [
        "https://k8s.example.com:6443",
        "http://k8s.example.com",
        "https://k8s.example.org",
        "https://k8s.example.com/k8s/clusters/c-7",
    ],
)
def test_another_host_port_scheme_or_path_is_another_server(url: str) -> None:
    assert ServerIdentity.of(url, None) != ServerIdentity.of("https://k8s.example.com", None)


def test_an_address_of_ipv6_keeps_its_brackets() -> None:
    assert ServerIdentity.of("https://[2001:DB8::1]:6443/", None).url == "https://[2001:db8::1]:6443"


def test_the_certificates_of_the_ca_count_and_not_the_text_around_them(tmp_path: Path) -> None:
    def identity(text: bytes) -> ServerIdentity:
        file = tmp_path / "ca.pem"
        file.write_bytes(text)
        return ServerIdentity.of("https://k8s.example.com", str(file))

    assert identity(pem(b"one", b"two")) == identity(b"# the CAs\n" + pem(b"two") + b"\n\n" + pem(b"one"))
    assert identity(pem(b"one")) != identity(pem(b"two"))


def test_a_ca_that_is_not_asked_for_does_not_count() -> None:
    assert ServerIdentity.of("http://127.0.0.1:8080", "/no/such/file").ca == NO_CA
    assert ServerIdentity.of("https://127.0.0.1:8080", "/no/such/file", verified=False).ca == NO_CA


@pytest.mark.parametrize("url", ["https://", "https://host:port"])
def test_a_url_that_leads_nowhere_has_no_identity(url: str) -> None:
    with pytest.raises(ValueError, match=r"no host|[Pp]ort"):
        ServerIdentity.of(url, None)


def test_a_second_connection_to_another_server_is_refused(tmp_path: Path) -> None:
    first = FirstServer()
    with api_server() as here, api_server() as there:
        KubeApi(here.kubeconfig(tmp_path), namespace="ml", first=first).close()
        KubeApi(here.kubeconfig(tmp_path), namespace="ml", first=first).close()
        with pytest.raises(SafetyError, match="leads to another API server") as refusal:
            KubeApi(there.kubeconfig(tmp_path), namespace="ml", first=first)
        assert refusal.value.checked == (
            f"at the beginning: {here.address} (CA: none)",
            f"now: {there.address} (CA: none)",
        )
        assert there.asked == []


def test_nothing_goes_where_the_kubeconfig_leads_later_and_that_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with api_server() as here, api_server() as there:
        here.objects["/api/v1/namespaces/ml/pods"] = {"items": []}
        api = KubeApi(here.kubeconfig(tmp_path), namespace="ml")
        api.check_server()
        there.kubeconfig(tmp_path, user="{token: stolen}")
        with pytest.raises(SafetyError, match="leads to another API server"):
            api.check_server()
        with pytest.raises(CommandFailed, match="404"):  # our server's word
            api.run("head", "ray-head", ["true"])
        now = clock.now
        monkeypatch.setattr(clock, "now", lambda: now() + access._RENEWED_EVERY + 1)
        api.pods()  # heals have to get there, with what opened the way at first
        api.close()
        assert there.asked == []
        assert {asked.token for asked in here.asked} == {"none"}


def test_a_kubeconfig_that_is_gone_leads_nowhere(tmp_path: Path) -> None:
    with api_server() as here:
        kubeconfig = here.kubeconfig(tmp_path)
        api = KubeApi(kubeconfig, namespace="ml")
        kubeconfig.unlink()
        api.check_server()
        api.close()


def test_no_fault_is_injected_once_the_kubeconfig_leads_elsewhere(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.lacking.discard("get pods/exec")
    cluster = external(settings(server, tmp_path, monkeypatch), tmp_path)
    with api_server() as there:
        there.kubeconfig(tmp_path)
        with pytest.raises(SafetyError, match="leads to another API server"):
            part(cluster, IS_EXTERNAL).admit(BUILT_IN.choose("head_failure", {"how": "stop"}).touch(), ())
        cluster.close()
        assert there.asked == []


def test_the_server_that_told_what_there_is_to_test_is_the_one_that_is_broken(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings(server, tmp_path, monkeypatch)
    KUBERNETES.adapt(given)
    with api_server() as there:
        there.objects = server.objects
        monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(there.kubeconfig(tmp_path)))
        with pytest.raises(SafetyError, match="leads to another API server"):
            KUBERNETES.start(ClusterSpec(), given, tmp_path, lambda _: None)
        assert there.asked == []
