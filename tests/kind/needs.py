"""What the tests on a real kind cluster need, and what they are made of; from the environment, as for the plugin."""

from __future__ import annotations

import os
import shutil

import pytest

from pytest_serve_chaos.cluster.kind_cluster import KindSettings

MISSING = [program for program in ("docker", "kind", "kubectl") if shutil.which(program) is None]

needs_kind = pytest.mark.skipif(bool(MISSING), reason=f"not on the PATH: {', '.join(MISSING)}")


def kind_settings() -> KindSettings:
    """The defaults, and what SERVE_CHAOS_... says otherwise."""
    defaults = KindSettings()
    return KindSettings(
        node_image=os.environ.get("SERVE_CHAOS_NODE_IMAGE", defaults.node_image),
        ray_image=os.environ.get("SERVE_CHAOS_RAY_IMAGE", defaults.ray_image),
        redis_image=os.environ.get("SERVE_CHAOS_REDIS_IMAGE", defaults.redis_image),
        operator_image=os.environ.get("SERVE_CHAOS_OPERATOR_IMAGE", defaults.operator_image),
        kuberay_manifests=os.environ.get("SERVE_CHAOS_KUBERAY_MANIFESTS", defaults.kuberay_manifests),
    )
