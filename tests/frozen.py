"""What a freeze for a moment must keep, on any backend: each role with the marker of its fault."""

from __future__ import annotations

import pytest

FOR = "5s"
"""Less than three health checks of Serve, and than the 30 s after which Ray calls a node dead (profile `fast`)."""

FROZEN = [
    pytest.param("worker", marks=pytest.mark.worker_failure(how="freeze", for_=FOR)),
    pytest.param("head", marks=pytest.mark.head_failure(how="freeze", for_=FOR)),
    pytest.param("controller", marks=pytest.mark.controller_failure(how="freeze", for_=FOR)),
    pytest.param("replica", marks=pytest.mark.replica_failure(how="freeze", for_=FOR)),
    pytest.param("proxy", marks=pytest.mark.proxy_failure(how="freeze", for_=FOR)),
    pytest.param("gcs", marks=pytest.mark.gcs_failure(how="freeze", for_=FOR)),
    pytest.param("redis", marks=pytest.mark.redis_failure(how="freeze", for_=FOR)),
]
