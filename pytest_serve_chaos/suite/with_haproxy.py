"""What a fault costs more with HAProxy, where a new HAProxy starts on a node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_serve_chaos.cluster.capabilities import HAS_PROXY_ENDPOINTS

if TYPE_CHECKING:
    from pytest_serve_chaos.handle import ServeCluster

_AVAILABILITY = 0.97
"""One that has just started answers 404 until it knows the apps, for half a second or more, and gets its share of the
connections meanwhile (`docs/ray-and-kubernetes.md`)."""


def where_it_starts(cluster: ServeCluster) -> dict[str, object]:
    """The demands on a fault after which a HAProxy starts; none where it costs nothing more.

    A Service sends nothing to a HAProxy that does not know the apps yet.
    """
    behind_a_service = cluster.backend.capability(HAS_PROXY_ENDPOINTS) is not None
    starts = cluster.description.ingress == "haproxy" and not behind_a_service
    return {"availability": _AVAILABILITY} if starts else {}
