"""What is expected after each fault unless the user says otherwise: who is replaced, who is kept, and figures."""

from __future__ import annotations

from dataclasses import replace

from pytest_serve_chaos.cluster.base import ClusterSpec, Profile
from pytest_serve_chaos.cluster.profiles import timing
from pytest_serve_chaos.model import HEAD, Expectations, How

_ALL = ("head", "gcs", "worker", "controller", "proxy", "replica")
_ALL_BUT_FROZEN_ACTORS = ("head", "gcs", "worker", "controller", "proxy@others", "replica@others")
_MEASURED = Expectations(availability=None, longest_outage=None, traffic_back=None, redundancy_back=None, settled=False)

TABLE: dict[str, Expectations] = {
    "head_failure": Expectations(
        replaced=("head", "gcs", "controller", "proxy@head"),
        kept=("worker", "replica@workers", "proxy@workers"),
    ),
    "worker_failure": Expectations(
        availability=0.98,
        longest_outage=5.0,
        replaced=("worker@victims", "replica@victims"),
        kept=("head", "gcs", "controller", "replica@others"),
    ),
    "node_failure": Expectations(
        availability=0.98,
        longest_outage=5.0,
        replaced=("worker@victims", "replica@victims"),
        kept=("head", "gcs", "controller", "replica@others"),
    ),
    "controller_failure": Expectations(replaced=("controller",), kept=("head", "gcs", "replica", "proxy")),
    "replica_failure": Expectations(
        replaced=("replica@victims",), kept=("head", "gcs", "controller", "proxy", "replica@others")
    ),
    "proxy_failure": Expectations(
        replaced=("proxy@victims",), kept=("head", "gcs", "controller", "replica", "proxy@others")
    ),
    "gcs_failure": Expectations(
        replaced=("head", "gcs", "controller", "proxy@head"),
        kept=("worker", "replica@workers", "proxy@workers"),
    ),
    "redis_failure": _MEASURED,
    "health_check_failure": Expectations(
        replaced=("replica@victims",), kept=("head", "gcs", "controller", "proxy", "replica@others")
    ),
    # From the change of the spec on: a new cluster starts and takes over, and the old one goes, all at no cost.
    "rayservice_upgrade": Expectations(
        window=120.0, lost_beyond_in_flight=0, traffic_back=240.0, redundancy_back=240.0, replaced=_ALL
    ),
}


_FAILURES = 3
"""Failed health checks in a row after which Serve replaces a replica or a proxy; ray/serve/_private/constants.py."""


def _sick_after(profile: Profile) -> float:
    """Seconds of a freeze after which Serve may replace what is in it: each health check fails by its timeout.

    Measured on kind with the profile ``fast``: after a machine was paused for 20 s, its proxy and its three replicas
    were replaced.
    """
    return _FAILURES * timing(profile).health_check_timeout


def expectations_for(
    kind: str, how: How, spec: ClusterSpec, *, which: str = "", freeze_for: float = 0.0
) -> Expectations:
    """The expectations of a fault.

    Args:
        kind: The marker's name.
        how: What is done to the target.
        spec: On which cluster: without GCS fault tolerance nothing is promised to be kept when the head goes; the
            figures that are demanded stay.
        which: Which node the marker names: the machine under the ``head`` takes the head with it.
        freeze_for: Seconds of a freeze, during which the frozen part is away; see `_sick_after` for what that may cost.
    """
    if how == "freeze":
        kept = _ALL if freeze_for < _sick_after(spec.profile) else _ALL_BUT_FROZEN_ACTORS
        return replace(
            _MEASURED, kept=kept, traffic_back=freeze_for + 30.0, redundancy_back=freeze_for + 60.0, settled=True
        )
    if which == HEAD:
        kind = "head_failure"
    expected = TABLE[kind]
    if kind in ("head_failure", "gcs_failure") and spec.gcs == "none":
        expected = replace(expected, kept=())
    if spec.profile == "guide" and expected.redundancy_back is not None:
        expected = replace(expected, redundancy_back=300.0)
    return expected
