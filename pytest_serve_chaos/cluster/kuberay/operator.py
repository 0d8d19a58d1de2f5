"""KubeRay's operator: where its manifests come from, and what it complains about."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from pytest_serve_chaos.cluster.kuberay.api import KubeApi
from pytest_serve_chaos.errors import ClusterStartError, ObservationError

SELECTOR = "app.kubernetes.io/component=kuberay-operator"
_DOWNLOAD_TIMEOUT = 60.0
_MOST_ERRORS = 3


def read_manifests(source: str, kustomize: Callable[[str], str]) -> str:
    """KubeRay's manifests as one text.

    Args:
        source: A file, a directory (of YAML files, or a kustomization), the URL of a YAML file, or what
            `kubectl kustomize` takes: ``github.com/ray-project/kuberay/ray-operator/config/default?ref=v1.6.2``.
        kustomize: Renders a kustomization, given by its directory or address.

    Raises:
        ClusterStartError: They cannot be read.
    """
    path = Path(source)
    try:
        if path.is_file():
            return path.read_text(encoding="utf-8")
        if path.is_dir():
            return _read_directory(path, kustomize)
        if source.startswith(("http://", "https://")) and source.endswith((".yaml", ".yml")):
            with urllib.request.urlopen(source, timeout=_DOWNLOAD_TIMEOUT) as answer:
                return str(answer.read(), "utf-8")
    except OSError as error:
        raise ClusterStartError(f"KubeRay's manifests cannot be read: {error}", looked_at=[source]) from error
    return kustomize(source)


def _read_directory(path: Path, kustomize: Callable[[str], str]) -> str:
    if any((path / name).is_file() for name in ("kustomization.yaml", "kustomization.yml", "Kustomization")):
        return kustomize(str(path))
    files = sorted([*path.glob("*.yaml"), *path.glob("*.yml")])
    if not files:
        raise ClusterStartError("KubeRay's manifests are not there", looked_at=[f"{path}: no YAML file in it"])
    return "\n---\n".join(file.read_text(encoding="utf-8") for file in files)


def operator_errors(api: KubeApi, namespace: str) -> Sequence[str]:
    """The last different errors in the operator's log: some appear nowhere else, a broken Serve config for one."""
    try:
        lines = [
            line
            for pod in api.pods(SELECTOR, namespace=namespace)
            for line in api.log(pod.name, namespace=namespace, tail=300)
        ]
    except ObservationError as error:
        return [str(error)]
    errors = dict.fromkeys(filter(None, map(_error_of, reversed(lines))))
    return list(reversed(list(errors)[:_MOST_ERRORS]))


def _error_of(line: str) -> str | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict) or record.get("level") != "error":
        return None
    return f"operator: {record.get('msg', '')}: {str(record.get('error', ''))[:300]}"
