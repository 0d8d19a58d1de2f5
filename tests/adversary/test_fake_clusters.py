"""The same properties where the whole plugin runs, on fake clusters that are broken in some way."""

from __future__ import annotations

import os

import pytest

from pytest_serve_chaos import restore
from tests.adversary.fakes import Broken, drawn
from tests.adversary.many import ASKED, SEED
from tests.plugin.conftest import RunChaos, no_other_plugins, run_chaos

__all__ = ["no_other_plugins", "run_chaos"]

_FEW = 12
_MANY = 60


def _drawn() -> list[Broken]:
    return list(drawn(_MANY if os.environ.get(ASKED) else _FEW, int(os.environ.get(SEED, "1"))))


@pytest.mark.parametrize("broken", _drawn(), ids=repr)
def test_the_verdict_is_true(run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch, broken: Broken) -> None:
    if broken.aftermath != "all is back":  # nobody waits for long for what does not come
        monkeypatch.setattr(restore, "SHAPE_WITHIN", 1.0)
    ran = run_chaos(broken.source, behaviour=broken.behaviour, cluster=broken.cluster)

    outcomes = set(ran.result.parseoutcomes())
    assert outcomes <= {"passed", "failed", "inconclusive"}, ran.text
    if broken.never_passed:
        assert outcomes != {"passed"}, ran.text
    if broken.never_failed:
        assert outcomes != {"failed"}, ran.text
    if not broken.harmless:
        assert outcomes == {"failed" if broken.never_passed else "passed"}, ran.text
