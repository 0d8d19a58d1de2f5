"""The requests by which a backend looks whether apps answer: the same as those of the traffic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_serve_chaos.cluster.base import ClusterSpec
    from pytest_serve_chaos.cluster.kubernetes.rayservice.probe import Probe
    from pytest_serve_chaos.model import Json
    from pytest_serve_chaos.settings import Settings


def probe_of(settings: Settings) -> Probe:
    """The request that the settings describe."""
    from pytest_serve_chaos.cluster.kubernetes.rayservice.probe import Probe

    body = None if settings.body is None else settings.body.encode()
    return Probe(
        settings.method,
        dict(settings.headers),
        body,
        settings.request_timeout,
        path=settings.path,
        kinds=settings.request_kinds,
        seed=settings.seed,
    )


def check_requests(settings: Settings, config: Mapping[str, Json]) -> None:
    """Checks, before there is a cluster, that the requests of the settings find the apps of a Serve config.

    Raises:
        SettingsError: One is for an app, or a path, that the config does not have.
    """
    from pytest_serve_chaos.cluster.asking import way_to

    way_to(probe_of(settings).asking, config, home="http://127.0.0.1/", url=settings.url)


def check_requests_of(settings: Settings, spec: ClusterSpec) -> None:
    """The same for the config that a cluster of that spec runs."""
    from pytest_serve_chaos.cluster.serve_config import serve_config

    check_requests(settings, serve_config(spec))
