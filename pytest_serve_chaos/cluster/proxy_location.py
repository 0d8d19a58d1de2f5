"""Where Serve has proxies, as a Serve config says: on every node with replicas, on the head only, or nowhere."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.model import Json

EVERY_NODE = "EveryNode"
HEAD_ONLY = "HeadOnly"
DISABLED = "Disabled"

_LOCATIONS = (EVERY_NODE, HEAD_ONLY, DISABLED)


def check_proxy_location(config: Mapping[str, Json], where: str) -> None:
    """Refuses a Serve config with which there is nobody to send requests to.

    Serve's REST API reads `proxy_location`, and ignores `http_options.location` (Ray 2.60), so this does the same.

    Args:
        config: The Serve config.
        where: Where it comes from, for the error.

    Raises:
        SettingsError: There are no proxies, or Serve does not know the word.
    """
    location = config.get("proxy_location", EVERY_NODE)
    if location == DISABLED:
        raise no_proxies(where)
    if location not in _LOCATIONS:
        raise SettingsError(
            f"proxy_location is {location!r}, which Serve does not know",
            checked=[where],
            fix=[f"write one of {', '.join(_LOCATIONS[:2])}"],
        )


def no_proxies(where: str) -> SettingsError:
    """That Serve has no proxies there, so that no request over HTTP reaches an app."""
    return SettingsError(
        f"proxy_location is {DISABLED}, so Serve has no proxies, and no request reaches the app",
        checked=[where],
        fix=[
            f"write proxy_location: {EVERY_NODE} into the Serve config, or {HEAD_ONLY}",
            "or leave it out: Serve's default is EveryNode",
        ],
    )
