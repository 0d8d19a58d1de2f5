"""What the tests on a real kind cluster need, and what they are made of; from the environment, as for the plugin."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.kind.programs import find_programs
from pytest_serve_chaos.cluster.kubernetes.kind.settings import KindSettings
from pytest_serve_chaos.errors import MissingDependency


def _missing() -> str:
    try:
        find_programs()
    except MissingDependency as error:
        return error.what
    return ""


needs_kind = pytest.mark.skipif(bool(MISSING := _missing()), reason=MISSING)


SHARED = os.environ.get("SERVE_CHAOS_TEST_CLUSTER") or None
"""The kind cluster that is kept, and taken over by one test after the other; None: each makes and deletes its own."""


def kind_settings() -> KindSettings:
    """The defaults, and what SERVE_CHAOS_... says otherwise; of a cluster with a name."""
    defaults = KindSettings()
    return KindSettings(
        name=SHARED or f"serve-chaos-test-{secrets.token_hex(3)}",
        keep=SHARED is not None,
        node_image=os.environ.get("SERVE_CHAOS_NODE_IMAGE", defaults.node_image),
        ray_image=os.environ.get("SERVE_CHAOS_RAY_IMAGE", defaults.ray_image),
        redis_image=os.environ.get("SERVE_CHAOS_REDIS_IMAGE", defaults.redis_image),
        operator_image=os.environ.get("SERVE_CHAOS_OPERATOR_IMAGE", defaults.operator_image),
        kuberay_manifests=os.environ.get("SERVE_CHAOS_KUBERAY_MANIFESTS", defaults.kuberay_manifests),
    )


@dataclass(frozen=True, slots=True)
class Given:
    """A cluster with a RayService that is there already, so that no kind cluster has to be made for these tests.

    Attributes:
        kubeconfig: Its current context leads to the external cluster.
        rayservice: ``namespace/name``.
        url: Where the app answers.
    """

    kubeconfig: Path
    rayservice: str
    url: str


def given_cluster() -> Given | None:
    """What SERVE_CHAOS_TEST_KUBECONFIG, _URL and _RAYSERVICE name, if they do."""
    kubeconfig, url = (os.environ.get(f"SERVE_CHAOS_TEST_{name}") for name in ("KUBECONFIG", "URL"))
    if not kubeconfig or not url:
        return None
    default = f"{names.NAMESPACE}/{names.RAY_SERVICE}"
    return Given(Path(kubeconfig), os.environ.get("SERVE_CHAOS_TEST_RAYSERVICE", default), url)
