"""What an address that Ray takes for a Redis leads to: one Redis, a Sentinel or a Redis Cluster; and how TLS is spoken.

Pods, and what a file says of them, show it by their commands, ports, labels and configuration; a Redis says it itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

from pytest_serve_chaos.cluster.kubernetes.client.records import inner, listed, mapped, text
from pytest_serve_chaos.model import Json

RedisMode: TypeAlias = Literal["", "standalone", "sentinel", "cluster"]
"""As `redis_mode` of Redis' INFO; "" where it is not known."""

REDIS_PORT = 6379
SENTINEL_PORT = 26379
_SERVER = re.compile(r"\b(redis|valkey|keydb)-server\b")
_SENTINEL = re.compile(r"--sentinel\b|\b(redis|valkey|keydb)-sentinel\s+\S+\.conf\b")
_PERHAPS_SENTINEL = re.compile(r"\b(redis|valkey|keydb)-sentinel\b|\bsentinel[\w.-]*\.(conf|sh)\b")
"""In a command line that starts no server: with one, it may be only the name of the host that a script asks."""
_CLUSTER = re.compile(r"""--cluster-enabled[\s=]+["']?yes\b""")
_DIRECTIVES: tuple[tuple[re.Pattern[str], RedisMode], ...] = (
    (re.compile(r"^\s*sentinel\s+monitor\b", re.M), "sentinel"),
    (re.compile(r"""^\s*cluster-enabled\s+["']?yes\b""", re.M), "cluster"),
)
_CLUSTER_VARIABLES = ("REDIS_CLUSTER_ENABLED", "REDIS_CLUSTER_REPLICAS", "REDIS_NODES", "VALKEY_NODES")
_LABELS = {
    "app.kubernetes.io/name": r"(?:redis|valkey)-(sentinel|cluster)",
    "app.kubernetes.io/component": r"(sentinel)",
    "helm.sh/chart": r"(?:redis|valkey)-(cluster)-\d.*",
    "redis_setup_type": r"(sentinel|cluster)",
}
"""Labels that the well-known charts and operators give to such pods."""

_MODE = re.compile(r"^(?:redis|server)_mode:(standalone|sentinel|cluster)\s*$", re.M)
_TLS = {
    "--cacert": ("tls-ca-cert-file", ("REDIS_TLS_CA_FILE", "VALKEY_TLS_CA_FILE")),
    "--cert": ("tls-cert-file", ("REDIS_TLS_CERT_FILE", "VALKEY_TLS_CERT_FILE")),
    "--key": ("tls-key-file", ("REDIS_TLS_KEY_FILE", "VALKEY_TLS_KEY_FILE")),
}
"""An option of redis-cli -> the directive, and the variables of images, that name the same file for the server."""


def mode_of_pod(
    pod: Mapping[str, Json], labels: Mapping[str, Json], port: int, configs: Mapping[str, str] | None = None
) -> tuple[RedisMode, str]:
    """What listens on a port of a pod, and what shows it; ("", "") where nothing does.

    Args:
        pod: The pod's spec, or that of a template.
        labels: Its labels.
        port: The port in the container.
        configs: The files that are mounted, name -> text, where they are known.
    """
    containers = listed(pod.get("containers"))
    listener = listening(containers, port)
    name = text(listener, "name")
    if port == SENTINEL_PORT:
        return "sentinel", f"its port is {SENTINEL_PORT}"
    said = "\n".join(_words(listener))
    sentinel = _SENTINEL.search(said) or (None if _SERVER.search(said) else _PERHAPS_SENTINEL.search(said))
    for shown, mode in ((sentinel, "sentinel"), (_CLUSTER.search(said), "cluster")):
        if shown is not None:
            return mode, f"its container {name} has {' '.join(shown[0].split())}"  # type: ignore[return-value]
    for variable in listed(listener.get("env")):
        if text(variable, "name") in _CLUSTER_VARIABLES and text(variable, "value") not in ("no", "false", "0"):
            return "cluster", f"its container {name} has {text(variable, 'name')}"
    for config in _read_by(said, configs or {}):
        for directive, of_file in _DIRECTIVES:
            shown = directive.search(config)
            if shown:
                return of_file, f"its configuration has {' '.join(shown[0].split())}"
    return _by_labels(labels)


def mode_of_info(info: str) -> RedisMode:
    """What a Redis says of itself in INFO; "" where it says nothing."""
    found = _MODE.search(info.replace("\r", ""))
    return found[1] if found else ""  # type: ignore[return-value]


def tls_arguments(pod: Mapping[str, Json], port: int, configs: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The options with which redis-cli speaks TLS in the container that listens on a port.

    Unless `tls-auth-clients` says no, Redis asks a client for its certificate; its own is there, of the same authority.
    """
    container = listening(listed(pod.get("containers")), port)
    variables = {text(v, "name"): text(v, "value") for v in listed(container.get("env"))}
    words = " ".join(_words(container))
    said = "\n".join([words, *_read_by(words, configs or {})])
    files: dict[str, str] = {}
    for option, (directive, names) in _TLS.items():
        found = re.search(rf"(?:^|\s)(?:--)?{directive}[\s=]+[\"']?([^\s\"']+)", said, re.M)
        path = found[1] if found else next((variables[n] for n in names if variables.get(n)), "")
        if path and not path.startswith("$"):
            files[option] = path
    if "--cert" not in files or "--key" not in files:
        files = {option: path for option, path in files.items() if option == "--cacert"}
    trust = () if "--cacert" in files else ("--insecure",)
    return ("--tls", *trust, *(word for pair in files.items() for word in pair))


def listening(containers: Sequence[dict[str, Json]], port: int) -> dict[str, Json]:
    """The container that has the port; the first where none names it."""
    for container in containers:
        if any(row.get("containerPort") == port for row in listed(container.get("ports"))):
            return container
    return next(iter(containers), {})


def _words(container: Mapping[str, Json]) -> Iterator[str]:
    """Its command line, whose words a directive and its value may be, and its image."""
    given = [container.get(key) for key in ("command", "args")]
    yield " ".join(str(word) for words in given if isinstance(words, list) for word in words)
    yield text(container, "image").rpartition("/")[2]


def _read_by(said: str, configs: Mapping[str, str]) -> list[str]:
    """The files that a command line names; all where it names none of them: a script may."""
    named = {path.rpartition("/")[2] for path in re.findall(r"[\w./-]+\.conf\b", said)}
    return [config for name, config in configs.items() if name in named or not named & configs.keys()]


def _by_labels(labels: Mapping[str, Json]) -> tuple[RedisMode, str]:
    for label, pattern in _LABELS.items():
        found = re.fullmatch(pattern, str(labels.get(label, "")))
        if found:
            return found[1], f"its label is {label}: {labels[label]}"  # type: ignore[return-value]
    return "", ""


def pods_mode(pods: Sequence[Mapping[str, Json]], port: int) -> RedisMode:
    """What the pods behind a Service are, as far as they, or its port, show it."""
    if port == SENTINEL_PORT:
        return "sentinel"
    for pod in pods:
        mode, _ = mode_of_pod(mapped(pod.get("spec")), inner(pod, "metadata", "labels"), port)
        if mode:
            return mode
    return ""
