"""The key of a kubeconfig is in no file: a run that is killed would leave it."""

from __future__ import annotations

import base64
import contextlib
import tempfile
from pathlib import Path

import pytest

from pytest_serve_chaos.cluster.kubernetes.client.connection import KubeConnection
from pytest_serve_chaos.cluster.kubernetes.client.key_files import file_in_memory

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: c
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
clusters: [{{name: c, cluster: {{server: "https://127.0.0.1:9", certificate-authority-data: {ca}}}}}]
users: [{{name: u, user: {{client-certificate-data: {certificate}, client-key-data: {key}}}}}]
"""


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_the_client_writes_no_key_into_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    file = tmp_path / "kubeconfig"
    file.write_text(
        KUBECONFIG.format(ca=encoded("their ca"), certificate=encoded("their certificate"), key=encoded("their key"))
    )
    with contextlib.suppress(Exception):  # they are not real
        KubeConnection(file, context="c", namespace="ml", permit=None).close()
    assert list(temporary.iterdir()) == []


def test_what_is_in_memory_can_be_read_again_and_again() -> None:
    path = file_in_memory("a key")
    assert [Path(path).read_text() for _ in range(2)] == ["a key", "a key"]
    assert file_in_memory(b"a key", force_recreate=True) == path
    assert file_in_memory("another key") != path
