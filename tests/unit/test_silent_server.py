"""An API server that accepts connections and says nothing is given up, also by what runs programs in pods."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_serve_chaos.cluster.kubernetes.client import connection
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.errors import CommandFailed


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server like one on a paused machine: the kernel accepts for it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_program_is_given_up_that_cannot_be_started(
    scheme: str, silent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "TIMEOUT", 0.3)
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\n"
        "contexts: [{name: test, context: {cluster: test, user: test}}]\n"
        f'clusters: [{{name: test, cluster: {{server: "{scheme}://{silent}", insecure-skip-tls-verify: true}}}}]\n'
        "users: [{name: test, user: {token: none}}]\n"
    )
    began = time.monotonic()
    with pytest.raises(CommandFailed, match="a program could not be run in pod a"):
        KubeApi(kubeconfig, namespace="ml").run("a", "c", ["true"])
    assert time.monotonic() - began < 10
