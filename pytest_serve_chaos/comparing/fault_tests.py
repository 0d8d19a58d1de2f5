"""A test for each fault and each of its verbs, for comparisons that name a fault in place of a test.

It demands nothing: what is compared is what was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pytest_serve_chaos.experiment import Experiment
from pytest_serve_chaos.faults.catalogue import BUILT_IN


def _test(fault: str, verb: str) -> Callable[[Experiment], None]:
    def test(experiment: Experiment) -> None:
        experiment.measure()

    test.__name__ = test.__qualname__ = f"test_{fault}_{verb}"
    marker: pytest.MarkDecorator = getattr(pytest.mark, fault)(how=verb)
    return marker(test)


def _tests() -> Iterator[Callable[[Experiment], None]]:
    for fault in BUILT_IN:
        for verb in fault.verbs:
            yield _test(fault.name, verb)


globals().update({test.__name__: test for test in _tests()})
