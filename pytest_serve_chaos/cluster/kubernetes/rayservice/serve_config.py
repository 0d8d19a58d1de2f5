"""The Serve config that a RayService runs, and how it is changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.serve_config import serve_config_text
from pytest_serve_chaos.model import Json


class RunningConfig:
    """A Serve config that runs.

    Args:
        config: The config.
        apply: What makes another one run.
    """

    def __init__(self, config: Mapping[str, Json], apply: Callable[[Mapping[str, Json]], None]) -> None:
        self._config = dict(config)
        self._apply = apply

    @property
    def now(self) -> dict[str, Json]:
        """The config that should run now."""
        return dict(self._config)

    def change(self, config: Mapping[str, Json]) -> None:
        """Makes another config run. Raises what its way of applying it raises; then it is not changed."""
        self._apply(config)
        self._config = dict(config)


def config_of_ray_service(api: KubeApi, ray_service: str, config: Mapping[str, Json]) -> RunningConfig:
    """That of a RayService of our own: its `serveConfigV2`, which KubeRay hands to Serve within some 2 s."""

    def apply(wanted: Mapping[str, Json]) -> None:
        api.patch_ray_service(ray_service, {"spec": {"serveConfigV2": serve_config_text(wanted)}})

    return RunningConfig(config, apply)
