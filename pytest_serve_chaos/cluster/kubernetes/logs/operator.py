"""KubeRay's operator: where its manifests come from, and what it complains about."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from pytest_serve_chaos.cluster.http_client import download
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.errors import ClusterStartError, CommandFailed, ObservationError, SettingsError
from pytest_serve_chaos.json_text import read_json
from pytest_serve_chaos.masking import masked, with_masked_urls

SELECTOR = "app.kubernetes.io/component=kuberay-operator"
_DOWNLOAD_TIMEOUT = 60.0
_MOST_ERRORS = 3

_NEEDED: Mapping[str, str] = MappingProxyType(
    {
        "the CustomResourceDefinition rayservices.ray.io": r"""^ *name: ["']?rayservices\.ray\.io["']?\s*$""",
        "a Deployment of the operator": r"""^kind: ["']?Deployment["']?\s*$""",
    }
)
"""What the operator's manifests must have, and how it is found without reading megabytes of them as YAML."""


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
            return download(source, timeout=_DOWNLOAD_TIMEOUT)
        return kustomize(source)
    except (OSError, UnicodeDecodeError) as error:
        what = f"KubeRay's manifests cannot be read: {with_masked_urls(str(error))}"
        raise ClusterStartError(what, checked=[masked(source)]) from error
    except CommandFailed as error:
        what = f"KubeRay's manifests cannot be read: {error.what}"
        raise ClusterStartError(
            what, checked=[masked(source), *map(with_masked_urls, error.checked)], fix=error.fix
        ) from error


def check_manifests(text: str, source: str) -> None:
    """Looks whether manifests can be those of KubeRay's operator.

    Args:
        text: What `read_manifests` gave.
        source: Where it comes from.

    Raises:
        SettingsError: They lack what every RayService needs.
    """
    lacking = [what for what, pattern in _NEEDED.items() if not re.search(pattern, text, re.MULTILINE)]
    if lacking:
        raise SettingsError(
            f"the manifests of KubeRay's operator lack {' and '.join(lacking)}",
            checked=[masked(source), f"they begin: {text.strip()[:80]!r}"],
            fix=[
                "give --serve-chaos-kuberay-manifests all that `kubectl create -k` takes, with its CRDs",
                "or, for a chart, the output of `helm template --include-crds`",
            ],
        )


def _read_directory(path: Path, kustomize: Callable[[str], str]) -> str:
    if any((path / name).is_file() for name in ("kustomization.yaml", "kustomization.yml", "Kustomization")):
        return kustomize(str(path))
    files = sorted([*path.glob("*.yaml"), *path.glob("*.yml")])
    if not files:
        raise ClusterStartError("KubeRay's manifests are not there", checked=[f"{path}: no YAML file in it"])
    return "\n---\n".join(file.read_text(encoding="utf-8") for file in files)


def operator_errors(api: KubeApi, namespace: str) -> Sequence[str]:
    """The last different errors in the operator's log: some appear nowhere else, a broken Serve config for one."""
    try:
        lines = [
            line
            for pod in api.pods(SELECTOR, namespace=namespace)
            for line in api.pod_logs.tail(pod.name, namespace=namespace, lines=300)
        ]
    except ObservationError as error:
        return [str(error)]
    errors = dict.fromkeys(filter(None, map(_error_of, reversed(lines))))
    return list(reversed(list(errors)[:_MOST_ERRORS]))


def _error_of(line: str) -> str | None:
    try:
        record = read_json(line)
    except ValueError:
        return None
    if not isinstance(record, dict) or record.get("level") != "error":
        return None
    return f"operator: {record.get('msg', '')}: {str(record.get('error', ''))[:300]}"
