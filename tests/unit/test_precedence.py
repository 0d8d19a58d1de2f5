from __future__ import annotations

from pathlib import Path

import pytest

from pytest_serve_chaos.traffic import precedence


@pytest.mark.parametrize(("before", "during"), [("0", "-10"), ("5", "-10"), ("-15", "-15")])
def test_a_session_goes_first_and_is_then_as_before(
    before: str, during: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "autogroup"
    file.write_text(f"/autogroup-77 nice {before}\n")
    monkeypatch.setattr(precedence, "_AUTOGROUP", file)
    give_back = precedence.take_precedence()
    assert file.read_text() == during
    give_back()
    assert file.read_text() == before


@pytest.mark.parametrize("content", [None, "", "no such thing"])
def test_without_autogroups_nothing_happens(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "autogroup"
    if content is not None:
        file.write_text(content)
    monkeypatch.setattr(precedence, "_AUTOGROUP", file)
    precedence.take_precedence()()
    assert (file.read_text() if file.exists() else None) == content
