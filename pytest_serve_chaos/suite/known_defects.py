"""Defects of Ray that are known and open: strict expected failures, so that they fail as soon as Ray is fixed."""

from __future__ import annotations

import pytest

from pytest_serve_chaos.analysis.known_defects import STALE_PROXIES, Defect
from pytest_serve_chaos.errors import ExpectationFailed
from pytest_serve_chaos.model import minor_version

__all__ = ["STALE_PROXIES", "expected_failure"]


def expected_failure(defect: Defect, ray_version: str) -> pytest.MarkDecorator:
    """The marker for a test that fails because of the defect, if the cluster's Ray has it.

    Args:
        defect: The defect.
        ray_version: The cluster's. pytest's own environment may have another Ray, or none.
    """
    present = defect.may_have(minor_version(ray_version))
    return pytest.mark.xfail(present, reason=f"{defect.issue}: {defect.seen}", strict=True, raises=ExpectationFailed)
