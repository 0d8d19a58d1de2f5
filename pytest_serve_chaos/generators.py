"""The generator of one traffic on a cluster: fresh connections, and a persistent one to each proxy."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_serve_chaos.cluster.asking import Way
from pytest_serve_chaos.cluster.capabilities import HAS_PROXY_ENDPOINTS, HasProxyEndpoints
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.model import Component

if TYPE_CHECKING:
    from pytest_serve_chaos.load import Load
    from pytest_serve_chaos.traffic.generator import Generator
    from pytest_serve_chaos.traffic.kept import KeptLane
    from pytest_serve_chaos.traffic.request import RequestSpec


def generator_for(rig: Rig, load: Load, source: str, way: Way) -> Generator:
    """The generator of one traffic.

    Args:
        rig: The cluster to which it sends.
        load: What it sends.
        source: The name under which its requests are recorded.
        way: Where they go, and what they say there.

    Raises:
        SettingsError: Something of it must not be sent to a proxy alone.
    """
    from pytest_serve_chaos.traffic.generator import Generator
    from pytest_serve_chaos.traffic.kept import Persistent, SharedAddress
    from pytest_serve_chaos.traffic.request import RequestSpec
    from pytest_serve_chaos.traffic.sending import Sending
    from pytest_serve_chaos.traffic.transports.http import Http

    spec = RequestSpec(way.url, timeout=load.timeout, check=load.check)
    generator = partial(
        Generator,
        Sending.of(spec, load.transport or Http(), way.messages),
        rate=load.schedule,
        # Two apps of one run do not get their requests at the same moments.
        seed=f"{load.seed} {urlsplit(way.url).path}",
        history=rig.history,
        source=source,
    )
    if not load.persistent_rate:
        return generator()

    endpoints = rig.cluster.capability(HAS_PROXY_ENDPOINTS)
    if endpoints is not None:
        lanes = [_lane(rig, endpoints, proxy, spec, way) for proxy in rig.watcher.sample().of("proxy")]
        return generator(persistent=Persistent(load.persistent_rate, lanes))

    def name_of(client: tuple[str, int]) -> str | None:
        identity = rig.cluster.proxy_of(client)
        component = None if identity is None else rig.watcher.topology.find(identity)
        return None if component is None else component.name

    proxies = tuple(c.name for c in rig.watcher.sample().of("proxy"))

    def stays(name: str) -> bool:
        """Whether it is HAProxy, which ends its connections when it is reloaded."""
        return any(c.name == name and c.serving is not None for c in rig.watcher.topology.of("proxy"))

    shared = SharedAddress(proxies, name_of, stays)
    return generator(persistent=Persistent(load.persistent_rate, shared=shared))


def _lane(rig: Rig, endpoints: HasProxyEndpoints, proxy: Component, spec: RequestSpec, way: Way) -> KeptLane:
    from pytest_serve_chaos.traffic.kept import KeptLane

    def spec_of() -> RequestSpec | None:
        """What leads to the proxy that goes by that name now: its pod may be another one."""
        there = [c for c in rig.watcher.topology.of("proxy") if c.name == proxy.name]
        # If there is also one that is about to go, the newer comes last.
        return _way_to(endpoints, there[-1], spec) if there else None

    first = _way_to(endpoints, proxy, spec)
    for message in way.at_proxy.one_of_each_kind:
        first.url_of(message)  # refuses, before anything is sent, what must not be sent there
    return KeptLane(proxy.name, first, spec_of, way.at_proxy)


def _way_to(endpoints: HasProxyEndpoints, proxy: Component, spec: RequestSpec) -> RequestSpec:
    way = endpoints.proxy_endpoint(proxy)
    headers = {**spec.headers, **way.headers}
    return replace(spec, url=way.url, headers=headers, ssl_context=way.ssl_context, permit=way.permit)
