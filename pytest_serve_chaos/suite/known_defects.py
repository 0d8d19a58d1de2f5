"""Defects of Ray that are known and open: strict expected failures, so that they fail as soon as Ray is fixed."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from pytest_serve_chaos.errors import ExpectationFailed
from pytest_serve_chaos.model import minor_version


@dataclass(frozen=True, slots=True)
class Defect:
    """One known defect.

    Attributes:
        issue: Where it is discussed.
        first, last: Versions of Ray in which it was seen (major, minor).
        seen: What is seen.
    """

    issue: str
    first: tuple[int, int]
    last: tuple[int, int]
    seen: str


DEAF_PROXIES = Defect(
    "ray#63784",
    (2, 44),
    (2, 60),
    "proxies that were alive when the controller was killed with no_restart=True never hear the new one",
)


def expected_failure(defect: Defect, ray_version: str) -> pytest.MarkDecorator:
    """The marker for a test that fails because of the defect, if the cluster's Ray has it.

    Args:
        defect: The defect.
        ray_version: The cluster's. pytest's own environment may have another Ray, or none.
    """
    present = defect.first <= minor_version(ray_version) <= defect.last
    return pytest.mark.xfail(present, reason=f"{defect.issue}: {defect.seen}", strict=True, raises=ExpectationFailed)
