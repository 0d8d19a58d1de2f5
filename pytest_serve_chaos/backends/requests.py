"""The request by which a backend looks whether an app answers: the same as those of the traffic."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_serve_chaos.cluster.kubernetes.rayservice.probe import Probe
    from pytest_serve_chaos.settings import Settings


def probe_of(settings: Settings) -> Probe:
    """The request that the settings describe."""
    from pytest_serve_chaos.cluster.kubernetes.rayservice.probe import Probe

    body = None if settings.body is None else settings.body.encode()
    return Probe(settings.method, dict(settings.headers), body, settings.request_timeout)
