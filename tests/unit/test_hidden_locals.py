"""Tracebacks show the variables of tests, and none of the plugin's functions or of what they call."""

from __future__ import annotations

import pytest

from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.session.hidden_locals import HiddenLocals, hide_locals
from pytest_serve_chaos.traffic.request import RequestSpec

SECRET = "s3cr3t"
ELSEWHERE = "".join(("ftp://me:", SECRET, "@host/"))


def raised(*, chained: bool = False) -> pytest.ExceptionInfo[Exception]:
    """What a test shows that gives the plugin a URL with a password."""
    mine = "a variable of a test"
    assert mine
    with pytest.raises(Exception, match="has no host" if not chained else "what follows") as found:
        go_wrong(chained=chained)
    return found


def go_wrong(*, chained: bool) -> None:
    try:
        RequestSpec(ELSEWHERE)
    except SettingsError as error:
        if chained:
            raise RuntimeError("what follows") from error
        raise


@pytest.mark.parametrize("chained", [False, True])
@pytest.mark.parametrize("style", ["long", "short"])
def test_only_variables_of_tests_are_shown(style: str, chained: bool) -> None:
    shown = raised(chained=chained).getrepr(showlocals=True, funcargs=True, style=style)  # type: ignore[arg-type]
    assert f"me:{SECRET}@host" in str(shown), "the variables of the plugin are shown without it"
    hide_locals(shown)
    assert f"me:{SECRET}@host" not in str(shown)
    assert "'a variable of a test'" in str(shown)


def test_so_it_is_for_an_error_in_a_plugin() -> None:
    shown = raised().getrepr(showlocals=True, funcargs=True, style="long")
    HiddenLocals().pytest_internalerror(shown)
    assert f"me:{SECRET}@host" not in str(shown)


@pytest.mark.parametrize("shown", [None, "text", ("file", 1, "Skipped: because")])
def test_what_has_no_variables_stays(shown: object) -> None:
    hide_locals(shown)
